//! pellucid-runtime
