//! How a long computation says how far it is, and hears that it should stop.

/// A listener to long computations. All methods may be called from any thread.
pub trait Progress: Sync {
    /// A stage of `total` steps begins.
    fn start(&self, stage: &str, total: u64);
    /// `steps` more are done.
    fn advance(&self, steps: u64);
    /// How the stage fares, in a few words, for example the activation reached.
    fn note(&self, _words: &str) {}
    /// Something that went wrong and was put right, in a sentence, for example a kept result that was damaged and is made
    /// again.
    fn warn(&self, _words: &str) {}
    /// The stage is over.
    fn finish(&self);
    /// Whether the user asked to stop.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _stage: &str, _total: u64) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}
