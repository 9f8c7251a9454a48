//! The Rust client library of in-mem.
