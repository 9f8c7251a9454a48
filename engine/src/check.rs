//! Examining the files of a database that nobody has open for writing: what is damaged, and what
//! of the state can still be read. Nothing is changed.
//!
//! Every snapshot is read whole, and every segment of the log on its own, also behind damage. The
//! state is read as a recovery would, except that the log ends at its first damage instead of being
//! refused (`salvage.rs`).

use in_mem_model::RunId;
use in_mem_wal::recover::SegmentSeen;

use crate::builder::DatabaseBuilder;
use crate::errors::OpenError;
use crate::logical_digest::{StateCounts, StateDigest};
use crate::salvage::salvage;

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The identity of the database.
    pub database_uuid: [u8; 16],
    /// What is damaged; empty when the database is sound and opens as it is.
    pub faults: Vec<Finding>,
    /// What crashes leave behind, and the next open or checkpoint clears away.
    pub notes: Vec<Finding>,
    /// The snapshots that are whole, ascending.
    pub snapshots: Vec<CheckedSnapshot>,
    /// The segments of the log, ascending.
    pub segments: Vec<SegmentSeen>,
    /// The state up to the first damage; none when nothing can be read.
    pub state: Option<CheckedState>,
    /// What is not in that state though it was committed; none when nothing is known to be lost.
    pub loss: Option<Loss>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the directory.
    pub path: String,
    /// Where in it, bytes from its start, if that is known.
    pub offset: Option<u64>,
    /// What, for people.
    pub what: String,
}

/// A snapshot that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedSnapshot {
    /// Its number.
    pub snapshot_id: u64,
    /// Every logged commit at or below it is inside.
    pub watermark_txn: u64,
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
    /// MANIFEST names it.
    pub is_named: bool,
}

/// What could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedState {
    /// Its digest; the watermark is the last commit in it.
    pub digest: StateDigest,
    /// How much it is.
    pub counts: StateCounts,
    /// The snapshot it begins with; 0 for none.
    pub snapshot_used: u64,
    /// Records of the log behind that snapshot, count.
    pub records_applied: u64,
}

/// Committed versions that cannot be read in order, and are therefore not in the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Records that still stand whole behind the damage, count. What the damaged bytes held comes
    /// on top and cannot be told.
    pub record_count: u64,
    /// The last commit version that is kept: everything above it is lost.
    pub after_version: u64,
    /// The highest commit version that is known to have been there.
    pub last_version: u64,
    /// The runs of those records, ascending.
    pub runs: Vec<RunId>,
}

impl CheckReport {
    /// True when nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

impl DatabaseBuilder {
    /// Examines the database at the path, reading all of its files, and changes nothing: see
    /// [`Self::read_only`] for how the directory is locked. The state is read into memory, as by an
    /// open.
    ///
    /// # Errors
    /// When there is no database, somebody has it open for writing, a newer build has written it, or
    /// the kernel refuses to read. Damage is no error: it is in the report.
    pub fn check(self) -> Result<CheckReport, OpenError> {
        Ok(salvage(self.setup()?)?.report)
    }
}
