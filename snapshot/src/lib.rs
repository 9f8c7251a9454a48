//! The disk image of in-mem: snapshots, and MANIFEST, the one file that says which database a
//! directory holds and which snapshot is its newest.
//!
//! It owns the bytes of both and their crash-safe publication. It refuses to know what a record or
//! a value is: MANIFEST keeps physical facts only, and what a section of a snapshot holds is
//! opaque here. A snapshot goes `image/writer.rs`, [`validate`], [`publish_snapshot`], [`publish`];
//! it comes back through `image/reader.rs`.

#[cfg(test)]
mod fault_points;
mod image;
mod manifest;
mod publish;

pub use image::{
    BLOCK_LEN_BYTES, BlockSink, BlockSource, META_SECTION, SNAPSHOT_FORMAT_VERSION, SNAPSHOTS_DIR,
    SectionSource, SnapshotDamage, SnapshotError, SnapshotHeader, SnapshotMeta, SnapshotReader,
    SnapshotWriter, Written, list_snapshots, publish_snapshot, remove_snapshot, remove_temps,
    snapshot_path, temp_path, validate,
};
pub use manifest::{FORMAT_VERSION, MANIFEST_LEN_BYTES_MAX, Manifest, ManifestError};
pub use publish::{LoadError, MANIFEST_PATH, PublishError, load, peek, publish};
