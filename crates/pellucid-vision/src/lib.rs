//! pellucid-vision
