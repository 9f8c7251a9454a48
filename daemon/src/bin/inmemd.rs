//! The `inmemd` daemon.

fn main() {}
