//! A bound on the memory of what ONNX Runtime does, for what no file declares: the shapes between input and output.
//!
//! Two kilobytes of ONNX can ask for terabytes (a convolution with pads of a million), and nobody knows before the run.
//! So the system counts: while a session is compiled or runs, the process's soft limit on its data segment
//! (`RLIMIT_DATA`: every private writable page, by what is mapped and not by what is touched) stands at what is in use,
//! plus what is allowed. An allocation above it fails, ONNX Runtime reports that, and the limit is put back.
//!
//! - **What is allowed**: [`pellucid_guard::Budget::memory`] and [`BASE`]; while compiling also [`COPIES`] times the weights, which
//!   the runtime maps, lays out anew and folds, and a stack for each thread that it starts.
//! - **It belongs to the process**, since the limit does: a run's allowance is there for all threads, and runs at the same
//!   time add up. Only the soft limit moves, never above what it was; the last run to end puts it back. A child that
//!   another thread starts meanwhile inherits it.
//! - **Rust code** of other threads allocates under it too, and would abort if that failed. A program avoids this with
//!   [`Heap`], as the command does: what Rust asks for then moves the limit instead. Elsewhere [`BASE`] is what keeps it
//!   from happening.
//! - **Cost**: about ten microseconds a run, two system calls and a line of `/proc`.
//! - **Off** where the budget's memory is `u64::MAX`, on any system but Linux, and on accelerators, whose drivers map
//!   memory that says nothing about the model.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;

/// Bytes beside [`pellucid_guard::Budget::memory`]: for what the runtime keeps beside values (thread pools, packed operands, blocks
/// that an arena rounds up) and what other threads allocate meanwhile.
pub(crate) const BASE: u64 = 128 << 20;

/// How often the runtime holds weights while it compiles: as mapped, converted, fused and packed.
const COPIES: u64 = 4;

/// Runs under way, and the limit before the first of them.
struct Bound {
    runs: usize,
    allowed: u64,
    before: Option<limit::Soft>,
}

static BOUND: Mutex<Bound> = Mutex::new(Bound { runs: 0, allowed: 0, before: None });

/// What is allowed to a run on a budget of `memory` bytes; `None` where that bounds nothing.
pub(crate) fn for_run(memory: u64) -> Option<u64> {
    (memory != u64::MAX).then(|| memory.saturating_add(BASE))
}

/// What is allowed to compiling a model with so many bytes of weights for so many threads.
pub(crate) fn for_compiling(memory: u64, weights: u64, threads: usize) -> Option<u64> {
    let stacks = limit::stack().saturating_mul(threads as u64);
    for_run(memory).map(|run| run.saturating_add(stacks).saturating_add(weights.saturating_mul(COPIES)))
}

/// Holds the bound until it is dropped.
#[derive(Debug)]
pub(crate) struct Bounded {
    allowed: Option<u64>,
}

impl Bounded {
    /// Allows so many bytes more than are in use now; `None` bounds nothing.
    pub(crate) fn by(allowed: Option<u64>) -> Self {
        let Some(allowed) = allowed else { return Self { allowed: None } };
        let mut bound = lock();
        let Some(used) = limit::in_use() else { return Self { allowed: None } };
        if bound.runs == 0 {
            bound.before = limit::soft();
        }
        bound.runs += 1;
        bound.allowed = bound.allowed.saturating_add(allowed);
        if let Some(before) = bound.before {
            limit::set(before.at_most(used.saturating_add(bound.allowed)));
        }
        Self { allowed: Some(allowed) }
    }

