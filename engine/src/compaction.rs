//! Compaction: letting go of what a snapshot has made superfluous. What a Full one does beyond the
//! log is in `full_compaction.rs`; WALOnly is this:
//!
//! ```text
//! 1  read the newest snapshot, the one MANIFEST names, and check all of it
//! 2  the bound is the smallest wal_offset among it and the whole ones below it, which are kept
//!    for the day it cannot be read
//! 3  remove the segments below that of the bound, oldest first; sync WAL/
//! ```
//!
//! No version is removed by that: what can be read stays the same. A crash in the middle leaves left-over
//! segments, which recovery passes over and the next compaction removes.

use std::io;
use std::sync::mpsc;

use in_mem_snapshot::{Manifest, SnapshotError, list_snapshots, snapshot_path, validate};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::faults::{self as wal_faults, Point};
use in_mem_wal::{Lsn, PoisonCause, files, names};

use crate::checkpoint::{CheckpointError, Errand, damage_of};
use crate::checkpoint_job::CheckpointContext;
use crate::database::Database;
use crate::recovery::len_of;
use crate::retention::PolicyError;
use crate::trim::HeldBack;

/// What a compaction lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactMode {
    /// Segments of the log that a snapshot covers; no version of anything.
    WALOnly,
    /// The versions that the retention policy of their run lets go, and then what WALOnly does.
    /// Takes a new snapshot for that.
    Full,
}

impl CompactMode {
    /// The name used in requests, replies and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WALOnly => "wal_only",
            Self::Full => "full",
        }
    }
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactInfo {
    /// What it was to let go of.
    pub mode: CompactMode,
    /// Bytes of removed files: segments of the log, and snapshots that were one too many.
    pub reclaimed_bytes: u64,
    /// Segments removed, count.
    pub wal_segments_removed: u64,
    /// Versions removed, count; 0 for WALOnly.
    pub versions_removed: u64,
    /// The watermark of the snapshot that MANIFEST names; in a dry run of Full that of the snapshot
    /// that would have been taken.
    pub snapshot_watermark: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// What is asked of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactRequest {
    /// What to let go of.
    pub mode: CompactMode,
    /// Counts what would go; removes nothing and writes nothing.
    pub is_dry_run: bool,
}

impl From<CompactMode> for CompactRequest {
    fn from(mode: CompactMode) -> Self {
        Self {
            mode,
            is_dry_run: false,
        }
    }
}

/// Files that were removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) segment_count: u64,
    pub(crate) len_bytes: u64,
}

/// Why nothing, or not all, was let go of. Every version that is kept reads as it did.
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
    /// The policy of a run is none this build knows: nothing may be removed under it.
    #[error("a retention policy cannot be read")]
    Retention(#[from] PolicyError),
    /// The compacted snapshot was not taken: nothing was removed. A disk that is full shows here.
    #[error("the compacted snapshot was not taken")]
    NotTaken(#[source] CheckpointError),
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
            Self::NotTaken(source) => source.damage(),
            _ => None,
        }
    }
}

/// Called with what came of a compaction, on the background thread.
pub(crate) type CompactDone = Box<dyn FnOnce(Result<CompactInfo, CompactError>) + Send>;

impl Database {
    /// Lets go of what is superfluous, while reads and writes go on, and waits for it on the calling
    /// thread: see [`CompactMode`]. When it returns, the removal is durable.
    ///
    /// WALOnly changes nothing that can be read. Full removes versions for good, of each run those
    /// that its policy let go at the watermark of the new snapshot; what is kept reads as before,
    /// with the same versions, and what is older is answered with `HistoryTrimmed`. Read views and
    /// open transactions that began before go on to see what they saw: if they have not ended within
    /// a second, their runs are left as they are, see [`Self::compaction_held_back`].
    ///
    /// Not for a database built with `manual`: see [`Self::start_compaction`].
    ///
    /// # Errors
    /// See [`CompactError`].
    pub fn compact(&self, request: impl Into<CompactRequest>) -> Result<CompactInfo, CompactError> {
        let (sender, receiver) = mpsc::channel();
        self.start_compaction(
            request,
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
        request: impl Into<CompactRequest>,
        done: Box<dyn FnOnce(Result<CompactInfo, CompactError>) + Send>,
    ) -> Result<(), CompactError> {
        self.ask_background(Errand::Compact(request.into(), done))
            .map_err(CompactError::from)
    }

    /// The runs that the last Full compaction, or its dry run, left as they were since someone was
    /// reading an older time of them; by id.
    #[must_use]
    pub fn compaction_held_back(&self) -> Vec<HeldBack> {
        self.inner.shared.checkpoint.held_back.lock().clone()
    }
}

impl From<CheckpointError> for CompactError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::AlreadyInProgress => Self::AlreadyInProgress,
            CheckpointError::Poisoned(cause) => Self::Poisoned(cause),
            error @ (CheckpointError::Write(_)
            | CheckpointError::Publish { .. }
            | CheckpointError::Manifest(_)) => Self::NotTaken(error),
            error => Self::Refused(error),
        }
    }
}

impl CheckpointContext<'_> {
    /// WALOnly.
    pub(crate) fn compact_log(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        is_dry_run: bool,
    ) -> Result<CompactInfo, CompactError> {
        self.shared.refuse_checkpoint()?;
        let clock = &self.shared.clock;
        let (timestamp_us, started_us) = (clock.wall_us(), clock.monotonic_us());
        let (removal, snapshot_watermark) = self.remove_segments(disk, manifest, is_dry_run)?;
        Ok(CompactInfo {
            mode: CompactMode::WALOnly,
            reclaimed_bytes: removal.len_bytes,
            wal_segments_removed: removal.segment_count,
            versions_removed: 0,
            snapshot_watermark,
            duration_ms: clock.monotonic_us().saturating_sub(started_us) / 1_000,
            timestamp_us,
        })
    }

    /// Removes the segments that no kept snapshot needs, or counts them; and the watermark of the
    /// snapshot that MANIFEST names.
    pub(crate) fn remove_segments(
        &self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        is_dry_run: bool,
    ) -> Result<(Removal, u64), CompactError> {
        if manifest.snapshot_id == 0 {
            return Err(CompactError::NoSnapshot);
        }
        let (bound, watermark) = self.bound(disk, manifest.snapshot_id, manifest.database_uuid)?;
        let removal = remove_below(disk, bound.segment(), is_dry_run);
        Ok((removal.map_err(CompactError::Io)?, watermark))
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

/// Removes the segments below `first`, or counts them.
pub(crate) fn remove_below(
    disk: &mut dyn Disk,
    first: u64,
    is_dry_run: bool,
) -> io::Result<Removal> {
    let listed = files::list(disk, names::WAL_DIR)?;
    let mut numbers: Vec<u64> = listed
        .iter()
        .filter_map(|name| names::parse_segment_name(name))
        .filter(|number| *number < first)
        .collect();
    numbers.sort_unstable();
    let mut len_bytes = 0;
    for number in &numbers {
        let path = names::segment_path(*number);
        len_bytes += len_of(disk, &path)?;
        if !is_dry_run {
            wal_faults::pass(Point::DuringCompactionBeforeUnlink);
            files::unlink(disk, &path)?;
            wal_faults::pass(Point::DuringCompactionAfterUnlink);
        }
    }
    if !numbers.is_empty() && !is_dry_run {
        files::sync_dir(disk, names::WAL_DIR)?;
    }
    Ok(Removal {
        segment_count: numbers.len() as u64,
        len_bytes,
    })
}
