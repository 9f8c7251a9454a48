//! The disk image of a database: its bytes, its writer, its reader, its files.
//!
//! A snapshot is written block by block and read block by block, so it may be larger than the
//! memory that is left. What a section holds is opaque here: primitives bring their bytes.

mod errors;
mod files;
mod format;
mod meta;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use errors::{SnapshotDamage, SnapshotError};
pub use files::{
    SNAPSHOTS_DIR, list_snapshots, publish_snapshot, remove_snapshot, remove_temps, snapshot_path,
    temp_path,
};
pub use format::{BLOCK_LEN_BYTES, META_SECTION, SNAPSHOT_FORMAT_VERSION, SnapshotHeader};
pub use meta::SnapshotMeta;
pub use reader::{SectionSource, SnapshotReader, validate};
pub use writer::{SnapshotWriter, Written};

/// Where a section's bytes go, in pieces of any length.
pub trait BlockSink {
    /// Adds bytes to the open section.
    ///
    /// # Errors
    /// When a block could not be written; the snapshot cannot be finished then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError>;
}

/// Where a section's bytes come from. The checksum of a block is compared before any of its bytes
/// is given out.
pub trait BlockSource {
    /// Fills `bytes` with the next bytes of the section.
    ///
    /// # Errors
    /// When the section ends before, or is damaged.
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError>;

    /// True when the section has no more bytes.
    ///
    /// # Errors
    /// When its next block is damaged.
    fn is_at_end(&mut self) -> Result<bool, SnapshotError>;

    /// The error of a reader that finds bytes, whose checksum is right, to mean nothing.
    fn meaningless(&self, what: &'static str) -> SnapshotError;
}
