//! Taking a snapshot, on the background thread, between its other work.
//!
//! ```text
//! 1  ask the exactly-once tables to be kept as they are, and the log for a sync
//! 2  wait until what had been committed then is durable: the last durable record is the watermark
//!    W; wait until every commit at or below W is published
//! 3  take the tables at W, and walk the versions at or below W into a temporary file
//! 4  sync it and read it back around the page cache
//! 5  rename it, sync SNAPSHOTS/
//! 6  name it in MANIFEST
//! 7  remove the oldest snapshots
//! ```
//!
//! Steps 1 and 2 are polled; nobody is stopped for any step. From step 3 on the job has the thread
//! to itself, and after each block it does what else is due, so that the log never waits for a
//! spare segment because of a checkpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_snapshot::{
    BlockSink, Manifest, PublishError, SnapshotError, SnapshotHeader, SnapshotMeta, SnapshotWriter,
    list_snapshots, publish, publish_snapshot, remove_snapshot, temp_path, validate,
};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::spares::{Spares, prepare_spare};
use in_mem_wal::{Stage, StorageCodec};

use crate::checkpoint::{
    CheckpointDone, CheckpointError, CheckpointInfo, CheckpointPhase, LogPoint,
};
use crate::limits::SNAPSHOT_RETENTION_COUNT;
use crate::once_image::{begin_capture, end_capture, give_up_capture, write_state};
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;
use crate::snapshot_view::SnapshotView;

/// A checkpoint that waits for its watermark.
pub(crate) struct CheckpointJob {
    done: CheckpointDone,
    /// Versions that were in a record when it began.
    logged_highest: u64,
    point: Option<LogPoint>,
}

/// What a checkpoint works with.
pub(crate) struct CheckpointContext<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) registry: &'a PrimitiveRegistry,
    pub(crate) codec: &'a Arc<dyn StorageCodec>,
    pub(crate) spares: &'a Spares,
}

impl CheckpointJob {
    /// Step 1.
    pub(crate) fn begin(shared: &Shared, done: CheckpointDone) -> Self {
        shared.checkpoint.enter(CheckpointPhase::Syncing);
        // Any number but 0: there is one checkpoint at a time.
        begin_capture(&shared.store, 1);
        if let Some(log) = shared.log.get() {
            // It is polled by what it makes durable.
            let _ = log.flush_start();
        }
        Self {
            done,
            logged_highest: shared.durable.logged_highest(),
            point: None,
        }
    }

    /// Step 2: true when the watermark is known, or will never be.
    pub(crate) fn is_ready(&mut self, shared: &Shared) -> bool {
        if shared.refuse_checkpoint().is_err() {
            return true;
        }
        let point = match self.point {
            Some(point) => point,
            None => {
                let point = *shared.checkpoint.log_point.lock();
                if point.version < self.logged_highest {
                    return false;
                }
                *self.point.insert(point)
            }
        };
        point.version <= shared.store.global_watermark()
    }

    /// Steps 3 to 7, and tells what came of it.
    pub(crate) fn run(
        self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
    ) {
        let result = match self.point {
            Some(point) => context
                .shared
                .refuse_checkpoint()
                .and_then(|()| context.take(disk, manifest, point)),
            None => context
                .shared
                .refuse_checkpoint()
                .and(Err(CheckpointError::Closed)),
        };
        give_up_capture(&context.shared.store);
        match &result {
            Ok(info) => tracing::info!(
                target: "checkpoint",
                id = info.snapshot_id,
                watermark = info.watermark_txn,
                size_bytes = info.size_bytes,
                "snapshot taken"
            ),
            Err(error) => tracing::warn!(target: "checkpoint", %error, "no snapshot was taken"),
        }
        context.shared.checkpoint.end();
        (self.done)(result);
    }

    /// The database is closed.
    pub(crate) fn give_up(self, shared: &Shared) {
        give_up_capture(&shared.store);
        shared.checkpoint.end();
        (self.done)(Err(CheckpointError::Closed));
    }
}

