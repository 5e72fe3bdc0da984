//! See `pellucid_fuzz::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pellucid_fuzz::tokenizer(data));
