//! Snapshots of the database: taking one, letting go of the log it covers, and which there are.
//!
//! A server takes checkpoints by itself; asking for one makes its next start short now. Nobody
//! waits for any of this but who asks: reads and writes of all clients go on.
//!
//! ```no_run
//! use in_mem_client::{Client, CompactMode};
//!
//! # fn main() -> Result<(), in_mem_client::ClientError> {
//! let client = Client::builder().silence_max(None).connect()?;
//! let taken = client.checkpoint()?;
//! let compacted = client.compact(CompactMode::WalOnly)?;
//! println!("snapshot {}, {} bytes of log less", taken.snapshot_id, compacted.reclaimed_bytes);
//! # Ok(())
//! # }
//! ```

use in_mem_ipc::request::Operation;
use in_mem_ipc::request::db::{Compact, DeleteSnapshot};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_ipc::response::db::ArchivedSnapshotInfo;

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::error::{self, ClientError};

/// What a compaction lets go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactMode {
    /// Segments of the log that every kept snapshot covers; no version of anything.
    WalOnly,
    /// The versions that the retention policy of their run lets go, and then what `WalOnly` does.
    /// Takes a new snapshot for that. What goes is gone for good: a read of it ends with
    /// `HistoryTrimmed`, and every version that stays reads as before. Runs without a policy keep
    /// everything.
    Full,
}

impl CompactMode {
    /// Its name in requests and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WalOnly => "wal_only",
            Self::Full => "full",
        }
    }
}

/// A snapshot that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// The number of the snapshot.
    pub snapshot_id: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactInfo {
    /// What it let go of, by name.
    pub mode: String,
    /// Bytes of removed files.
    pub reclaimed_bytes: u64,
    /// Segments of the log that were removed.
    pub wal_segments_removed: u64,
    /// Versions that were removed; 0 for `wal_only`.
    pub versions_removed: u64,
    /// The watermark of the snapshot that was compacted to.
    pub snapshot_watermark: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its number.
    pub snapshot_id: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark: u64,
    /// When it was begun, microseconds since the epoch.
    pub created_at_us: u64,
    /// Its length, bytes.
    pub size_bytes: u64,
    /// Where it lies, inside the data directory of the server.
    pub path: String,
}

impl Client {
    /// Has the server write a snapshot of everything that logged commits have made, those
    /// acknowledged before the call included. When this returns, the snapshot is durable and the
    /// next start of the server begins with it. Takes as long as its bytes take to be written and
    /// read back; a client that bears no such silence ([`crate::ClientBuilder::silence_max`]) is
    /// told `timeout`, and the server goes on.
    ///
    /// # Errors
    ///
    /// `already_in_progress` while a checkpoint or a compaction is under way; `unavailable` while
    /// nothing is logged; `read_only`; `wal_poisoned` or `unavailable` after the log has failed;
    /// `resource_exhausted` when the disk is full; `not_in_transaction`; or the server is lost. The
    /// snapshot before is then as it was, and so is the log.
    pub fn checkpoint(&self) -> Result<CheckpointInfo, ClientError> {
        self.scope().call(Operation::DbCheckpoint, checkpoint)
    }

    /// Has the server let go of what is superfluous: see [`CompactMode`]. Reads and writes of all
    /// clients go on. When this returns, what was removed is gone for good. A Full one leaves runs
    /// alone in which a read view or a transaction that began before it has not ended within a
    /// second.
    ///
    /// # Errors
    ///
    /// `no_snapshot` before the first checkpoint, for `WalOnly`; `invalid_argument` for a mode this server does
    /// not know; `damage` when the newest snapshot is not whole; else as [`Self::checkpoint`].
    pub fn compact(&self, mode: CompactMode) -> Result<CompactInfo, ClientError> {
        let mode = mode.name().into();
        self.scope()
            .call(Operation::DbCompact(Compact { mode }), compacted)
    }

    /// The snapshots in the data directory of the server, the oldest first. The next start begins
    /// with the newest; the one below it is kept for the day that cannot be read.
    ///
    /// # Errors
    ///
    /// One of them is damaged, or the server is lost.
    pub fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, ClientError> {
        self.scope().call(Operation::DbListSnapshots, snapshots)
    }

    /// Has the server remove a snapshot; false if there was none of that number. When this returns,
    /// it is gone for good.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the newest one, which is never removed; else as [`Self::checkpoint`].
    pub fn delete_snapshot(&self, snapshot_id: u64) -> Result<bool, ClientError> {
        let operation = Operation::DbDeleteSnapshot(DeleteSnapshot { snapshot_id });
        self.scope().call(operation, answer::flag)
    }
}

fn checkpoint(answer: &Answer) -> Result<CheckpointInfo, ClientError> {
    let ArchivedResponse::Checkpoint(info) = answer else {
        return wrong(answer);
    };
    Ok(CheckpointInfo {
        watermark_txn: info.watermark_txn.to_native(),
        snapshot_id: info.snapshot_id.to_native(),
        timestamp_us: info.timestamp_us.to_native(),
        size_bytes: info.size_bytes.to_native(),
    })
}

fn compacted(answer: &Answer) -> Result<CompactInfo, ClientError> {
    let ArchivedResponse::Compacted(info) = answer else {
        return wrong(answer);
    };
    Ok(CompactInfo {
        mode: info.mode.as_str().to_owned(),
        reclaimed_bytes: info.reclaimed_bytes.to_native(),
        wal_segments_removed: info.wal_segments_removed.to_native(),
        versions_removed: info.versions_removed.to_native(),
        snapshot_watermark: info.snapshot_watermark.to_native(),
        duration_ms: info.duration_ms.to_native(),
        timestamp_us: info.timestamp_us.to_native(),
    })
}

fn snapshots(answer: &Answer) -> Result<Vec<SnapshotInfo>, ClientError> {
    let ArchivedResponse::Snapshots(snapshots) = answer else {
        return wrong(answer);
    };
    let snapshot = |info: &ArchivedSnapshotInfo<'static>| SnapshotInfo {
        snapshot_id: info.snapshot_id.to_native(),
        watermark: info.watermark.to_native(),
        created_at_us: info.created_at_us.to_native(),
        size_bytes: info.size_bytes.to_native(),
        path: info.path.as_str().to_owned(),
    };
    Ok(snapshots.iter().map(snapshot).collect())
}

fn wrong<T>(answer: &Answer) -> Result<T, ClientError> {
    answer::done(answer).and_then(|()| Err(error::wrong_shape()))
}
