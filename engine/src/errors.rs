//! The typed errors of the engine: one enum per operation. Each variant says what a caller can act
//! on; a commit error also says whether the effect can still appear.

use std::io;

use in_mem_model::keys::KeyError;
use in_mem_model::{RunId, RunStatus, ValueError};
use in_mem_wal::PoisonCause;

/// Why a commit did not happen, or cannot be told to have happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The key is not allowed.
    #[error("invalid key")]
    InvalidKey(#[from] KeyError),
    /// The value is not allowed.
    #[error("invalid value")]
    InvalidValue(#[from] ValueError),
    /// Something read or expected has changed. Reading again and retrying may help.
    #[error("conflict on a key of {run}")]
    Conflict {
        /// The run.
        run: RunId,
        /// The user key.
        key: Vec<u8>,
        /// What kind of expectation failed.
        kind: ConflictKind,
        /// The commit version expected, if it was one.
        expected: Option<u64>,
        /// The newest commit version.
        actual: u64,
    },
    /// The value has another type than the operation works on.
    #[error("value is {actual}, not {expected}")]
    WrongType {
        /// The type the operation works on.
        expected: &'static str,
        /// The type found.
        actual: &'static str,
    },
    /// A sum would leave the range of i64, or the versions are used up.
    #[error("{operation} would overflow at {value}")]
    Overflow {
        /// What was done.
        operation: &'static str,
        /// The number it was done to.
        value: i64,
    },
    /// No such run.
    #[error("run {run} does not exist")]
    RunNotFound {
        /// The run.
        run: RunId,
    },
    /// The run takes no writes.
    #[error("run {run} is {}", status.name())]
    RunClosed {
        /// The run.
        run: RunId,
        /// Its status.
        status: RunStatus,
    },
    /// The status cannot change that way.
    #[error("run {run} cannot go from {} to {}", from.name(), to.name())]
    InvalidTransition {
        /// The run.
        run: RunId,
        /// Its status.
        from: RunStatus,
        /// The status asked for.
        to: RunStatus,
    },
    /// The run, or its name, exists.
    #[error("run name is taken by {run}")]
    AlreadyExists {
        /// Who has it.
        run: RunId,
    },
    /// A parameter is outside what the operation allows.
    #[error("invalid argument: {what}")]
    InvalidArgument {
        /// Which one and why, in a few words.
        what: &'static str,
    },
    /// The sequence named another request before, which was committed. This one was not executed.
    #[error("request sequence {sequence} was used for another request")]
    OtherRequest {
        /// The sequence.
        sequence: u64,
    },
    /// The answer to the request, if it was committed, is no longer kept. It was not executed now;
    /// whether it was before is not known.
    #[error("request sequence {sequence} is too old: answers up to {dropped_to} are forgotten")]
    SequenceTooOld {
        /// The sequence.
        sequence: u64,
        /// The highest sequence whose answer is forgotten.
        dropped_to: u64,
    },
    /// The run has forgotten clients, this one perhaps among them. The request was not executed
    /// now; whether it was before is not known.
    #[error(
        "client session expired: registered at version {registered_at}, clients that committed up \
         to {evicted_below} are forgotten"
    )]
    SessionExpired {
        /// The version counter when the client was registered.
        registered_at: u64,
        /// The highest commit version of a forgotten client.
        evicted_below: u64,
    },
    /// A logged change would depend on a volatile one, or a lifecycle change would be volatile.
    #[error("run {run}: the change would depend on data that is not logged")]
    VolatileDependency {
        /// The run.
        run: RunId,
    },
    /// The transaction is larger than a commit may be.
    #[error("transaction of {mutation_count} mutations and {len_bytes} bytes is too large")]
    TransactionTooLarge {
        /// Its mutations.
        mutation_count: usize,
        /// Its encoded length, bytes.
        len_bytes: usize,
    },
    /// The transaction is bound to another run.
    #[error("transaction of run {run} cannot write run {other}")]
    CrossRunWrite {
        /// The transaction's run.
        run: RunId,
        /// The other one.
        other: RunId,
    },
    /// The transaction is not open: committed, rolled back or never begun.
    #[error("transaction is not active")]
    TransactionNotActive,
    /// The transaction was begun for reading only.
    #[error("transaction is read only")]
    ReadOnly,
    /// The database was opened for reading only.
    #[error(
        "database is open for reading only: there was no room to make its log writable, or it was \
         opened so; make room on its disk and open it again"
    )]
    OpenedReadOnly,
    /// The transaction ran longer than it was allowed to.
    #[error("transaction timed out")]
    Timeout,
    /// The log has no room at the moment; nothing was done.
    #[error("log is busy")]
    Busy,
    /// The disk has no room for the log; nothing was done, and it works again once there is room.
    #[error("no space for the log")]
    NoSpace,
    /// The disk has less room than has to be free; nothing was done. Reads, deletions, the end of
    /// runs and commits that are not logged go on, and everything does once there is room.
    #[error(
        "{free_len_bytes} bytes are free on the disk of the data directory and {free_len_bytes_min} \
         have to be: logged writes that grow the data are refused until there is room"
    )]
    LowDisk {
        /// What was free at the last look, bytes.
        free_len_bytes: u64,
        /// What has to be, bytes.
        free_len_bytes_min: u64,
    },
    /// The data would take more memory than it may; nothing was done. Reads, deletions and the end
    /// of runs go on.
    #[error(
        "the data takes {used_len_bytes} of {len_bytes_max} bytes of memory: writes that grow it are \
         refused; end open transactions, or open the database with a higher limit"
    )]
    MemoryFull {
        /// What it takes now by its own account, bytes.
        used_len_bytes: u64,
        /// The limit, bytes.
        len_bytes_max: u64,
    },
    /// The database is shutting down or closed; nothing was done.
    #[error(transparent)]
    Closed(#[from] DatabaseClosed),
    /// The log has failed: no writes until the database is reopened.
    #[error("log has failed")]
    Poisoned {
        /// What it was doing, when known.
        #[source]
        cause: Option<PoisonCause>,
        /// True when the effect may be there after reopening; false when nothing was done.
        is_outcome_unknown: bool,
    },
    /// The files a durable commit needs could not be made; nothing was done.
    #[error("database files could not be created")]
    Files(#[source] std::sync::Arc<OpenError>),
    /// A defect: the request was given up before it had an effect.
    #[error("internal error before the commit")]
    Internal,
}

/// Which expectation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// A key that was read has a newer version.
    Read,
    /// A compare-and-swap, or a put-if-absent, inside a larger program.
    Cas,
}

