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
//! 7  remove the oldest snapshots, and those that MANIFEST never named
//! ```
//!
//! Steps 1 and 2 are polled; nobody is stopped for any step. From step 3 on the job has the thread
//! to itself, and after each block it does what else is due, so that the log never waits for a
//! spare segment because of a checkpoint.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_snapshot::{
    BlockSink, Manifest, PublishError, SnapshotError, SnapshotHeader, SnapshotMeta, SnapshotWriter,
    list_snapshots, publish, publish_snapshot, remove_snapshot, snapshot_path, temp_path, validate,
};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::faults::{self as wal_faults, Point};
use in_mem_wal::spares::{Spares, prepare_spare};
use in_mem_wal::{LogConfig, Stage, StorageCodec, files};

use crate::checkpoint::{
    CheckpointDone, CheckpointError, CheckpointInfo, CheckpointPhase, LogPoint,
};
use crate::compaction::remove_below;
use crate::faults::Mutant;
use crate::limits::SNAPSHOT_RETENTION_COUNT;
use crate::once_image::{begin_capture, end_capture, give_up_capture, write_state};
use crate::recovery::len_of;
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;
use crate::snapshot_view::SnapshotView;
use crate::snapshots::NewestSnapshot;
use crate::trim::TrimPlan;

/// A checkpoint that waits for its watermark.
pub(crate) struct CheckpointJob {
    done: CheckpointDone,
    freeze: Freeze,
}

/// The wait for a position up to which everything is durable and published, and behind everything
/// that had been committed when it began.
pub(crate) struct Freeze {
    /// Versions that were in a record when it began.
    logged_highest: u64,
    pub(crate) point: Option<LogPoint>,
}

impl Freeze {
    /// Asks the log for a sync.
    pub(crate) fn begin(shared: &Shared) -> Self {
        if let Some(log) = shared.log.get() {
            // It is polled by what it makes durable.
            let _ = log.flush_start();
        }
        Self {
            logged_highest: shared.durable.logged_highest(),
            point: None,
        }
    }

    /// True when the position is known, or will never be.
    pub(crate) fn is_over(&mut self, shared: &Shared) -> bool {
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

    /// The position, unless the database was closed or its log has failed.
    pub(crate) fn point(&self, shared: &Shared) -> Result<LogPoint, CheckpointError> {
        shared.refuse_checkpoint()?;
        self.point.ok_or(CheckpointError::Closed)
    }
}

/// A snapshot that was taken, and what that made superfluous.
pub(crate) struct Taken {
    pub(crate) info: CheckpointInfo,
    /// Of snapshots that were removed, bytes.
    pub(crate) removed_bytes: u64,
}

/// What a checkpoint works with.
pub(crate) struct CheckpointContext<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) registry: &'a PrimitiveRegistry,
    pub(crate) codec: &'a Arc<dyn StorageCodec>,
    /// Of the log that goes on meanwhile; none when there is none.
    pub(crate) spares: Option<&'a Spares>,
    pub(crate) log_config: LogConfig,
}

impl CheckpointJob {
    /// Step 1.
    pub(crate) fn begin(shared: &Shared, done: CheckpointDone) -> Self {
        shared.checkpoint.enter(CheckpointPhase::Syncing);
        // Any number but 0: there is one checkpoint at a time.
        begin_capture(&shared.store, 1);
        Self {
            done,
            freeze: Freeze::begin(shared),
        }
    }

    /// Step 2: true when the watermark is known, or will never be.
    pub(crate) fn is_ready(&mut self, shared: &Shared) -> bool {
        self.freeze.is_over(shared)
    }

