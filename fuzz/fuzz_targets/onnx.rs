//! See `pellucid_fuzz::onnx`. Three of four mutations change the model as a model, so that the graph passes see more than
//! damaged protobuf.
#![no_main]

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let structural = (seed % 4 != 0).then(|| pellucid_fuzz::mutate_onnx(data, size, max_size, seed));
    structural.flatten().unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| pellucid_fuzz::onnx(data));