impl From<RunError> for CommitError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::NotFound { run } => Self::RunNotFound { run },
        }
    }
}

impl CommitError {
    /// True when the effect may be there after the database is reopened; else nothing was done.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::Poisoned {
                is_outcome_unknown: true,
                ..
            } | Self::SequenceTooOld { .. }
                | Self::SessionExpired { .. }
        )
    }

    /// The same failure, for who wrote nothing.
    pub(crate) fn without_effect(&self) -> Self {
        match self {
            Self::Poisoned { cause, .. } => Self::Poisoned {
                cause: cause.clone(),
                is_outcome_unknown: false,
            },
            error => error.clone(),
        }
    }

    /// True for a refusal that tells the caller what the run holds: as long as that is pending it
    /// may still be lost, so nobody is told before. A conflict tells nothing but to read again.
    pub(crate) fn is_negative_answer(&self) -> bool {
        match self {
            Self::InvalidTransition { .. }
            | Self::RunClosed { .. }
            | Self::RunNotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::VolatileDependency { .. }
            | Self::WrongType { .. }
            | Self::Overflow { .. }
            | Self::InvalidArgument { .. }
            | Self::InvalidValue(_) => true,
            Self::Conflict { .. }
            | Self::OtherRequest { .. }
            | Self::SequenceTooOld { .. }
            | Self::SessionExpired { .. }
            | Self::InvalidKey(_)
            | Self::TransactionTooLarge { .. }
            | Self::CrossRunWrite { .. }
            | Self::TransactionNotActive
            | Self::ReadOnly
            | Self::OpenedReadOnly
            | Self::Timeout
            | Self::Busy
            | Self::NoSpace
            | Self::LowDisk { .. }
            | Self::MemoryFull { .. }
            | Self::Closed(_)
            | Self::Poisoned { .. }
            | Self::Files(_)
            | Self::Internal => false,
        }
    }

    /// True when the same closure may succeed when run again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// Admission is closed: the database is shutting down or has been shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("database is closed")]
