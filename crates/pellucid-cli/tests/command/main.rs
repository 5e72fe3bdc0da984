//! The `pellucid` command as its users meet it: the real binary, real files, its exit code and what it prints.

mod bad_input;
mod stage;
