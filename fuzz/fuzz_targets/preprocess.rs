//! See `pellucid_fuzz::preprocess`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pellucid_fuzz::preprocess(data));
