//! The Rust client library of in-mem.

pub mod check;
