//! The `inmem` command line.

fn main() {}
