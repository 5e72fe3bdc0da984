//! How large a picture may be. Every function that decodes takes these bounds, so that a hostile
//! or broken file is an error and never an exhausted machine.

/// Upper bounds on one picture file.
///
/// Both are inclusive. They are checked before anything is allocated for the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// The most pixels (width × height) that a header may claim.
    pub max_pixels: u64,
    /// The most bytes that the encoded file may have.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// 178 956 970 pixels, the bound above which Pillow suspects a decompression bomb, and
    /// 256 MiB of encoded bytes. A 16 384 × 16 384 picture is above it.
    fn default() -> Self {
        Limits { max_pixels: 178_956_970, max_bytes: 256 * 1024 * 1024 }
    }
}
