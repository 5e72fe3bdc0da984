//! Pictures, preprocessing and data sets: everything between files on a disk and the numbers that a
//! model reads.
//!
//! A picture is opened within a [`pellucid_guard::Budget`], becomes an 8-bit RGB [`picture::Picture`], goes through
//! the one [`preprocess::Preprocessing`] of the model (whose [`resize`] equals Pillow's), and
//! arrives as a float tensor. [`dataset`] lists labelled pictures, [`loader`] turns them into
//! batches. [`canvas`] makes pictures that are optimised
//! ([`fourier`] spectra), and [`augment`] moves them about, both with the way back for gradients.

pub mod augment;
pub mod canvas;
pub mod dataset;
pub mod fourier;
mod jpeg;
pub mod loader;
pub mod names;
pub mod picture;
pub mod prepared;
pub mod preprocess;
pub mod resize;
mod text;
pub mod training_view;
