//! Statistics that more than one method needs: [`rank`], [`interval`], [`bootstrap`], [`multiplicity`],
//! [`order`], [`random`].

pub mod bootstrap;
pub mod interval;
pub mod multiplicity;
pub mod order;
pub mod random;
pub mod rank;

pub use bootstrap::Interval;
pub use interval::{Proportion, quantile, wilson};
pub use order::{Rising, rising};
pub use rank::{roc_area, spearman};
