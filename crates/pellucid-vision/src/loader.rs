//! Batches of model inputs, decoded on all cores while the previous batch is being used.
//!
//! The result does not depend on the number of threads: batches are consecutive runs of the
//! indices asked for, in their order. At most two batches exist at a time, so memory does not grow
//! with the number of pictures.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use ndarray::Array4;
use rayon::prelude::*;

use crate::dataset::{Content, Dataset, DatasetError};
use crate::picture::Picture;
use crate::preprocess::Preprocessing;
use crate::training_view::TrainingView;
use pellucid_guard::Budget;

/// A picture that could not be read. The run goes on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Index of the sample.
    pub index: usize,
    /// Its file.
    pub file: String,
    /// What is wrong, in words that name the file.
    pub reason: String,
}

/// Inputs for the model, with the failures among the samples asked for.
#[derive(Debug)]
pub struct Batch {
    /// The sample behind each row of `inputs`.
    pub indices: Vec<usize>,
    /// One input a row: N × channels × height × width, or N × height × width × channels, as the
    /// preprocessing lays it out. N is smaller than the batch size where pictures failed and in
    /// the last batch, and may be 0.
    pub inputs: Array4<f32>,
    /// Samples that could not be read, in the order asked for.
    pub failures: Vec<Failure>,
}

/// An iterator over batches; the next one is prepared in the background.
#[derive(Debug)]
pub struct Batches {
    ready: Option<Receiver<Batch>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let next = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        if next.is_none() {
            self.finish();
        }
        next
    }
}

impl Batches {
    /// Lets the background thread go. Its panic, which would be a mistake in this crate, goes on
    /// here instead of looking like an early end.
    fn finish(&mut self) {
        self.ready = None;
        if let Some(Err(panic)) = self.worker.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Batches of `batch` samples of `dataset`, in the order of `indices`.
///
/// The whole pictures, or a view of each. Decoding uses the current rayon pool's threads. A `batch` of 0 is taken as 1.
pub fn batches(
    dataset: Arc<Dataset>,
    preprocessing: Preprocessing,
    indices: Vec<usize>,
    batch: usize,
    budget: Budget,
    view: Option<TrainingView>,
) -> Batches {
    // Nothing is buffered: the thread holds the finished batch until the last one is done with.
    let (give, ready) = sync_channel(0);
    let worker = std::thread::spawn(move || {
        for wanted in indices.chunks(batch.max(1)) {
            if give.send(load(&dataset, &preprocessing, wanted, &budget, view)).is_err() {
                return;
            }
        }
    });
    Batches { ready: Some(ready), worker: Some(worker) }
}

/// One batch at once: the samples `wanted`, in their order.
pub fn load(
    dataset: &Dataset,
    preprocessing: &Preprocessing,
    wanted: &[usize],
    budget: &Budget,
    view: Option<TrainingView>,
) -> Batch {
    let prepare = |content: Content, name: &str, row: &mut [f32]| {
        match (content, view) {
            (Content::Picture(picture), Some(view)) => preprocessing.run_into(&view.of(&picture), row),
            (Content::Picture(picture), None) => preprocessing.run_into(&picture, row),
            (Content::Prepared(_), Some(_)) => return Err(DatasetError::OnlyPrepared { name: name.to_owned() }),
            (Content::Prepared(input), None) if input.shape() == preprocessing.shape() => {
                row.iter_mut().zip(&input).for_each(|(to, from)| *to = *from);
            }
            (Content::Prepared(input), None) => {
                let (found, expected) = (input.shape().to_vec(), preprocessing.shape());
                return Err(DatasetError::PreparedShape { name: name.to_owned(), found, expected });
            }
        }
        Ok(())
    };
    let name = |index: usize| dataset.samples.get(index).map_or("", |sample| sample.file.as_str());
    let each = preprocessing.len();
    let mut values = vec![0.0f32; wanted.len() * each];
    let outcomes: Vec<Result<(), DatasetError>> = if dataset.prefers_order() {
        in_order(dataset, &prepare, wanted, budget, &mut values)
    } else {
        let rows = values.par_chunks_exact_mut(each).zip(wanted);
        rows.map(|(row, index)| prepare(dataset.content(*index, budget)?, name(*index), row)).collect()
    };
    gather(dataset, preprocessing, wanted, values, outcomes)
}

/// Reads bytes one after the other, a few at a time, and decodes those on all threads.
fn in_order(
    dataset: &Dataset,
    prepare: &(impl Fn(Content, &str, &mut [f32]) -> Result<(), DatasetError> + Sync),
    wanted: &[usize],
    budget: &Budget,
    values: &mut [f32],
) -> Vec<Result<(), DatasetError>> {
    let each = values.len() / wanted.len().max(1);
    let few = rayon::current_num_threads() * 2;
    let mut outcomes = Vec::with_capacity(wanted.len());
    for (wanted, rows) in wanted.chunks(few).zip(values.chunks_mut(few * each)) {
        let files: Vec<_> = wanted.iter().map(|index| dataset.read_bytes(*index, budget)).collect();
        let decoded = rows.par_chunks_exact_mut(each).zip(wanted).zip(files).map(|((row, index), bytes)| {
            let name = &dataset.samples[*index].file;
            prepare(Picture::decode(&bytes?, name, budget)?.into(), name, row)
        });
        outcomes.extend(decoded.collect::<Vec<_>>());
    }
    outcomes
}

/// Closes the gaps that failures leave.
fn gather(
    dataset: &Dataset,
    preprocessing: &Preprocessing,
    wanted: &[usize],
    mut values: Vec<f32>,
    outcomes: Vec<Result<(), DatasetError>>,
) -> Batch {
    let each = preprocessing.len();
    let (mut indices, mut failures) = (Vec::with_capacity(wanted.len()), Vec::new());
    for (row, (index, outcome)) in wanted.iter().zip(outcomes).enumerate() {
        match outcome {
            Ok(()) => {
                values.copy_within(row * each..(row + 1) * each, indices.len() * each);
                indices.push(*index);
            }
            Err(error) => {
                let file = dataset.samples.get(*index).map_or(String::new(), |sample| sample.file.clone());
                failures.push(Failure { index: *index, file, reason: error.to_string() });
            }
        }
    }
    values.truncate(indices.len() * each);
    let [a, b, c] = preprocessing.shape();
    let inputs = Array4::from_shape_vec((indices.len(), a, b, c), values);
    let inputs = inputs.unwrap_or_else(|_| Array4::zeros((0, a, b, c)));
    Batch { indices, inputs, failures }
}
