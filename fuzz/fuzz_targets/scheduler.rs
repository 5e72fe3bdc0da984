//! See `pellucid_fuzz::scheduler`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pellucid_fuzz::scheduler(data));
