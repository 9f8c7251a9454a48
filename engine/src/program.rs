//! What a commit is asked to do, and what it answers.
//!
//! A [`Program`] is a list of read checks and steps on one run, evaluated as a whole inside the
//! run's critical section: a single operation is a program of one step, so a contended increment
//! or compare-and-swap sees the newest version, pending ones included, and never surfaces a
//! conflict by itself. Programs borrow keys and values: a caller that is told to come back later
//! still holds them.

use std::sync::Arc;

use in_mem_model::{Durability, Level, ValueRef};
use in_mem_wal::LogObserved;

use crate::errors::CommitError;
use crate::expiry::Lifetime;
use crate::run_change::RunChange;

/// One commit, not yet decided.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// What must still hold. A check that fails is a conflict.
    pub checks: &'a [ReadCheck<'a>],
    /// What to do, in order; a later step sees the earlier ones. With more than one step a
    /// condition that does not hold is a conflict and nothing is done; with exactly one it is a
    /// normal negative answer.
    pub steps: &'a [Step<'a>],
}

/// A key that was read, and what must still be true of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCheck<'a> {
    /// The user key.
    pub key: &'a [u8],
    /// What was seen.
    pub seen: Seen,
}

/// What a read saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// This commit version; 0 for a key that never existed.
    Version(u64),
    /// Nothing newer than this commit version.
    NotAfter(u64),
}

/// One step of a program. Keys are user keys of KV and are validated when the program is
/// prepared; values are validated already.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Writes the value whatever was there.
    Put {
        /// The user key.
        key: &'a [u8],
        /// The encoded value.
        value: ValueRef<'a>,
    },
    /// The same, of an entry that expires.
    PutExpiring {
        /// The user key.
        key: &'a [u8],
        /// The encoded value.
        value: ValueRef<'a>,
        /// How long it lives.
        lifetime: Lifetime,
    },
    /// Deletes the key; a missing key stays as it is.
    Delete {
        /// The user key.
        key: &'a [u8],
    },
    /// Writes the value if the key never existed or is deleted.
    PutIfAbsent {
        /// The user key.
        key: &'a [u8],
        /// The encoded value.
        value: ValueRef<'a>,
    },
    /// Writes the value if the key's newest commit version is as expected. An earlier step of the
    /// program on the same key has no version yet: a version is compared with what is stored,
    /// while `Absent`, like every other condition, sees what that step leaves.
    CasVersion {
        /// The user key.
        key: &'a [u8],
        /// What the key must be.
        expected: Expected,
        /// The encoded value.
        value: ValueRef<'a>,
    },
    /// Writes the value if the key's newest value equals `expected`; `None` expects no value.
    CasValue {
        /// The user key.
        key: &'a [u8],
        /// The encoded value that must be there.
        expected: Option<ValueRef<'a>>,
        /// The encoded value to write.
        value: ValueRef<'a>,
    },
    /// Adds to an Int; a missing key counts from 0. When it expires stays as it is, as with
    /// [`Step::Decrement`].
    Increment {
        /// The user key.
        key: &'a [u8],
        /// What to add.
        delta: i64,
    },
    /// Subtracts from an Int; a missing key counts from 0.
    Decrement {
        /// The user key.
        key: &'a [u8],
        /// What to subtract.
        delta: i64,
    },
    /// Writes the value and answers with the one before.
    GetAndSet {
        /// The user key.
        key: &'a [u8],
        /// The encoded value.
        value: ValueRef<'a>,
    },
    /// Deletes the key and answers with the value before.
    GetAndDelete {
        /// The user key.
        key: &'a [u8],
    },
    /// Makes the value the retention policy of the run; [`crate::policy_value`] makes it.
    SetRetention(ValueRef<'a>),
    /// Takes the run's own retention policy away; without one everything stays as it is.
    ClearRetention,
    /// Changes the run itself. At most one in a program.
    Run(&'a RunChange),
}

impl Step<'_> {
    /// Whether it changes what governs the run: never volatile where others are durable.
    pub(crate) fn is_retention(&self) -> bool {
        matches!(self, Self::SetRetention(_) | Self::ClearRetention)
    }
}

