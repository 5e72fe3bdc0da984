//! Files of numbers: NumPy's, and patches of a decision layer.

use crate::{budget, says_something, scratch};
use pellucid::internals::runtime::Array;
use pellucid::{Budget, Patch, read_arrays_within, write_arrays};
use std::collections::BTreeMap;

/// `.npy` and `.npz`: what is read can be written, and is read back the same.
pub fn npz(data: &[u8]) {
    scratch::with_file("x.npz", data, |path| {
        let arrays = match read_arrays_within(path, &budget()) {
            Ok(arrays) => arrays,
            Err(error) => return says_something(&error),
        };
        let copy = path.with_file_name("copy.npz");
        write_arrays(&copy, &arrays).unwrap_or_else(|e| panic!("what was read cannot be written: {e}"));
        let again = read_arrays_within(&copy, &Budget::default());
        let again = again.unwrap_or_else(|e| panic!("what was written cannot be read: {e}"));
        assert!(alike(&arrays, &again), "what was read back is not what was written: {:?}", arrays.keys());
    });
}

/// Whether both hold the same names, shapes and values, in row-major order, whatever the order in memory. A NaN equals itself.
fn alike(a: &BTreeMap<String, Array>, b: &BTreeMap<String, Array>) -> bool {
    let same = |a: &Array, b: &Array| match (a, b) {
        (Array::F32(a), Array::F32(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        (Array::I64(a), Array::I64(b)) => a.iter().eq(b),
        (Array::I32(a), Array::I32(b)) => a.iter().eq(b),
        (Array::Bool(a), Array::Bool(b)) => a.iter().eq(b),
        (Array::U8(a), Array::U8(b)) => a.iter().eq(b),
        _ => false,
    };
    a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| a.shape() == b.shape() && same(a, b))
}

/// A patch of a decision layer: its summary speaks of what it holds, and it comes back as it was.
pub fn patch(data: &[u8]) {
    scratch::with_file("x.safetensors", data, |path| {
        let patch = match Patch::read(path, &budget()) {
            Ok(patch) => patch,
            Err(error) => return says_something(&error),
        };
        for tensor in patch.summary().tensors {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.entries, "{}", tensor.name);
            assert!(tensor.changed <= tensor.entries, "{}", tensor.name);
        }
        let bytes = patch.to_bytes().unwrap_or_else(|e| panic!("what was read cannot be written: {e}"));
        scratch::with_file("copy.safetensors", &bytes, |copy| {
            let again = Patch::read(copy, &budget()).unwrap_or_else(|e| panic!("what was written cannot be read: {e}"));
            let again = again.to_bytes().unwrap_or_else(|e| panic!("what was read back cannot be written: {e}"));
            assert!(again == bytes, "writing what was read back gives other bytes");
        });
    });
}
