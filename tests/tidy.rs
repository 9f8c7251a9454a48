//! House rules that a reader relies on and a compiler does not check.
//!
//! Each test scans the sources of every crate and fails with one line for each place that breaks
//! its rule, naming file, line and the way out. Code is looked at with comments and strings blanked
//! out, so that prose may name what code may not use.

#![allow(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test, as it should"
)]

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/formats.rs"]
mod formats;
#[path = "tidy/invariants.rs"]
mod invariants;
#[path = "tidy/scans.rs"]
mod scans;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
