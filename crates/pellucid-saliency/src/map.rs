//! The map that explainers give.

use crate::render::Alignment;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// What a map's places lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// The picture as the model sees it: one value a pixel of its input.
    Input,
    /// The latent of a diffusion model.
    Latent,
    /// A layer's own, coarser grid, which covers the whole picture.
    Layer,
}

/// What a map is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It explains.
    Explanation,
    /// It knows nothing of the network, or of the question: others are compared with it.
    Control,
}

/// One number about a map, with what it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// A stable key: `reliability`.
    pub id: String,
    /// What a person reads: `agreement of two halves of the masks`.
    pub title: String,
    /// The number.
    pub value: f64,
}

impl Figure {
    /// A figure.
    pub fn new(id: &str, title: &str, value: f64) -> Self {
        Self { id: id.to_owned(), title: title.to_owned(), value }
    }
}

/// Where something acts, place by place, and what is known about that answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaliencyMap {
    /// A stable key, a file-name's length of ASCII: `rise`, `word-2-frog`.
    pub id: String,
    /// What a person reads above it: `What the step depends on`.
    pub title: String,
    /// H × W, larger is more. Unscaled: only showing scales. Left out of JSON; arrays travel in `.npz`.
    #[serde(skip)]
    pub values: Array2<f32>,
    /// What the places lie on.
    pub grid: Grid,
    /// Where samples lie when the map is enlarged.
    pub alignment: Alignment,
    /// What it is there for.
    pub role: Role,
    /// Numbers about it.
    pub figures: Vec<Figure>,
    /// Why it is not worth looking at, if it is not; such a map is named and not drawn.
    pub flag: Option<String>,
    /// What to keep in mind while looking at it, a sentence each: it is drawn, with these beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

impl SaliencyMap {
    /// An explanation whose samples are the centres of cells, without figures.
    pub fn new(id: impl Into<String>, title: impl Into<String>, values: Array2<f32>, grid: Grid) -> Self {
        let (alignment, role) = (Alignment::Centres, Role::Explanation);
        let (figures, flag, doubts) = (Vec::new(), None, Vec::new());
        Self { id: id.into(), title: title.into(), values, grid, alignment, role, figures, flag, doubts }
    }

    /// The same as a control.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.role = Role::Control;
        self
    }

    /// The same with another figure.
    #[must_use]
    pub fn with_figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// The same with further doubts.
    #[must_use]
    pub fn with_doubts(mut self, doubts: impl IntoIterator<Item = String>) -> Self {
        self.doubts.extend(doubts);
        self
    }

    /// The figure called `id`.
    pub fn figure(&self, id: &str) -> Option<f64> {
        self.figures.iter().find(|f| f.id == id).map(|f| f.value)
    }

    /// Whether there is nothing to show: no places, a value that is not finite, or the same value everywhere.
    pub fn is_blank(&self) -> bool {
        crate::render::min_max(self.values.view()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_map_carries_its_figures_and_knows_when_it_is_blank() {
        let map = SaliencyMap::new("rise", "DF-RISE", array![[0.0, 1.0]], Grid::Latent);
        let map = map.with_figure(Figure::new("reliability", "agreement of two halves", 0.9));
        assert_eq!((map.figure("reliability"), map.figure("other")), (Some(0.9), None));
        assert!(!map.is_blank());
        assert!(SaliencyMap::new("x", "x", array![[2.0, 2.0]], Grid::Layer).is_blank());
        assert!(SaliencyMap::new("x", "x", array![[f32::NAN, 2.0]], Grid::Layer).is_blank());
    }
}
