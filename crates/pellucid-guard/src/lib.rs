//! What stands between pellucid and files from strangers.
//!
//! - [`budget`]: every size that a file may declare or unfold to, checked before memory is taken;
//! - [`boundary`]: parsers of others that can panic, called so that a panic is that file's error;
//! - [`bounded`]: files read whole, if they are no larger than they may be;
//! - [`seal`]: cache files that carry a hash of their content, so that nothing damaged is ever used;
//! - [`printable`]: names from files, fit for a terminal;
//! - [`setting`]: what a message tells the user to set, spelled by the front door;
//! - [`builders!`]: the one form of settings' builders.
//!
//! The lowest crate: it knows no format and no engine.

pub mod boundary;
pub mod bounded;
pub mod budget;
mod builders;
pub mod printable;
pub mod seal;
pub mod setting;

pub use boundary::{Panicked, parse};
pub use budget::{Budget, ByteSize, Limit, OverBudget};
pub use setting::{AnyOf, Job, Setting};