    /// Whether `bytes` can be allocated here now.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let (Some(_), Some(used), Some(soft)) = (self.allowed, limit::in_use(), limit::soft()) else { return true };
        soft.admits(used.saturating_add(bytes))
    }

    /// Whether anything is bounded.
    pub(crate) fn is_on(&self) -> bool {
        self.allowed.is_some()
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        let Some(allowed) = self.allowed else { return };
        let mut bound = lock();
        bound.runs -= 1;
        bound.allowed = bound.allowed.saturating_sub(allowed);
        // While others run the limit stays: it allows for what they have still to take.
        if bound.runs == 0
            && let Some(before) = bound.before.take()
        {
            limit::set(before);
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Bound> {
    BOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The system's allocator for programs that run models under a bound: what Rust code asks for and the bound would refuse
/// moves the bound, so that only ONNX Runtime meets it.
///
/// ```
/// #[global_allocator]
/// static HEAP: pellucid_runtime::Heap = pellucid_runtime::Heap;
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Heap;

/// Room that a refused allocation makes beside itself, so that small ones do not each need a system call.
const SLACK: u64 = 1 << 20;

/// Moves the bound by `bytes` where there is one. Allocates nothing.
fn make_room(bytes: usize) -> bool {
    // Whoever holds the lock holds it for microseconds; this thread itself would wait for ever.
    for _ in 0..1000 {
        match BOUND.try_lock() {
            Ok(bound) => {
                let (Some(before), Some(now)) = (bound.before, limit::soft()) else { return false };
                let more = (bytes as u64).saturating_add(SLACK);
                return now.raised(more).is_some_and(|raised| limit::set(raised.within(before)));
            }
            Err(_) => std::thread::yield_now(),
        }
    }
    false
}

// SAFETY: every call goes to `System` with the arguments that it came with, and what `System` gives is given back; a
// refused call is only made once more, as the contract of each method allows.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        let got = unsafe { System.alloc(layout) };
        if !got.is_null() || !make_room(layout.size()) {
            return got;
        }
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        let got = unsafe { System.alloc_zeroed(layout) };
        if !got.is_null() || !make_room(layout.size()) {
            return got;
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, held: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        let got = unsafe { System.realloc(held, layout, size) };
        if !got.is_null() || !make_room(size) {
            return got;
        }
        // SAFETY: as above; a refused `realloc` left `held` as it was.
        unsafe { System.realloc(held, layout, size) }
    }

    unsafe fn dealloc(&self, held: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(held, layout) }
    }
}

#[cfg(target_os = "linux")]
mod limit {
    use rustix::fs::{Mode, OFlags};
    use rustix::process::{Resource, Rlimit};

    /// A soft limit on the data segment; `None` is none.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Soft(Rlimit);

    impl Soft {
        /// This limit, or one of `bytes` where that is lower.
        pub(super) fn at_most(self, bytes: u64) -> Self {
            Self(Rlimit { current: Some(self.0.current.map_or(bytes, |c| c.min(bytes))), ..self.0 })
        }

        /// Room for so many bytes more; `None` where nothing is bounded.
        pub(super) fn raised(self, more: u64) -> Option<Self> {
            Some(Self(Rlimit { current: Some(self.0.current?.saturating_add(more)), ..self.0 }))
        }

        /// This limit, but not above `other`.
        pub(super) fn within(self, other: Self) -> Self {
            other.0.current.map_or(self, |bytes| self.at_most(bytes))
        }

        pub(super) fn admits(self, bytes: u64) -> bool {
            self.0.current.is_none_or(|c| bytes <= c)
        }
    }

    pub(super) fn soft() -> Option<Soft> {
        Some(Soft(rustix::process::getrlimit(Resource::Data)))
    }

    pub(super) fn set(soft: Soft) -> bool {
        rustix::process::setrlimit(Resource::Data, soft.0).is_ok()
    }

    /// Bytes of the data segment and the stack now. Allocates nothing.
    pub(super) fn in_use() -> Option<u64> {
        let file = rustix::fs::open(c"/proc/self/statm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = [0u8; 128];
        let read = rustix::io::read(&file, &mut buffer).ok()?;
        let text = std::str::from_utf8(&buffer[..read]).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(5)?.parse().ok()?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    }

    /// Bytes of the stack of a thread that C code starts.
    pub(super) fn stack() -> u64 {
        const USUAL: u64 = 8 << 20;
        rustix::process::getrlimit(Resource::Stack).current.map_or(USUAL, |bytes| bytes.clamp(USUAL, 64 << 20))
    }
}

#[cfg(not(target_os = "linux"))]
mod limit {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Soft;

    impl Soft {
        pub(super) fn at_most(self, _: u64) -> Self {
            self
        }

        pub(super) fn raised(self, _: u64) -> Option<Self> {
            None
        }

        pub(super) fn within(self, _: Self) -> Self {
            self
        }

        pub(super) fn admits(self, _: u64) -> bool {
            true
        }
    }

    pub(super) fn soft() -> Option<Soft> {
        None
    }

    pub(super) fn set(_: Soft) -> bool {
        false
    }

    pub(super) fn in_use() -> Option<u64> {
        None
    }

    pub(super) fn stack() -> u64 {
        0
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[global_allocator]
    static HEAP: Heap = Heap;

    /// The limit is the process's: tests of it take turns.
    static TURN: Mutex<()> = Mutex::new(());

    fn system_has(bytes: usize) -> bool {
        let layout = Layout::from_size_align(bytes, 64).unwrap();
        // SAFETY: the layout has a size; what is given is given back at once.
        #[allow(unsafe_code)]
        unsafe {
            let got = System.alloc(layout);
            if !got.is_null() {
                System.dealloc(got, layout);
            }
            !got.is_null()
        }
    }

    #[test]
    fn an_allocation_above_the_bound_fails_and_the_limit_comes_back() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = limit::soft();
        {
            let bounded = Bounded::by(Some(64 << 20));
            assert!(system_has(16 << 20) && !system_has(256 << 20));
            assert!(bounded.has_room(16 << 20) && !bounded.has_room(256 << 20));
        }
        assert!(system_has(256 << 20));
        assert_eq!(limit::soft(), before);
    }

    #[test]
    fn runs_at_the_same_time_add_up_and_the_last_one_puts_the_limit_back() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = limit::soft();
        let first = Bounded::by(Some(64 << 20));
        let second = Bounded::by(Some(256 << 20));
        assert!(system_has(256 << 20));
        drop(first);
        assert!(system_has(128 << 20) && !system_has(1 << 30));
        drop(second);
        assert_eq!(limit::soft(), before);
    }

    #[test]
    fn what_rust_asks_for_moves_the_bound() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _bounded = Bounded::by(Some(16 << 20));
        let held = black_box(vec![1u8; 256 << 20]);
        assert!(held.iter().all(|&b| b == 1) && !system_has(512 << 20));
    }

    #[test]
    fn a_run_costs_less_than_fifty_microseconds() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The least of several: others use this machine.
        let least = (0..200)
            .map(|_| {
                let start = std::time::Instant::now();
                drop(Bounded::by(for_run(1 << 30)));
                start.elapsed()
            })
            .min()
            .unwrap();
        assert!(least.as_micros() < 50, "{least:?}");
    }
}
