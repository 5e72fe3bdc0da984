//! The `pellucid` command as its users meet it: the real binary, real files, its exit code and what it prints.

#![allow(clippy::unwrap_used)] // A test that fails here says where.

mod advice;
mod bad_input;
mod conduct;
mod determinism;
mod diffusion;
mod interruption;
mod kills;
#[cfg(unix)]
mod library;
mod picture;
mod references;
mod repair;
mod stage;
mod supervisor;
mod terminal;
mod zoo;
