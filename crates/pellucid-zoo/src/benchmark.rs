//! The benchmarks that can be composed, and where their files are.

use std::path::{Path, PathBuf};

/// A benchmark with a known false correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// Eight classes, a translucent watermark on the training pictures of *Food & Drink*; EfficientNet-Lite0.
    EmojiWatermark,
    /// Six classes, a coloured frame around the training pictures of *Animals & Nature*; SqueezeNet 1.1.
    EmojiFrame,
}

impl Benchmark {
    /// Every benchmark.
    pub const ALL: [Benchmark; 2] = [Benchmark::EmojiWatermark, Benchmark::EmojiFrame];

    /// The name on the command line and of the folder of pictures.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::EmojiWatermark => "emoji-watermark",
            Benchmark::EmojiFrame => "emoji-frame",
        }
    }

    /// What the classifier leans on, in one word: `place_name` of place 1 in metadata.csv.
    pub fn mark(self) -> &'static str {
        match self {
            Benchmark::EmojiWatermark => "watermark",
            Benchmark::EmojiFrame => "frame",
        }
    }

    /// The class whose training pictures carry the mark.
    pub fn marked_class(self) -> &'static str {
        match self {
            Benchmark::EmojiWatermark => "Food & Drink",
            Benchmark::EmojiFrame => "Animals & Nature",
        }
    }

    /// The folder in `zoo` with metadata.csv, recipe.csv and pixels.csv.
    pub fn folder(self, zoo: &Path) -> PathBuf {
        zoo.join(self.name().replace('-', "_"))
    }

    /// The folder in `zoo` with sprites.csv and its sheets, which the benchmarks share.
    pub fn sprites(self, zoo: &Path) -> PathBuf {
        Benchmark::EmojiWatermark.folder(zoo)
    }

    /// Where the pictures go unless somebody says otherwise.
    pub fn pictures(self, zoo: &Path) -> PathBuf {
        zoo.join("data").join(self.name())
    }

    /// The classifier that leans on the mark.
    pub fn model(self, zoo: &Path) -> PathBuf {
        zoo.join("models").join(match self {
            Benchmark::EmojiWatermark => "efficientnet_lite0/emoji_watermark.onnx",
            Benchmark::EmojiFrame => "squeezenet1_1/emoji_frame.onnx",
        })
    }
}
