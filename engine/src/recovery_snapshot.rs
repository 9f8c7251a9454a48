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
    BlockSource, META_SECTION, Manifest, SNAPSHOTS_DIR, SectionSource, SnapshotError,
    SnapshotHeader, SnapshotMeta, SnapshotReader, list_snapshots, snapshot_path, validate,
};
use in_mem_wal::Lsn;
use in_mem_wal::disk::{Disk, OpenMode};

use crate::checkpoint::{CheckpointInfo, LogPoint};
use crate::errors::OpenError;
use crate::once_image::read_state;
use crate::progress::RecoveryProgress;
use crate::recovery::{RecoveryContext, len_of};
use crate::snapshot_view::SnapshotTarget;
use crate::snapshots::NewestSnapshot;

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
    let progress = context.shared.recovery_progress.get().map(AsRef::as_ref);
    let mut older = list_snapshots(disk).map_err(OpenError::Io)?;
    older.retain(|id| *id < named);
    let mut refused = None;
    for id in std::iter::once(named).chain(older.into_iter().rev()) {
        let watch = Watch { progress };
        watch.begin(id);
        match look_at(disk, context, manifest, id, watch) {
            Ok(found) => {
                let skipped_count = load(disk, context, &found, watch)
                    .map_err(|error| watch.unless_stopped(OpenError::Snapshot(error)))?;
                return Ok(Base {
                    used: Some(found),
                    refused,
                    skipped_count,
                });
            }
            Err(_) if watch.is_stopped() => return Err(OpenError::Interrupted),
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
    watch: Watch<'_>,
) -> Result<(SnapshotHeader, SnapshotMeta), SnapshotError> {
    let codec = Arc::clone(&context.codec);
    let path = snapshot_path(id);
    let len_bytes = len_of(disk, &path).map_err(|source| SnapshotError::Io {
        path: path.clone(),
        source,
    })?;
    let mut between = |_: &mut dyn Disk, read_bytes| watch.read(read_bytes, len_bytes);
    let found = validate(disk, &path, OpenMode::Read, codec, &mut between)?;
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
    watch: Watch<'_>,
) -> Result<u64, SnapshotError> {
    let path = snapshot_path(found.1.snapshot_id);
    let codec = Arc::clone(&context.codec);
    let (mut reader, meta) = SnapshotReader::open(disk, &path, OpenMode::Read, codec)?;
    let result = load_sections(disk, context, &mut reader, &meta, watch);
    let newest = NewestSnapshot {
        info: CheckpointInfo {
            watermark_txn: meta.watermark_txn,
            snapshot_id: meta.snapshot_id,
            timestamp_us: found.0.timestamp_us,
            size_bytes: reader.len_bytes(),
        },
        wal_offset: found.0.wal_offset,
    };
    reader.close(disk);
    if result.is_ok() {
        *context.shared.checkpoint.newest.lock() = Some(newest);
    }
    result
}

fn load_sections(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    reader: &mut SnapshotReader,
    meta: &SnapshotMeta,
    watch: Watch<'_>,
) -> Result<u64, SnapshotError> {
    let store = &context.shared.store;
    let target = SnapshotTarget::new(store, meta.watermark_txn);
    let mut skipped_count = 0;
    let mut section = Some(META_SECTION);
    while let Some(id) = section {
        let section_source = SectionSource { reader, disk };
        let mut source = WatchedSource {
            source: section_source,
            watch,
        };
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

/// Who follows the reading, and may end it.
#[derive(Clone, Copy)]
struct Watch<'a> {
    progress: Option<&'a RecoveryProgress>,
}

impl Watch<'_> {
    fn begin(self, id: u64) {
        if let Some(progress) = self.progress {
            progress.snapshot_begun(id);
        }
    }

    fn is_stopped(self) -> bool {
        self.progress
            .is_some_and(RecoveryProgress::is_stop_requested)
    }

    /// So much of a file was read by the first pass.
    fn read(self, read_len_bytes: u64, len_bytes: u64) -> ControlFlow<()> {
        if let Some(progress) = self.progress {
            progress.snapshot_read(read_len_bytes, 2 * len_bytes);
        }
        match self.is_stopped() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn unless_stopped(self, error: OpenError) -> OpenError {
        match self.is_stopped() {
            true => OpenError::Interrupted,
            false => error,
        }
    }
}

/// A section whose reading is followed, and ends when that is asked for.
struct WatchedSource<'a> {
    source: SectionSource<'a>,
    watch: Watch<'a>,
}

impl WatchedSource<'_> {
    /// Tells how far it is; the second pass comes behind the first.
    fn look(&self) -> Result<(), SnapshotError> {
        let reader = &self.source.reader;
        let len_bytes = reader.len_bytes();
        match self
            .watch
            .read(len_bytes + reader.read_len_bytes(), len_bytes)
        {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Io {
                path: SNAPSHOTS_DIR.to_owned(),
                source: std::io::ErrorKind::Interrupted.into(),
            }),
        }
    }
}

impl BlockSource for WatchedSource<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.source.read(bytes)
    }

    // Asked once an entry.
    fn is_at_end(&mut self) -> Result<bool, SnapshotError> {
        self.look()?;
        self.source.is_at_end()
    }

    fn meaningless(&self, what: &'static str) -> SnapshotError {
        self.source.meaningless(what)
    }
}
