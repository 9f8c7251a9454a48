//! WALOnly compaction: letting go of the segments of the log that a snapshot has made superfluous.
//!
//! ```text
//! 1  read the newest snapshot, the one MANIFEST names, and check all of it
//! 2  the bound is the smallest wal_offset among it and the whole ones below it, which are kept
//!    for the day it cannot be read
//! 3  remove the segments below that of the bound, oldest first; sync WAL/
//! ```
//!
//! No version is removed: what can be read stays the same. A crash in the middle leaves left-over
//! segments, which recovery passes over and the next compaction removes.

use std::io;
use std::sync::mpsc;

use in_mem_snapshot::{SnapshotError, list_snapshots, snapshot_path, validate};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::faults::{self as wal_faults, Point};
use in_mem_wal::{Lsn, PoisonCause, files, names};

use crate::checkpoint::{CheckpointError, Errand, damage_of};
use crate::checkpoint_job::CheckpointContext;
use crate::database::Database;

/// What a compaction lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactMode {
    /// Segments of the log that a snapshot covers; no version of anything.
    WALOnly,
}

impl CompactMode {
    /// The name used in requests, replies and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WALOnly => "wal_only",
        }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactInfo {
    /// What it was to let go of.
    pub mode: CompactMode,
    /// Bytes of removed files.
    pub reclaimed_bytes: u64,
    /// Segments removed, count.
    pub wal_segments_removed: u64,
    /// Versions removed, count; 0 for WALOnly.
    pub versions_removed: u64,
    /// The watermark of the snapshot that MANIFEST names.
    pub snapshot_watermark: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// Why nothing, or not all, was let go of. What is readable is the same.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// There is no snapshot, so the log is all there is.
    #[error("there is no snapshot: take a checkpoint first")]
    NoSnapshot,
    /// A checkpoint, a compaction or an export is under way.
    #[error("a checkpoint, a compaction or an export is under way")]
    AlreadyInProgress,
    /// The database has no log, is closed, or was opened for reading only.
    #[error("compaction was refused")]
    Refused(#[source] CheckpointError),
    /// The log failed.
    #[error("the log has failed; reopen the database")]
    Poisoned(#[source] Option<PoisonCause>),
    /// The newest snapshot is not whole: every segment is kept.
    #[error("the newest snapshot cannot be read")]
    Snapshot(#[source] SnapshotError),
    /// The disk refused a step.
    #[error("input or output failed")]
    Io(#[source] io::Error),
}

impl CompactError {
    /// The file that is damaged, and the offset, bytes, if that is why.
    #[must_use]
    pub fn damage(&self) -> Option<(&str, u64)> {
        match self {
            Self::Snapshot(source) => damage_of(source),
            _ => None,
        }
    }
}

/// Called with what came of a compaction, on the background thread.
pub(crate) type CompactDone = Box<dyn FnOnce(Result<CompactInfo, CompactError>) + Send>;

impl Database {
    /// Lets go of what a snapshot has made superfluous, while reads and writes go on, and waits for
    /// it on the calling thread. Nothing that can be read changes. When it returns, the removal is
    /// durable.
    ///
    /// Not for a database built with `manual`: see [`Self::start_compaction`].
    ///
    /// # Errors
    /// See [`CompactError`].
    pub fn compact(&self, mode: CompactMode) -> Result<CompactInfo, CompactError> {
        let (sender, receiver) = mpsc::channel();
        self.start_compaction(
            mode,
            Box::new(move |result| {
                // The receiver waits below for as long as it takes.
                let _ = sender.send(result);
            }),
        )?;
        let closed = Err(CompactError::Refused(CheckpointError::Closed));
        receiver.recv().unwrap_or(closed)
    }

    /// Asks for a compaction and returns at once; `done` is called with what came of it, on the
    /// background thread. It must be short.
    ///
    /// # Errors
    /// When it is refused at once; `done` is not called then.
    pub fn start_compaction(
        &self,
        mode: CompactMode,
        done: Box<dyn FnOnce(Result<CompactInfo, CompactError>) + Send>,
    ) -> Result<(), CompactError> {
        self.ask_background(Errand::Compact(mode, done))
            .map_err(CompactError::from)
    }
}

impl From<CheckpointError> for CompactError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::AlreadyInProgress => Self::AlreadyInProgress,
            CheckpointError::Poisoned(cause) => Self::Poisoned(cause),
            error => Self::Refused(error),
        }
    }
}

impl CheckpointContext<'_> {
    /// Compacts the log of the snapshot that MANIFEST names.
    pub(crate) fn compact(
        &self,
        disk: &mut dyn Disk,
        mode: CompactMode,
        named: u64,
        database_uuid: [u8; 16],
    ) -> Result<CompactInfo, CompactError> {
        self.shared.refuse_checkpoint()?;
        let clock = &self.shared.clock;
        let (timestamp_us, started_us) = (clock.wall_us(), clock.monotonic_us());
        if named == 0 {
            return Err(CompactError::NoSnapshot);
        }
        let (bound, snapshot_watermark) = self.bound(disk, named, database_uuid)?;
        let (wal_segments_removed, reclaimed_bytes) =
            remove_below(disk, bound.segment()).map_err(CompactError::Io)?;
        Ok(CompactInfo {
            mode,
            reclaimed_bytes,
            wal_segments_removed,
            versions_removed: 0,
            snapshot_watermark,
            duration_ms: clock.monotonic_us().saturating_sub(started_us) / 1_000,
            timestamp_us,
        })
    }

    /// Where the log must begin, and the watermark of the named snapshot.
    fn bound(
        &self,
        disk: &mut dyn Disk,
        named: u64,
        database_uuid: [u8; 16],
    ) -> Result<(Lsn, u64), CompactError> {
        let look = |disk: &mut dyn Disk, id| {
            let path = snapshot_path(id);
            let codec = std::sync::Arc::clone(self.codec);
            let mut between = |disk: &mut dyn Disk, _| self.between_blocks(disk);
            let found = validate(disk, &path, OpenMode::ReadDirect, codec, &mut between)?;
            found
                .1
                .check(id, database_uuid, self.codec.codec_id(), None)?;
            Ok(found)
        };
        let (header, meta) = look(disk, named).map_err(CompactError::Snapshot)?;
        let mut bound = header.wal_offset;
        let listed = list_snapshots(disk).map_err(CompactError::Io)?;
        for id in listed.into_iter().filter(|id| *id < named) {
            match look(disk, id) {
                Ok((header, _)) => bound = bound.min(header.wal_offset),
                Err(error) => {
                    tracing::warn!(target: "compaction", id, %error, "no fallback");
                }
            }
        }
        Ok((bound, meta.watermark_txn))
    }
}

/// Removes the segments below `first`; how many they were, and their bytes.
pub(crate) fn remove_below(disk: &mut dyn Disk, first: u64) -> io::Result<(u64, u64)> {
    let listed = files::list(disk, names::WAL_DIR)?;
    let mut numbers: Vec<u64> = listed
        .iter()
        .filter_map(|name| names::parse_segment_name(name))
        .filter(|number| *number < first)
        .collect();
    numbers.sort_unstable();
    let mut reclaimed_bytes = 0;
    for number in &numbers {
        let path = names::segment_path(*number);
        let file = files::open(disk, &path, OpenMode::Read)?;
        let len = files::len(disk, file);
        files::close(disk, file);
        reclaimed_bytes += len?;
        wal_faults::pass(Point::DuringCompactionBeforeUnlink);
        files::unlink(disk, &path)?;
        wal_faults::pass(Point::DuringCompactionAfterUnlink);
    }
    if !numbers.is_empty() {
        files::sync_dir(disk, names::WAL_DIR)?;
    }
    Ok((numbers.len() as u64, reclaimed_bytes))
}
