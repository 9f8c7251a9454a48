//! The bytes of a segment: its header, its records and the marks that begin its batches.
//!
//! Pure functions between bytes and values; no I/O. Each format is drawn in the file that encodes
//! it. All integers are little-endian.

mod bytes;
pub mod header;
pub mod mark;
pub mod record;
