//! One file per command: its flags, arguments to settings, a job of the library, its result printed.

pub mod attribute;
pub mod compare;
pub mod completions;
pub mod debug;
pub mod demo;
pub mod diffusion;
pub mod gradient;
pub mod inspect;
pub mod man;
pub mod patch;
pub mod repair;
pub mod scan;
pub mod visualize;
pub mod why;