/// The version a compare-and-swap expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This commit version: 0 for never existed, a tombstone's version for that tombstone.
    Version(u64),
    /// Never existed, or deleted.
    Absent,
}

/// What one step answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It wrote.
    Written,
    /// A delete; false when there was nothing to delete and nothing was written.
    Deleted(bool),
    /// The sum or difference, written.
    Incremented(i64),
    /// The encoded value before, if there was one.
    Previous(Option<Vec<u8>>),
    /// A single step's condition did not hold, and nothing was written.
    Mismatch(Actual),
}

/// What a compare-and-swap found instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actual {
    /// The newest commit version of the key; 0 when it never existed.
    pub version: u64,
    /// True when that version is a tombstone, or the key never existed.
    pub is_absent: bool,
}

/// A decided program. Everything it says is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The commit version; 0 when nothing was written.
    pub version: u64,
    /// The commit's time, microseconds since the epoch; 0 when nothing was written.
    pub timestamp_us: u64,
    /// The promise that was met before this answer.
    pub level: Level,
    /// What each step answered, in order.
    pub steps: StepOutcomes,
}

impl Outcome {
    /// Of a commit that had nothing to write.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            version: 0,
            timestamp_us: 0,
            level: Level::Volatile,
            steps: StepOutcomes::Many(Vec::new()),
        }
    }
}

/// The answers of a program's steps; one answer needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcomes {
    /// Of a program of one step.
    One(StepOutcome),
    /// Of any other, in order.
    Many(Vec<StepOutcome>),
    /// Of a repeated request whose answers were too long to be kept one by one; see
    /// [`ONCE_RESULT_LEN_BYTES_MAX`](crate::limits::ONCE_RESULT_LEN_BYTES_MAX).
    Counted {
        /// Keys that existed and were deleted.
        deleted_count: u32,
    },
}

impl StepOutcomes {
    /// The answers in order; none where only their counts were kept.
    #[must_use]
    pub fn as_slice(&self) -> &[StepOutcome] {
        match self {
            Self::One(outcome) => std::slice::from_ref(outcome),
            Self::Many(outcomes) => outcomes,
            Self::Counted { .. } => &[],
        }
    }
}

/// Where the answer of a commit goes that is not decided at once.
///
/// Called without any lock of the engine held, on the log thread or on the thread of another
/// committer: enqueue and wake, do no work. A panic of `complete` is caught and logged; the answer
/// counts as given.
pub trait CompletionSink: Send + Sync {
    /// The program submitted with `token` is decided, and its effect published.
    fn complete(&self, token: u64, result: Result<Outcome, CommitError>);

    /// There is a log now, and nothing is in it yet: what its thread will note. Not called for the
    /// log of a database that had one when it was opened.
    fn log_started(&self, observed: &Arc<LogObserved>) {
        let _ = observed;
    }

    /// All completions of one log batch have been made: wake whoever collects them.
    fn batch_end(&self) {}

    /// Every logged commit at or below `version` is durable. Called on the log thread after each
    /// sync that covered a record, with versions that never go back; the same one may come twice.
    fn durable(&self, version: u64) {
        let _ = version;
    }

    /// A program that was handed back as [`Submitted::Busy`] may be admitted now.
    fn space_available(&self) {}
}

/// Names one submitted program to its sink.
#[derive(Clone)]
pub struct Completion {
    /// Who collects the answer.
    pub sink: Arc<dyn CompletionSink>,
    /// Chosen by the caller.
    pub token: u64,
}

/// What became of a submitted program.
#[derive(Debug)]
pub enum Submitted {
    /// Decided; the completion is not called.
    Done(Result<Outcome, CommitError>),
    /// Committed or answered, and waiting for its promise: the completion is called exactly once.
    Pending,
    /// The log has no room at the moment; nothing was done. Submit again after
    /// [`CompletionSink::space_available`].
    Busy,
}

/// How a program is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitOptions {
    /// Instead of the database's default.
    pub durability: Option<Durability>,
}
