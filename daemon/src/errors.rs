//! Errors of the engine as clients see them: class, sub-code, outcome, whether to retry.

use in_mem_engine::{CommitError, ConflictKind, FlushError, ReadError, WaitDurableError};
use in_mem_model::{Error, ErrorClass, Outcome, Retry, SubCode, Version};

/// An error of a commit. Unless the engine says otherwise, nothing was committed.
pub(crate) fn of_commit(error: &CommitError) -> Error {
    let outcome = if error.is_outcome_unknown() {
        Outcome::OutcomeUnknown
    } else {
        Outcome::NotCommitted
    };
    body_of_commit(error).with_outcome(outcome)
}

fn body_of_commit(error: &CommitError) -> Error {
    let new = |sub: SubCode| Error::new(sub, error.to_string());
    match error {
        CommitError::InvalidKey(key) => (*key).into(),
        CommitError::InvalidValue(value) => value.clone().into(),
        CommitError::Conflict {
            run,
            key,
            kind,
            expected,
            actual,
        } => {
            let body = new(match kind {
                ConflictKind::Read => SubCode::ReadConflict,
                ConflictKind::Cas => SubCode::CasMismatch,
            });
            let key = String::from_utf8_lossy(key).into_owned();
            let body = body.with_detail("run", run.to_string());
            let body = body.with_detail("key", key);
            conflicting(body, *expected, *actual)
        }
        CommitError::WrongType { .. } | CommitError::Overflow { .. } => of_value(error),
        CommitError::RunNotFound { run } => {
            new(SubCode::RunNotFound).with_detail("run", run.to_string())
        }
        CommitError::RunClosed { run, status } => new(SubCode::RunClosed)
            .with_detail("run", run.to_string())
            .with_detail("status", status.name()),
        CommitError::InvalidTransition { run, from, to } => new(SubCode::InvalidTransition)
            .with_detail("run", run.to_string())
            .with_detail("from", from.name())
            .with_detail("to", to.name()),
        CommitError::AlreadyExists { run } => {
            new(SubCode::AlreadyExists).with_detail("run", run.to_string())
        }
        CommitError::InvalidArgument { .. } => new(SubCode::InvalidArgument),
        CommitError::OtherRequest { .. }
        | CommitError::SequenceTooOld { .. }
        | CommitError::SessionExpired { .. } => not_repeated(error),
        CommitError::VolatileDependency { .. } => new(SubCode::VolatileDependency),
        CommitError::TransactionTooLarge { .. } => new(SubCode::TransactionTooLarge),
        CommitError::CrossRunWrite { .. } => new(SubCode::CrossRunWrite),
        CommitError::TransactionNotActive => new(SubCode::TransactionNotActive),
        CommitError::ReadOnly | CommitError::OpenedReadOnly => new(SubCode::ReadOnly),
        CommitError::Timeout => new(SubCode::Timeout),
        CommitError::Busy => new(SubCode::ResourceExhausted),
        CommitError::MemoryFull {
            used_len_bytes,
            len_bytes_max,
        } => memory_full(
            new(SubCode::ResourceExhausted),
            *used_len_bytes,
            *len_bytes_max,
        ),
        CommitError::LowDisk {
            free_len_bytes,
            free_len_bytes_min,
        } => low_disk(error, *free_len_bytes, *free_len_bytes_min),
        CommitError::NoSpace => new(SubCode::ResourceExhausted).with_detail("resource", "disk"),
        CommitError::Closed(_) => new(SubCode::DatabaseClosed),
        CommitError::Poisoned {
            cause,
            is_outcome_unknown,
        } => poisoned(cause.as_ref().map(ToString::to_string), *is_outcome_unknown),
        CommitError::Files(source) => {
            new(SubCode::Unavailable).with_detail("cause", source.to_string())
        }
        CommitError::Internal => Error::of_class(ErrorClass::InternalError, error.to_string()),
    }
}

/// A value that cannot be calculated with.
fn of_value(error: &CommitError) -> Error {
    let of_class = |class| Error::of_class(class, error.to_string());
    match error {
        CommitError::WrongType { expected, actual } => of_class(ErrorClass::WrongType)
            .with_detail("expected", *expected)
            .with_detail("actual", *actual),
        CommitError::Overflow { operation, value } => of_class(ErrorClass::Overflow)
            .with_detail("operation", *operation)
            .with_detail("value", value.to_string()),
        _ => of_class(ErrorClass::InternalError),
    }
}

/// What a write met instead of what it expected.
fn conflicting(body: Error, expected: Option<u64>, actual: u64) -> Error {
    let body = body.with_detail("actual", Version::Txn(actual));
    match expected {
        Some(expected) => body.with_detail("expected", Version::Txn(expected)),
        None => body,
    }
}

