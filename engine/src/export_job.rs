//! Making a clone, on the background thread, between its other work.
//!
//! ```text
//! 1  ask the log for a sync; wait until what had been committed then is durable and published: the
//!    last durable record is the end of the clone
//! 2  make the directory under a temporary name (`staging.rs`)
//! 3  copy the snapshot that MANIFEST names, read it back and check it
//! 4  copy the log from where that snapshot needs it to the end, closed behind its last record
//! 5  sync the directories; write MANIFEST
//! 6  read the log back and check it: it ends where it should; take the digest of what is inside
//! 7  give it its name
//! ```
//!
//! Nobody is stopped for any step: segments before the last are frozen, and what is durable of the
//! last one does not change. Only this thread removes files, and it is busy.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use in_mem_snapshot::{Manifest, PublishError, SNAPSHOTS_DIR, publish, snapshot_path, validate};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::recover::{LogCopy, ScanOptions, copy_file, copy_log, scan};
use in_mem_wal::{Lsn, files, names};

use crate::checkpoint::LogPoint;
use crate::checkpoint_job::{CheckpointContext, Freeze};
use crate::export::{ExportError, ExportInfo, ExportRequest};
use crate::logical_digest::{StateDigest, digest_between};
use crate::shared::Shared;
use crate::staging::{Staging, Target};

/// An export that waits for its end.
pub(crate) struct ExportJob {
    request: ExportRequest,
    freeze: Freeze,
}

/// What is known of the snapshot inside.
#[derive(Clone, Copy)]
struct SnapshotInside {
    wal_offset: Lsn,
    watermark: u64,
    len_bytes: u64,
}

impl ExportJob {
    /// Step 1.
    pub(crate) fn begin(shared: &Shared, request: ExportRequest) -> Self {
        let freeze = Freeze::begin(shared);
        Self { request, freeze }
    }

    pub(crate) fn is_ready(&mut self, shared: &Shared) -> bool {
        self.freeze.is_over(shared)
    }

    /// The other steps, and tells what came of them.
    pub(crate) fn run(
        self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &Manifest,
    ) {
        let ExportRequest { target, done } = self.request;
        let point = self.freeze.point(context.shared).map_err(ExportError::from);
        let result = point.and_then(|point| context.export(disk, manifest, point, &target));
        match &result {
            Ok(info) => tracing::info!(
                target: "db",
                path = %info.path.display(),
                watermark = info.watermark_txn,
                size_bytes = info.size_bytes,
                "exported"
            ),
            Err(error) => tracing::warn!(target: "db", %error, "nothing was exported"),
        }
        context.shared.checkpoint.end();
        done(result);
    }

    /// The database is closed.
    pub(crate) fn give_up(self, shared: &Shared) {
        shared.checkpoint.end();
        (self.request.done)(Err(crate::CheckpointError::Closed.into()));
    }
}

