//! What the log tells its owner, and the state it reports to everyone.
//!
//! The sink is called on the log thread only, with no lock held, in log order. Every token given
//! to `append` comes back exactly once: through `reached` or through `failed`.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::lsn::Lsn;

/// What a record must have reached before its token is handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing more than the append itself: its promise is met when `append` returns. The token
    /// still comes back through [`Sink::reached`] when the kernel has the bytes.
    Queued,
    /// The kernel has the bytes: they survive the death of this process.
    Written,
    /// A sync that covers the record and every earlier one has returned success.
    Synced,
}

/// The owner's side of the log, called on the log thread. Calls must be short: the next batch
/// waits for them. A call may reserve and append (such a record goes into the next batch); it must
/// never wait for the log, which waits for it.
pub trait Sink<T> {
    /// The record of `token` has met its [`Need`]; it ends at `end_lsn`.
    fn reached(&mut self, token: T, end_lsn: Lsn);

    /// All calls for one batch have been made: wake whoever collects them.
    fn batch_end(&mut self) {}

    /// Everything below `durable_lsn` is durable: every record up to and with that of
    /// `txn_id_highest`. No record at or below it can follow, for they come rising. Called after
    /// the `reached` calls it covers.
    fn durable(&mut self, durable_lsn: Lsn, txn_id_highest: u64) {
        let _ = (durable_lsn, txn_id_highest);
    }

    /// A `reserve` that was refused as busy or without space may succeed now, or say why it never
    /// will: called also after the log has failed.
    fn space_freed(&mut self) {}

    /// `segment` is the active segment now; the MANIFEST hint may follow in the background.
    fn rotated(&mut self, segment: u64) {
        let _ = segment;
    }

    /// A mark that states `version_floor` is durable: versions up to it may be issued.
    fn floor_durable(&mut self, version_floor: u64) {
        let _ = version_floor;
    }

    /// The log has failed for good; called once, before the `failed` calls.
    fn poisoned(&mut self, cause: &PoisonCause);

    /// The record of `token` will never meet its need. Whether it is in the log is unknown until
    /// the next open.
    fn failed(&mut self, token: T);
}

/// What the log was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Encoding a writeset for a batch.
    Encode,
    /// Writing a batch.
    Write,
    /// Syncing the active segment.
    Sync,
    /// Renaming a spare into place.
    RotateRename,
    /// Syncing the log directory after a rename.
    RotateSyncDir,
    /// Taking the next segment although none was ready: a broken promise of the admission.
    RotateNoSpare,
    /// Replacing MANIFEST: after the rename nobody knows which of the two a power cut leaves.
    Manifest,
    /// A commit broke off between its version and its install.
    Commit,
}

impl Stage {
    /// The name used in logs, metrics and status lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::RotateRename => "rotate_rename",
            Self::RotateSyncDir => "rotate_sync_dir",
            Self::RotateNoSpare => "rotate_no_spare",
            Self::Manifest => "manifest",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a log takes no more writes until it is reopened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("log failed at {stage}, position {at}: {source}")]
pub struct PoisonCause {
    /// What it was doing.
    pub stage: Stage,
    /// Where the log stood.
    pub at: Lsn,
    /// What the kernel, or the codec, said.
    pub source: Arc<io::Error>,
}

/// Whether the log takes records.
#[derive(Debug, Clone)]
pub enum LogStatus {
    /// It does.
    Open,
    /// Closing or closed on purpose.
    Closed,
    /// Failed for good; reopen the database.
    Poisoned(PoisonCause),
}
