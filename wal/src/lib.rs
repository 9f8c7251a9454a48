//! The write-ahead log: ordered, durable, opaque records.
//!
//! It owns the disk and clock seams, the segment files, group commit and the decision where a log
//! ends after a crash. It refuses to know what a record means: keys and values are bytes here.

pub mod clock;
pub mod disk;