impl CheckpointContext<'_> {
    fn take(
        &self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        point: LogPoint,
    ) -> Result<CheckpointInfo, CheckpointError> {
        let board = &self.shared.checkpoint;
        board.enter(CheckpointPhase::Writing);
        let mut listed = list_snapshots(disk).map_err(|source| {
            let path = in_mem_snapshot::SNAPSHOTS_DIR.to_owned();
            CheckpointError::Write(SnapshotError::Io { path, source })
        })?;
        let highest = listed.last().copied().unwrap_or(0);
        let snapshot_id = highest.max(manifest.snapshot_id) + 1;
        let timestamp_us = self.shared.clock.wall_us();
        let size_bytes = self
            .write(disk, manifest, point, snapshot_id, timestamp_us)
            .map_err(|error| self.write_error(error))?;
        board.enter(CheckpointPhase::Publishing);
        publish_snapshot(disk, snapshot_id).map_err(|source| CheckpointError::Publish {
            snapshot_id,
            source,
        })?;
        let named = Manifest {
            snapshot_id,
            snapshot_watermark: point.version,
            ..manifest.clone()
        };
        match publish(disk, &named) {
            Ok(()) => *manifest = named,
            Err(error @ PublishError::Unchanged(_)) => {
                return Err(CheckpointError::Manifest(error));
            }
            Err(PublishError::Unknown(error)) => {
                let told = std::io::Error::new(error.kind(), error.to_string());
                self.shared.poison_at(Stage::Manifest, error);
                return Err(CheckpointError::Manifest(PublishError::Unknown(told)));
            }
        }
        listed.push(snapshot_id);
        remove_oldest(disk, &listed, snapshot_id);
        Ok(CheckpointInfo {
            watermark_txn: point.version,
            snapshot_id,
            timestamp_us,
            size_bytes,
        })
    }

    /// Steps 3 and 4; the length of the file.
    fn write(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        point: LogPoint,
        snapshot_id: u64,
        timestamp_us: u64,
    ) -> Result<u64, SnapshotError> {
        let store = &self.shared.store;
        let once = end_capture(store, point.version);
        let meta = SnapshotMeta {
            snapshot_id,
            watermark_txn: point.version,
            database_uuid: manifest.database_uuid,
            version_floor: store.sequencer.durable_floor(),
            codec_id: self.codec.codec_id().to_owned(),
        };
        let header = SnapshotHeader {
            timestamp_us,
            wal_offset: point.end_lsn,
            tx_count: point.record_count,
            section_count: u8::try_from(1 + self.registry.all().count())
                .expect("primitive ids are bytes above 0"),
        };
        let mut writer = SnapshotWriter::create(disk, &header, &meta, Arc::clone(self.codec))?;
        let view = SnapshotView::new(store, point.version);
        let written = self
            .section(disk, &mut writer, |sink| write_state(&once, sink))
            .and_then(|()| {
                drop(once);
                self.primitives(disk, &mut writer, &view)
            });
        let written = match written {
            Ok(()) => writer.finish(disk)?,
            Err(error) => {
                writer.abandon(disk);
                return Err(error);
            }
        };
        let board = &self.shared.checkpoint;
        board.enter(CheckpointPhase::Verifying);
        let path = temp_path(snapshot_id);
        let mut between = |disk: &mut dyn Disk, read_bytes| {
            board.verified_bytes.store(read_bytes, Ordering::Relaxed);
            prepare_spare(disk, self.spares);
        };
        let codec = Arc::clone(self.codec);
        let read = validate(disk, &path, OpenMode::ReadDirect, codec, &mut between);
        match read {
            Ok(found) if found == (header, meta) => Ok(written.len_bytes),
            Ok(_) => {
                in_mem_wal::files::remove_leftover(disk, &path);
                Err(SnapshotError::OtherDatabase { path })
            }
            Err(error) => {
                in_mem_wal::files::remove_leftover(disk, &path);
                Err(error)
            }
        }
    }

    fn primitives(
        &self,
        disk: &mut dyn Disk,
        writer: &mut SnapshotWriter,
        view: &SnapshotView<'_>,
    ) -> Result<(), SnapshotError> {
        for primitive in self.registry.all() {
            writer.begin_section(disk, primitive.primitive_type_id())?;
            self.section(disk, writer, |sink| {
                primitive.snapshot_serialize(view, sink)
            })?;
        }
        Ok(())
    }

    /// Fills the open section and ends it.
    fn section(
        &self,
        disk: &mut dyn Disk,
        writer: &mut SnapshotWriter,
        fill: impl FnOnce(&mut dyn BlockSink) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut sink = JobSink {
            context: self,
            disk,
            writer,
        };
        fill(&mut sink)?;
        sink.writer.end_section(sink.disk)
    }

    /// A walk that was cut short says why.
    fn write_error(&self, error: SnapshotError) -> CheckpointError {
        match self.shared.refuse_checkpoint() {
            Err(refused) => refused,
            Ok(()) => CheckpointError::Write(error),
        }
    }
}

/// Keeps the newest snapshots. What is not removed now is removed by the next checkpoint.
fn remove_oldest(disk: &mut dyn Disk, listed: &[u64], named: u64) {
    let kept_from = listed.len().saturating_sub(SNAPSHOT_RETENTION_COUNT);
    for &id in listed.iter().take(kept_from).filter(|id| **id != named) {
        if let Err(error) = remove_snapshot(disk, id) {
            tracing::warn!(target: "checkpoint", id, %error, "an old snapshot stays");
        }
    }
}

/// The writer as primitives see it.
struct JobSink<'a, 'c> {
    context: &'a CheckpointContext<'c>,
    disk: &'a mut dyn Disk,
    writer: &'a mut SnapshotWriter,
}

impl BlockSink for JobSink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let before = self.writer.len_bytes();
        self.writer.push(self.disk, bytes)?;
        let written = self.writer.len_bytes();
        if before == written {
            return Ok(());
        }
        let shared = self.context.shared;
        shared
            .checkpoint
            .written_bytes
            .store(written, Ordering::Relaxed);
        if shared.refuse_checkpoint().is_err() {
            return Err(SnapshotError::Io {
                path: self.writer.path().to_owned(),
                source: std::io::ErrorKind::Interrupted.into(),
            });
        }
        prepare_spare(self.disk, self.context.spares);
        Ok(())
    }
}