pub struct DatabaseClosed;

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The key is not allowed.
    #[error("invalid key")]
    InvalidKey(#[from] KeyError),
    /// The version asked for has another flavour than the entity's.
    #[error("version is of flavour {actual}, not {expected}")]
    WrongType {
        /// The flavour of the entity.
        expected: &'static str,
        /// The flavour asked for.
        actual: &'static str,
    },
    /// No such run.
    #[error("run {run} does not exist")]
    RunNotFound {
        /// The run.
        run: RunId,
    },
    /// What was asked for has been trimmed by a compaction, under the run's retention policy. It is
    /// gone for good; no neighbour is given instead.
    #[error("history below version {earliest_retained} was trimmed, {requested} was asked for")]
    HistoryTrimmed {
        /// The commit version asked for.
        requested: u64,
        /// The lowest one that is still readable there.
        earliest_retained: u64,
    },
    /// A parameter is outside what the operation allows.
    #[error("invalid argument: {what}")]
    InvalidArgument {
        /// Which one and why, in a few words.
        what: &'static str,
    },
    /// The transaction is not open.
    #[error("transaction is not active")]
    TransactionNotActive,
    /// The transaction has read too many keys, or keys too long together.
    #[error("transaction is too large: {read_count} keys read, {len_bytes} bytes of keys")]
    TransactionTooLarge {
        /// Keys read before, count.
        read_count: usize,
        /// Their bytes, with the key that was refused.
        len_bytes: usize,
    },
}

impl ReadError {
    /// True when the history asked for was trimmed.
    #[must_use]
    pub fn is_history_trimmed(&self) -> bool {
        self.as_history_trimmed().is_some()
    }

    /// The version asked for and the lowest one that is still readable, if that is why.
    #[must_use]
    pub fn as_history_trimmed(&self) -> Option<(u64, u64)> {
        match *self {
            Self::HistoryTrimmed {
                requested,
                earliest_retained,
            } => Some((requested, earliest_retained)),
            _ => None,
        }
    }
}

/// Why a run handle was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// No such run.
    #[error("run {run} does not exist")]
    NotFound {
        /// The run.
        run: RunId,
    },
}