    /// Steps 3 to 7, and tells what came of it.
    pub(crate) fn run(
        self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
    ) {
        let point = self.freeze.point(context.shared);
        let result = point.and_then(|point| context.take(disk, manifest, point, None));
        let result = result.map(|taken| taken.info);
        give_up_capture(&context.shared.store);
        match &result {
            Ok(info) => tracing::info!(
                target: "checkpoint",
                id = info.snapshot_id,
                watermark = info.watermark_txn,
                size_bytes = info.size_bytes,
                "snapshot taken"
            ),
            Err(error) => tracing::debug!(target: "checkpoint", %error, "no snapshot was taken"),
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
    /// Steps 3 to 7, without what `plan` lets go.
    pub(crate) fn take(
        &self,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        point: LogPoint,
        plan: Option<&TrimPlan>,
    ) -> Result<Taken, CheckpointError> {
        let (board, planted) = (&self.shared.checkpoint, self.shared.planted);
        board.enter(CheckpointPhase::Writing);
        let listed = list_snapshots(disk).map_err(|source| {
            let path = in_mem_snapshot::SNAPSHOTS_DIR.to_owned();
            CheckpointError::Write(SnapshotError::Io { path, source })
        })?;
        let (highest, previous) = (listed.last().copied(), manifest.snapshot_id);
        let snapshot_id = highest.unwrap_or(0).max(previous) + 1;
        let timestamp_us = self.shared.clock.wall_us();
        let size_bytes = self
            .write(disk, manifest, (point, plan), snapshot_id, timestamp_us)
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
        if planted.is(Mutant::SegmentsDroppedBeforeManifest) {
            let _ = remove_below(disk, point.end_lsn.segment(), false);
        }
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
        let info = CheckpointInfo {
            watermark_txn: point.version,
            snapshot_id,
            timestamp_us,
            size_bytes,
        };
        *board.newest.lock() = Some(NewestSnapshot {
            info,
            wal_offset: point.end_lsn,
        });
        wal_faults::pass(Point::DuringSnapshotAfterManifest);
        let removed_bytes = remove_superfluous(disk, &listed, previous, snapshot_id);
        Ok(Taken {
            info,
            removed_bytes,
        })
    }

    /// Steps 3 and 4; the length of the file.
    pub(crate) fn write(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        (point, plan): (LogPoint, Option<&TrimPlan>),
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
        let planted = self.shared.planted;
        let view = match planted.is(Mutant::SnapshotWithoutWatermark) {
            true => SnapshotView::new(store, u64::MAX),
            false => SnapshotView::new(store, point.version),
        };
        let view = view.trimmed_by(plan);
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
        board
            .written_bytes
            .store(written.len_bytes, Ordering::Relaxed);
        self.read_back(disk, header, meta)?;
        Ok(written.len_bytes)
    }

    /// Step 4, behind the sync: what was written is what the disk has.
    fn read_back(
        &self,
        disk: &mut dyn Disk,
        header: SnapshotHeader,
        meta: SnapshotMeta,
    ) -> Result<(), SnapshotError> {
        let board = &self.shared.checkpoint;
        board.enter(CheckpointPhase::Verifying);
        let path = temp_path(meta.snapshot_id);
        let mut between = |disk: &mut dyn Disk, read_bytes| {
            board.verified_bytes.store(read_bytes, Ordering::Relaxed);
            self.between_blocks(disk)
        };
        let codec = Arc::clone(self.codec);
        let error = match validate(disk, &path, OpenMode::ReadDirect, codec, &mut between) {
            Ok(found) if found == (header, meta) => return Ok(()),
            Ok(_) => SnapshotError::OtherDatabase { path: path.clone() },
            Err(error) => error,
        };
        files::remove_leftover(disk, &path);
        Err(error)
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

    /// Does what else is due; ends the job when the database is closed or the log has failed.
    pub(crate) fn between_blocks(&self, disk: &mut dyn Disk) -> ControlFlow<()> {
        if let Some(spares) = self.spares {
            prepare_spare(disk, spares);
        }
        match self.shared.refuse_checkpoint() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// A walk that was cut short says why.
    fn write_error(&self, error: SnapshotError) -> CheckpointError {
        match self.shared.refuse_checkpoint() {
            Err(refused) => refused,
            Ok(()) => CheckpointError::Write(error),
        }
    }
}

/// Keeps the newest snapshots that MANIFEST has named, the one it names now included, and removes
/// what was never named; the bytes of what was removed. What is not removed now is removed by the
/// next checkpoint.
fn remove_superfluous(disk: &mut dyn Disk, listed: &[u64], previous: u64, named: u64) -> u64 {
    let (was_named, never_named) = listed.split_at(listed.partition_point(|id| *id <= previous));
    let kept_count = (SNAPSHOT_RETENTION_COUNT - 1).min(was_named.len());
    let old = was_named.iter().take(was_named.len() - kept_count);
    let mut removed_bytes = 0;
    for &id in old.chain(never_named).filter(|id| **id != named) {
        let len = len_of(disk, &snapshot_path(id)).unwrap_or(0);
        match remove_snapshot(disk, id) {
            Ok(()) => removed_bytes += len,
            Err(error) => {
                tracing::warn!(target: "checkpoint", id, %error, "a superfluous snapshot stays");
            }
        }
    }
    removed_bytes
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
        wal_faults::pass(Point::DuringSnapshotWrite);
        let written = self.writer.len_bytes();
        if before == written {
            return Ok(());
        }
        let shared = self.context.shared;
        shared
            .checkpoint
            .written_bytes
            .store(written, Ordering::Relaxed);
        match self.context.between_blocks(self.disk) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Io {
                path: self.writer.path().to_owned(),
                source: std::io::ErrorKind::Interrupted.into(),
            }),
        }
    }
}
