//! Data problems, which come before anything is said about a model ([methods A6]).
//!
//! A wrong class list, pictures with a wrong label, one picture in two classes and a preprocessing of another model all look
//! like a bad model. Each of these is a pure function: [`label_order`] from the
//! confusion matrix, [`label_errors`] from out-of-fold probabilities, [`duplicates`] from hashes and features,
//! [`preprocessing`] from which pictures each variant gets right.
//!
//! [methods A6]: https://github.com/pellucid-rs/pellucid/blob/main/docs/methods.md#a6

pub mod duplicates;
pub mod label_errors;
pub mod label_order;
pub mod preprocessing;
