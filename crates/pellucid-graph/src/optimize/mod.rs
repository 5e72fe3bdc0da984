//! Rewrites that spare time in a graph whose inner values nobody reads: many passes of one network, and only its outputs
//! count. Each changes results by no more than rounding.
//!
//! They read a graph of [`crate::grad::prepare`] whose known shape computations are constants, and what was observed of it.

mod attention;
mod linear;
mod reshape;
mod zero_terms;

pub use attention::fuse_attention;
pub use linear::split_linear_layers;
pub use reshape::fix_reshapes;
pub use zero_terms::drop_zero_terms;
