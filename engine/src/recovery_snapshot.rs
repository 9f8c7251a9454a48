//! Which snapshot recovery begins with, and loading it.
//!
//! ```text
//! MANIFEST names   its file is   an older one is   the log reaches back to
//! a snapshot       whole         whole             the one that is used      outcome
//!   no                -             -                 -                      the log alone
//!   yes              yes            -                yes                     the named one
//!   yes              no            yes               yes                     the older one, logged
//!   yes              no             no               yes                     the log alone, logged
//!   yes               -             -                no                      refused
//! ```
//!
//! A snapshot above the named one is what a crash before MANIFEST has left, and is ignored. Whether
//! the log reaches back is seen by its segments, from that of the snapshot's `wal_offset` on; and
//! whatever is used, the log must go on at least to the watermark that MANIFEST states, or the
//! state would be an older one than was promised. A snapshot that is whole and of a form this build
//! does not know is refused, not replaced by an older one.

use std::ops::ControlFlow;
use std::sync::Arc;

use in_mem_snapshot::{
    META_SECTION, Manifest, SectionSource, SnapshotError, SnapshotHeader, SnapshotMeta,
    SnapshotReader, list_snapshots, snapshot_path, validate,
};
use in_mem_wal::Lsn;
use in_mem_wal::disk::{Disk, OpenMode};

use crate::checkpoint::LogPoint;
use crate::errors::OpenError;
use crate::once_image::read_state;
use crate::recovery::RecoveryContext;
use crate::snapshot_view::SnapshotTarget;

/// What recovery begins with.
#[derive(Default)]
pub(crate) struct Base {
    /// The snapshot that was loaded.
    pub(crate) used: Option<(SnapshotHeader, SnapshotMeta)>,
    /// Why the named one was not.
    pub(crate) refused: Option<SnapshotError>,
    /// Sections of unknown primitives that were passed over, because that was asked for.
    pub(crate) skipped_count: u64,
}

impl Base {
    /// Every record at or below it is inside.
    pub(crate) fn watermark(&self) -> u64 {
        self.used.as_ref().map_or(0, |(_, meta)| meta.watermark_txn)
    }

    /// No record below it may be missing: [`Lsn::ZERO`] without a snapshot.
    pub(crate) fn snapshot_end(&self) -> Lsn {
        self.used
            .as_ref()
            .map_or(Lsn::ZERO, |(header, _)| header.wal_offset)
    }

    /// What is left is an older state than MANIFEST promises.
    pub(crate) fn unrecoverable(&self, manifest: &Manifest) -> OpenError {
        OpenError::SnapshotUnrecoverable {
            snapshot_id: manifest.snapshot_id,
            reason: self.refused.as_ref().map(ToString::to_string),
        }
    }

    /// Its last record.
    pub(crate) fn log_point(&self) -> LogPoint {
        self.used
            .as_ref()
            .map_or_else(LogPoint::first, |(header, meta)| LogPoint {
                version: meta.watermark_txn,
                end_lsn: header.wal_offset,
                record_count: header.tx_count,
            })
    }
}

/// Loads the snapshot that recovery begins with into the empty store, if there is one.
pub(crate) fn load_base(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    manifest: &Manifest,
) -> Result<Base, OpenError> {
    if !manifest.has_snapshot() {
        return Ok(Base::default());
    }
    let named = manifest.snapshot_id;
    let mut older = list_snapshots(disk).map_err(OpenError::Io)?;
    older.retain(|id| *id < named);
    let mut refused = None;
    for id in std::iter::once(named).chain(older.into_iter().rev()) {
        match look_at(disk, context, manifest, id) {
            Ok(found) => {
                let skipped_count = load(disk, context, &found).map_err(OpenError::Snapshot)?;
                return Ok(Base {
                    used: Some(found),
                    refused,
                    skipped_count,
                });
            }
            Err(error) if error.needs_newer_build() => return Err(OpenError::Snapshot(error)),
            Err(error) => {
                tracing::error!(target: "recovery", id, %error, "snapshot cannot be used");
                refused.get_or_insert(error);
            }
        }
    }
    Ok(Base {
        refused,
        ..Base::default()
    })
}

/// Reads a snapshot whole, without loading it.
fn look_at(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    manifest: &Manifest,
    id: u64,
) -> Result<(SnapshotHeader, SnapshotMeta), SnapshotError> {
    let codec = Arc::clone(&context.codec);
    let path = snapshot_path(id);
    let found = validate(disk, &path, OpenMode::Read, codec, &mut |_, _| {
        ControlFlow::Continue(())
    })?;
    let watermark = (id == manifest.snapshot_id).then_some(manifest.snapshot_watermark);
    let codec_id = context.codec.codec_id();
    found
        .1
        .check(id, manifest.database_uuid, codec_id, watermark)?;
    Ok(found)
}

/// Loads a snapshot that was found whole; how many sections were passed over.
fn load(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    found: &(SnapshotHeader, SnapshotMeta),
) -> Result<u64, SnapshotError> {
    let path = snapshot_path(found.1.snapshot_id);
    let codec = Arc::clone(&context.codec);
    let (mut reader, meta) = SnapshotReader::open(disk, &path, OpenMode::Read, codec)?;
    let result = load_sections(disk, context, &mut reader, &meta);
    reader.close(disk);
    result
}

fn load_sections(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    reader: &mut SnapshotReader,
    meta: &SnapshotMeta,
) -> Result<u64, SnapshotError> {
    let store = &context.shared.store;
    let target = SnapshotTarget::new(store, meta.watermark_txn);
    let mut skipped_count = 0;
    let mut section = Some(META_SECTION);
    while let Some(id) = section {
        let mut source = SectionSource { reader, disk };
        if id == META_SECTION {
            read_state(store, meta.watermark_txn, &mut source)?;
        } else if let Some(primitive) = context.registry.get(id) {
            primitive.snapshot_deserialize(&target, &mut source)?;
        } else if context.skips_unknown {
            skipped_count += 1;
        } else {
            return Err(SnapshotError::UnknownPrimitive {
                path: snapshot_path(meta.snapshot_id),
                primitive: id,
            });
        }
        section = reader.next_section(disk)?;
    }
    Ok(skipped_count)
}
