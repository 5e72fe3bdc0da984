//! Statistics that more than one method needs: [`rank`], [`interval`], [`bootstrap`], [`multiplicity`], [`random`].

pub mod bootstrap;
pub mod interval;
pub mod multiplicity;
pub mod random;
pub mod rank;

pub use bootstrap::Interval;
pub use interval::{Proportion, quantile, wilson};
pub use rank::{roc_area, spearman};