/// Why a database was not opened or created. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no database there.
    #[error("no database at the path")]
    NotFound,
    /// There is one already.
    #[error("a database exists at the path")]
    AlreadyExists,
    /// The recovery was told to stop, by [`crate::RecoveryProgress::request_stop`]. Nothing on disk
    /// was changed: the next open recovers the same.
    #[error("recovery was told to stop")]
    Interrupted,
    /// A log exists, but no MANIFEST; nothing is created over data.
    #[error("MANIFEST is missing beside a log")]
    MissingManifest,
    /// The log's directory is missing.
    #[error("WAL directory is missing")]
    MissingWalDir,
    /// The snapshots' directory is missing.
    #[error("SNAPSHOTS directory is missing")]
    MissingSnapshotsDir,
    /// Another process has the directory open.
    #[error("database is locked by another process")]
    DatabaseLocked,
    /// The database was made with another codec than the one asked for, and keeps it for life.
    /// Nothing was decoded or changed.
    #[error("the database was made with codec {got}, and {expected} was asked for")]
    CodecMismatch {
        /// The codec asked for.
        expected: String,
        /// The codec of the database.
        got: String,
    },
    /// There is no such codec, or its key is missing or another one. Nothing was decoded or changed.
    #[error(transparent)]
    Codec(#[from] in_mem_wal::codec::CodecError),
    /// MANIFEST names a snapshot, and what can be read of snapshots and log reaches less far than
    /// it did: the state would be an older one. Nothing was changed.
    #[error(
        "snapshot {snapshot_id} cannot be recovered, and the log does not reach back far enough \
         without it{}",
        reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    )]
    SnapshotUnrecoverable {
        /// Its id.
        snapshot_id: u64,
        /// What is wrong with its file, and where; none when the file is whole and the log is
        /// short.
        reason: Option<String>,
    },
    /// A snapshot is whole by its checksums, and cannot be loaded by this build.
    #[error("snapshot cannot be loaded")]
    Snapshot(#[source] in_mem_snapshot::SnapshotError),
    /// A setting is outside its constraint.
    #[error("invalid configuration: {what}")]
    InvalidConfig {
        /// Which one and why, in a few words.
        what: &'static str,
    },
    /// A limit is outside its range.
    #[error("invalid limit")]
    Limit(#[from] in_mem_model::limits::LimitOutOfRange),
    /// The settings of the log are outside their constraints.
    #[error("invalid log configuration")]
    LogConfig(#[source] in_mem_wal::ConfigError),
    /// The directory is not ours, writable by others, or a link.
    #[error("directory cannot be used")]
    Root(#[source] in_mem_wal::disk::RootError),
    /// MANIFEST is damaged or unreadable.
    #[error("MANIFEST cannot be read")]
    Manifest(#[source] in_mem_snapshot::ManifestError),
    /// MANIFEST could not be written.
    #[error("MANIFEST cannot be written")]
    Publish(#[source] in_mem_snapshot::PublishError),
    /// The log cannot be read.
    #[error("log cannot be read")]
    Scan(#[source] Box<in_mem_wal::recover::ScanError<RecordError>>),
    /// The log can be read but not be made writable.
    #[error("log cannot be settled")]
    Settle(#[source] in_mem_wal::recover::SettleError),
    /// A committed record cannot be applied.
    #[error("record of commit {commit_version} cannot be applied")]
    Record {
        /// Its commit version.
        commit_version: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The log could not be started.
    #[error("log could not be started")]
    Log(#[source] in_mem_wal::SpawnError),
    /// A primitive could not be registered.
    #[error("primitive cannot be registered")]
    Register(#[from] crate::registry::RegisterError),
    /// The disk or a thread refused.
    #[error("input or output failed")]
    Io(#[source] io::Error),
}

impl OpenError {
    /// Whether the data is encrypted, and no key, or another one, was given. Nothing was changed.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        use in_mem_wal::codec::CodecError;
        matches!(
            self,
            Self::Codec(CodecError::KeyMissing { .. } | CodecError::WrongKey { .. })
        )
    }

    /// Whether the data is whole, by its checksums, and of a form this build does not know: a
    /// newer build has written it, and can open it. Nothing was changed.
    #[must_use]
    pub fn needs_newer_build(&self) -> bool {
        use in_mem_snapshot::ManifestError;
        use in_mem_wal::recover::ScanError;
        match self {
            Self::Manifest(ManifestError::UnsupportedVersion { .. }) => true,
            Self::Snapshot(error) => error.needs_newer_build(),
            Self::Scan(error) => match error.as_ref() {
                ScanError::UnknownFormat { .. } => true,
                ScanError::Visitor { source, .. } => source.is_unknown_form(),
                _ => false,
            },
            Self::Record { source, .. } => source.is_unknown_form(),
            _ => false,
        }
    }
}

impl RecordError {
    /// Whether a record whose checksum is right holds what this build does not know.
    const fn is_unknown_form(&self) -> bool {
        use crate::registry::PrimitiveError;
        use crate::writeset_reader::WritesetError;
        matches!(
            self,
            Self::Writeset(
                WritesetError::UnknownEntryType { .. } | WritesetError::InvalidTag { .. }
            ) | Self::Primitive(PrimitiveError::UnknownEntryType { .. })
        )
    }
}

/// Why a committed record cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Its writeset cannot be read.
    #[error("writeset cannot be read")]
    Writeset(#[from] crate::writeset_reader::WritesetError),
    /// A primitive refused an entry.
    #[error("entry cannot be applied")]
    Primitive(#[from] crate::registry::PrimitiveError),
    /// It stands in a directory that was empty when the database was opened.
    #[error("record is another database's")]
    Foreign,
    /// The recovery was told to stop before it.
    #[error("recovery was told to stop")]
    Interrupted,
}

/// What a shutdown could not finish.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShutdownError {
    /// Commits were still in flight at the deadline; they were synced as far as they had come.
    #[error("{pending_count} commits were in flight at the deadline")]
    Deadline {
        /// Commits not yet published.
        pending_count: usize,
    },
    /// The log failed before everything was durable.
    #[error("log failed")]
    Poisoned(#[source] Option<PoisonCause>),
}

/// Why a flush did not make everything durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlushError {
    /// The log has failed.
    #[error("log has failed")]
    Poisoned(#[source] PoisonCause),
}

impl From<in_mem_wal::FlushError> for FlushError {
    fn from(error: in_mem_wal::FlushError) -> Self {
        let in_mem_wal::FlushError::Poisoned(cause) = error;
        Self::Poisoned(cause)
    }
}
