//! pellucid-report