/// How much is free on the disk, and what to do.
fn low_disk(error: &CommitError, free_len_bytes: u64, free_len_bytes_min: u64) -> Error {
    let message = format!(
        "{error} (disk_free_len_bytes_min): remove other files from that disk or enlarge it; \
         deletions go on but free no room on it"
    );
    Error::new(SubCode::ResourceExhausted, message)
        .with_detail("resource", "disk")
        .with_detail("limit", "disk_free_len_bytes_min")
        .with_detail("free_len_bytes", free_len_bytes)
        .with_detail("limit_bytes", free_len_bytes_min)
}

/// How much memory is used, of how much.
fn memory_full(body: Error, used_len_bytes: u64, len_bytes_max: u64) -> Error {
    body.with_detail("resource", "memory")
        .with_detail("limit", "memory_max")
        .with_detail("used_len_bytes", used_len_bytes)
        .with_detail("limit_bytes", len_bytes_max)
}

/// An exactly-once request that was neither executed nor answered again.
fn not_repeated(error: &CommitError) -> Error {
    let new = |sub: SubCode| Error::new(sub, error.to_string());
    match error {
        CommitError::SequenceTooOld {
            sequence,
            dropped_to,
        } => new(SubCode::InvalidArgument)
            .with_detail("client_sequence", *sequence)
            .with_detail("forgotten_to", *dropped_to),
        CommitError::SessionExpired {
            registered_at,
            evicted_below,
        } => new(SubCode::SessionExpired)
            .with_detail("registered_at", *registered_at)
            .with_detail("evicted_below", *evicted_below),
        _ => new(SubCode::InvalidArgument),
    }
}

/// A poisoned log: the commit it hit may have happened, later ones have not.
pub(crate) fn poisoned(cause: Option<String>, is_outcome_unknown: bool) -> Error {
    let cause = cause.unwrap_or_else(|| "an earlier failure".to_owned());
    let message = format!("the log failed ({cause}); reads go on, restart to write again");
    let sub = if is_outcome_unknown {
        SubCode::WalPoisoned
    } else {
        SubCode::Unavailable
    };
    Error::new(sub, message)
        .with_retry(Retry::AfterReopen)
        .with_detail("cause", cause)
}

/// An error of a read.
pub(crate) fn of_read(error: &ReadError) -> Error {
    let new = |sub: SubCode| Error::new(sub, error.to_string());
    match error {
        ReadError::InvalidKey(key) => (*key).into(),
        ReadError::WrongType { expected, actual } => {
            Error::of_class(ErrorClass::WrongType, error.to_string())
                .with_detail("expected", *expected)
                .with_detail("actual", *actual)
        }
        ReadError::RunNotFound { run } => {
            new(SubCode::RunNotFound).with_detail("run", run.to_string())
        }
        ReadError::HistoryTrimmed {
            requested,
            earliest_retained,
        } => Error::of_class(ErrorClass::HistoryTrimmed, error.to_string())
            .with_detail("requested", Version::Txn(*requested))
            .with_detail("earliest_retained", Version::Txn(*earliest_retained)),
        ReadError::InvalidArgument { .. } => new(SubCode::InvalidArgument),
        ReadError::TransactionNotActive => new(SubCode::TransactionNotActive),
        ReadError::TransactionTooLarge { .. } => new(SubCode::TransactionTooLarge),
    }
}

/// Why a version is not told to be durable.
pub(crate) fn of_wait_durable(error: &WaitDurableError) -> Error {
    let new = |sub: SubCode| Error::new(sub, error.to_string());
    match error {
        WaitDurableError::NeverIssued {
            version,
            last_issued,
        } => new(SubCode::InvalidArgument)
            .with_detail("version", Version::Txn(*version))
            .with_detail("last_issued", Version::Txn(*last_issued)),
        WaitDurableError::NotLogged { version } => {
            new(SubCode::NotLogged).with_detail("version", Version::Txn(*version))
        }
        WaitDurableError::Forgotten {
            version,
            known_above,
            durable_version,
        } => new(SubCode::NotLogged)
            .with_detail("version", Version::Txn(*version))
            .with_detail("known_above", Version::Txn(*known_above))
            .with_detail("durable_version", Version::Txn(*durable_version)),
        WaitDurableError::Poisoned(cause) => {
            poisoned(cause.as_ref().map(ToString::to_string), true)
        }
        WaitDurableError::Closed => new(SubCode::DatabaseClosed),
        WaitDurableError::TimedOut {
            version,
            durable_version,
        } => new(SubCode::Timeout)
            .with_retry(Retry::Yes)
            .with_detail("version", Version::Txn(*version))
            .with_detail("durable_version", Version::Txn(*durable_version)),
    }
}

/// An error of a flush.
pub(crate) fn of_flush(error: &FlushError) -> Error {
    let FlushError::Poisoned(cause) = error;
    poisoned(Some(cause.to_string()), false)
}
