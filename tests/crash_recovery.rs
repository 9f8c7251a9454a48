//! Recovery from files that were damaged, cut, mixed up or left half made, and the invariants of
//! storage and recovery that need no disk image.
//!
//! The files lie on a simulated disk, which makes two hundred thousand openings affordable; what
//! depends on a real file system is repeated on one. A damaged file may be refused, by name, or
//! read up to a point: never with data that was not committed, never with a panic.

#![allow(
    clippy::indexing_slicing,
    reason = "an index out of bounds fails the test, as it should"
)]

#[path = "crash_recovery/damage.rs"]
mod damage;
#[path = "crash_recovery/data_set.rs"]
mod data_set;
#[path = "crash_recovery/formats.rs"]
mod formats;
#[path = "crash_recovery/invariants.rs"]
mod invariants;
#[path = "crash_recovery/property.rs"]
mod property;
#[path = "crash_recovery/real_files.rs"]
mod real_files;
#[path = "crash_recovery/snapshots.rs"]
mod snapshots;

#[path = "support/engine.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "each test target uses another part of the harness"
)]
mod engine;
#[path = "support/scale.rs"]
mod scale;