impl CheckpointContext<'_> {
    fn export(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        point: LogPoint,
        target: &Target,
    ) -> Result<ExportInfo, ExportError> {
        let mut staging = Staging::begin(target, self.shared.clock.wall_us())?;
        match self.fill(disk, manifest, point, &mut staging) {
            Ok((checkpoint_watermark, size_bytes, digest)) => {
                staging.publish()?;
                Ok(ExportInfo {
                    path: target.path.clone(),
                    checkpoint_watermark,
                    watermark_txn: point.version,
                    size_bytes,
                    digest,
                })
            }
            Err(error) => {
                staging.abandon();
                // A copy that was cut short says why.
                self.shared.refuse_checkpoint()?;
                Err(error)
            }
        }
    }

    /// Steps 3 to 6; the watermark of the snapshot inside, the bytes of all files, and what is
    /// inside.
    fn fill(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        point: LogPoint,
        staging: &mut Staging<'_>,
    ) -> Result<(u64, u64, StateDigest), ExportError> {
        let clone = &mut staging.disk();
        let snapshot = match manifest.has_snapshot() {
            true => Some(self.copy_snapshot(disk, clone, manifest)?),
            false => None,
        };
        let copy = LogCopy {
            first: snapshot.map_or(1, |inside| inside.wal_offset.segment()),
            end: point.end_lsn,
            config: self.log_config,
            database_uuid: manifest.database_uuid,
            version_floor: self.shared.store.sequencer.durable_floor(),
        };
        let mut between = |disk: &mut dyn Disk| self.between_blocks(disk);
        let log_len_bytes = copy_log(disk, clone, &copy, &mut between)
            .map_err(|source| ExportError::io(names::WAL_DIR, source))?;
        for directory in [names::WAL_DIR, SNAPSHOTS_DIR] {
            files::sync_dir(clone, directory)
                .map_err(|source| ExportError::io(directory, source))?;
        }
        let cloned = Manifest {
            active_wal_segment: point.end_lsn.segment(),
            ..manifest.clone()
        };
        publish(clone, &cloned).map_err(|error| match error {
            PublishError::Unchanged(source) | PublishError::Unknown(source) => {
                ExportError::io(in_mem_snapshot::MANIFEST_PATH, source)
            }
        })?;
        self.read_log_back(disk, clone, &cloned, snapshot, point)?;
        let watermark = snapshot.map_or(0, |inside| inside.watermark);
        let snapshot_len_bytes = snapshot.map_or(0, |inside| inside.len_bytes);
        let manifest_len_bytes = cloned.encode().len() as u64;
        let size_bytes = log_len_bytes + snapshot_len_bytes + manifest_len_bytes;
        // No version at or below the point is removed while this thread is busy.
        let store = &self.shared.store;
        let mut between = || self.between_blocks(disk);
        let digest = digest_between(store, self.registry, point.version, &mut between)
            .map_err(ExportError::snapshot)?;
        Ok((watermark, size_bytes, digest))
    }

    /// Step 3.
    fn copy_snapshot(
        &self,
        disk: &mut dyn Disk,
        clone: &mut dyn Disk,
        manifest: &Manifest,
    ) -> Result<SnapshotInside, ExportError> {
        let id = manifest.snapshot_id;
        let path = snapshot_path(id);
        let mut between = |disk: &mut dyn Disk| self.between_blocks(disk);
        let len_bytes = copy_file(disk, clone, &path, &mut between)
            .map_err(|source| ExportError::io(&path, source))?;
        let mut between = |_: &mut dyn Disk, _| self.between_blocks(disk);
        let codec = Arc::clone(self.codec);
        let found = validate(clone, &path, OpenMode::ReadDirect, codec, &mut between);
        let (header, meta) = found.map_err(ExportError::snapshot)?;
        let watermark = Some(manifest.snapshot_watermark);
        meta.check(id, manifest.database_uuid, self.codec.codec_id(), watermark)
            .map_err(ExportError::snapshot)?;
        Ok(SnapshotInside {
            wal_offset: header.wal_offset,
            watermark: meta.watermark_txn,
            len_bytes,
        })
    }

    /// Step 6.
    fn read_log_back(
        &self,
        disk: &mut dyn Disk,
        clone: &mut dyn Disk,
        cloned: &Manifest,
        snapshot: Option<SnapshotInside>,
        point: LogPoint,
    ) -> Result<(), ExportError> {
        let options = ScanOptions {
            database_uuid: cloned.database_uuid,
            record_len_bytes_max: self.log_config.record_len_bytes_max,
            snapshot_end: snapshot.map_or(Lsn::ZERO, |inside| inside.wal_offset),
            manifest_active_segment: cloned.active_wal_segment,
            is_permissive: false,
            planted: self.log_config.planted,
        };
        let mut segment = 0;
        let scanned = scan(clone, &options, &**self.codec, |record| {
            // Once a segment: a spare is wanted no more often.
            if std::mem::replace(&mut segment, record.lsn.segment()) != record.lsn.segment()
                && self.between_blocks(disk) == ControlFlow::Break(())
            {
                tracing::debug!(target: "db", "the copy is read back for nobody");
            }
            Ok::<(), Infallible>(())
        })
        .map_err(|error| ExportError::NotWhole {
            reason: error.to_string(),
        })?;
        let watermark = snapshot.map_or(0, |inside| inside.watermark);
        let reached = scanned.last_txn_id.max(watermark);
        if reached != point.version {
            let expected = point.version;
            return Err(ExportError::NotWhole {
                reason: format!("it reaches to version {reached}, not to {expected}"),
            });
        }
        Ok(())
    }
}
