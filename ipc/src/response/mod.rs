//! What the daemon answers: one result, or one error. What it pushes has the same body.
//!
//! A response is one rkyv archive, its root at the end of the body. The root is 32 bytes; results
//! that would not fit are boxed in the archive. Tags of enums are the position of the variant:
//! variants are only ever added at the end. Every answer to a write carries a [`Receipt`].

pub mod db;
pub mod kv;
pub mod observe;
pub mod retention;
pub mod run;
pub mod system;

use rkyv::bytecheck::CheckBytes;
use rkyv::with::AsBox;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::bytes::{Bytes, Text};
use crate::request::version::TaggedVersion;
use db::{CheckpointInfo, CompactInfo, ExportInfo, SnapshotInfo, Subscribed};
use kv::{BatchResult, Deleted, History, Incremented, Mismatch, Page, Replaced, Slot, Versioned};
use observe::{Description, HealthReport};
use retention::{Retention, RetentionStats};
use run::{RunBegun, RunPage, RunStatusReply, TxnBegun, TxnInfo};
use system::{Capabilities, ErrorBody, Info};

/// The level of durability a commit had reached when it was acknowledged.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum ReachedLevel {
    /// Nothing was committed: the write had no effect, or waits for the commit of its transaction.
    Nothing,
    /// In memory only.
    Volatile,
    /// The kernel has the record.
    Logged,
    /// The record is on disk.
    Synced,
}

/// The flavour of a version, beside its number.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum Flavour {
    /// A commit version.
    Txn,
    /// A position in an event log.
    Sequence,
    /// A write counter of a state cell.
    Counter,
}

/// What a write made. Of several entities written, the version is that of the commit.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the version written; 0 if nothing was committed.
    pub version: u64,
    /// Commit version; 0 if nothing was committed.
    pub commit_version: u64,
    /// Flavour of `version`.
    pub flavour: Flavour,
    /// What the commit survives from here on.
    pub level: ReachedLevel,
}

impl Receipt {
    /// The receipt of a write that committed nothing by itself: it changed nothing, or it waits
    /// for the commit of its transaction.
    pub const NOTHING: Self = Self {
        version: 0,
        commit_version: 0,
        flavour: Flavour::Txn,
        level: ReachedLevel::Nothing,
    };

    /// The receipt of a commit whose entities carry the commit version itself.
    #[must_use]
    pub const fn of_commit(commit_version: u64, level: ReachedLevel) -> Self {
        Self {
            version: commit_version,
            commit_version,
            flavour: Flavour::Txn,
            level,
        }
    }

    /// The version written, with its flavour.
    #[must_use]
    pub const fn tagged_version(&self) -> TaggedVersion {
        match self.flavour {
            Flavour::Txn => TaggedVersion::Txn(self.version),
            Flavour::Sequence => TaggedVersion::Sequence(self.version),
            Flavour::Counter => TaggedVersion::Counter(self.version),
        }
    }
}

/// One response.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum Response<'a> {
    /// It failed.
    Error(#[rkyv(with = AsBox)] ErrorBody<'a>),
    /// It is done and there is nothing to say.
    Done,
    /// A write, or the commit of a transaction.
    Written(Receipt),
    /// An encoded value.
    Value(Bytes<'a>),
    /// There is nothing there; not the same as the value Null.
    Missing,
    /// A value with its version and time.
    Versioned(#[rkyv(with = AsBox)] Versioned<'a>),
    /// Values and holes in the order asked.
    Values(Vec<Slot<'a>>),
    /// A yes or a no.
    Flag(bool),
    /// A number of things.
    Count(u64),
    /// Keys deleted.
    Deleted(#[rkyv(with = AsBox)] Deleted),
    /// An integer after an addition.
    Incremented(#[rkyv(with = AsBox)] Incremented),
    /// A condition did not hold; nothing was written.
    Mismatch(Mismatch),
    /// A value was replaced or deleted.
    Replaced(#[rkyv(with = AsBox)] Replaced<'a>),
    /// A page of keys.
    Page(Page<'a>),
    /// Versions of one key, newest first.
    History(History<'a>),
    /// A version.
    Version(TaggedVersion),
    /// A run was begun, or found.
    RunBegun(#[rkyv(with = AsBox)] RunBegun<'a>),
    /// The status of a run.
    RunStatus(RunStatusReply),
    /// The metadata of a run: the Object of `model::RunInfo`, encoded.
    Run(Bytes<'a>),
    /// A page of runs.
    Runs(RunPage<'a>),
    /// The id of a run.
    RunId([u8; 16]),
    /// A transaction was begun.
    TxnBegun(TxnBegun),
    /// A transaction, described.
    Txn(#[rkyv(with = AsBox)] TxnInfo),
    /// A batch was committed.
    Batch(#[rkyv(with = AsBox)] BatchResult),
    /// The state of the server.
    Info(#[rkyv(with = AsBox)] Info<'a>),
    /// What the server can do.
    Capabilities(#[rkyv(with = AsBox)] Capabilities<'a>),
    /// A subscription was made.
    Subscribed(Subscribed),
    /// Whether the server is fit, and what is wrong.
    Health(#[rkyv(with = AsBox)] HealthReport<'a>),
    /// Counters, gauges and histograms in the Prometheus text format, version 0.0.4.
    Metrics(Text<'a>),
    /// Everything about the server.
    Description(Box<Description<'a>>),
    /// A snapshot was taken.
    Checkpoint(#[rkyv(with = AsBox)] CheckpointInfo),
    /// A compaction is done.
    Compacted(#[rkyv(with = AsBox)] CompactInfo<'a>),
    /// The snapshots there are, the oldest first.
    Snapshots(Vec<SnapshotInfo<'a>>),
    /// The retention policy of a run.
    Retention(#[rkyv(with = AsBox)] Retention<'a>),
    /// How much history a run has, and what of it a policy lets go.
    RetentionStats(#[rkyv(with = AsBox)] RetentionStats<'a>),
    /// A clone was made.
    Exported(#[rkyv(with = AsBox)] ExportInfo<'a>),
}

impl ArchivedReceipt {
    /// The receipt, copied out of its archive.
    #[must_use]
    pub const fn to_native(&self) -> Receipt {
        Receipt {
            version: self.version.to_native(),
            commit_version: self.commit_version.to_native(),
            flavour: self.flavour,
            level: self.level,
        }
    }
}
