//! Why a snapshot was not taken, not removed or not compacted to, as clients see it: class,
//! sub-code, what is the matter and what to do.

use std::error::Error as StdError;
use std::io;

use in_mem_engine::{CheckpointError, CompactError, DeleteSnapshotError, ListSnapshotsError};
use in_mem_model::{Error, Retry, SubCode};

use crate::errors;
use crate::start::chain;

/// No snapshot was taken: the one before it, if there is one, is as it was, and so is the log.
pub(crate) fn of_checkpoint(error: &CheckpointError) -> Error {
    match error {
        CheckpointError::NoLog => Error::new(
            SubCode::Unavailable,
            "nothing of this database is logged yet, so there is nothing to take a snapshot of",
        )
        .with_retry(Retry::No)
        .with_detail("resource", "log"),
        CheckpointError::ReadOnly => Error::new(
            SubCode::ReadOnly,
            "the database was opened for reading only: snapshots and log stay as they are",
        ),
        CheckpointError::AlreadyInProgress => Error::new(
            SubCode::AlreadyInProgress,
            "a checkpoint or a compaction is under way and there is one at a time: try again when \
             it is done; `inmem info` tells how far it is",
        ),
        CheckpointError::Poisoned(cause) => {
            errors::poisoned(cause.as_ref().map(ToString::to_string), false)
        }
        CheckpointError::Closed => Error::new(SubCode::DatabaseClosed, error.to_string()),
        CheckpointError::Write(_)
        | CheckpointError::Publish { .. }
        | CheckpointError::Manifest(_) => of_files(error, error.damage(), "no snapshot was taken"),
    }
}

/// Nothing, or not all, was let go of; what can be read is the same.
pub(crate) fn of_compaction(error: &CompactError) -> Error {
    match error {
        CompactError::NoSnapshot => Error::new(
            SubCode::NoSnapshot,
            "there is no snapshot, so the log is all there is: take one first (db.checkpoint)",
        ),
        CompactError::AlreadyInProgress => of_checkpoint(&CheckpointError::AlreadyInProgress),
        CompactError::Refused(why) | CompactError::NotTaken(why) => of_checkpoint(why),
        CompactError::Retention(policy) => Error::new(
            SubCode::Unavailable,
            format!(
                "{}: nothing is removed under it; set it anew or clear it",
                chain(policy)
            ),
        )
        .with_retry(Retry::No)
        .with_detail("resource", "retention_policy"),
        CompactError::Poisoned(cause) => {
            errors::poisoned(cause.as_ref().map(ToString::to_string), false)
        }
        CompactError::Snapshot(_) => of_files(
            error,
            error.damage(),
            "the newest snapshot is not whole, so every segment of the log is kept",
        ),
        CompactError::Io(_) => of_storage(error, "not all was removed"),
    }
}

/// The snapshot is as it was, or may be there again after a power loss.
pub(crate) fn of_deletion(error: &DeleteSnapshotError) -> Error {
    match error {
        DeleteSnapshotError::InUse { snapshot_id } => Error::new(
            SubCode::InvalidArgument,
            format!(
                "snapshot {snapshot_id} is the newest one, which the next start begins with: it \
                 can be removed when there is a newer one"
            ),
        )
        .with_detail("snapshot_id", *snapshot_id),
        DeleteSnapshotError::Refused(why) => of_checkpoint(why),
        DeleteSnapshotError::Io(_) => {
            of_storage(error, "the snapshot may be there again after a power loss")
        }
    }
}

/// A snapshot cannot be read.
pub(crate) fn of_listing(error: &ListSnapshotsError) -> Error {
    of_files(
        error,
        error.damage(),
        "the list is not whole: remove what is damaged (db.delete_snapshot), if it is not the \
         newest one",
    )
}

/// A snapshot that cannot be written or read; `what` follows from it.
fn of_files(error: &(dyn StdError + 'static), damage: Option<(&str, u64)>, what: &str) -> Error {
    match damage {
        Some((file, offset)) => Error::new(SubCode::Damage, format!("{}; {what}", chain(error)))
            .with_detail("file", file)
            .with_detail("offset", offset),
        None => of_storage(error, what),
    }
}

/// What the disk refused.
pub(crate) fn of_storage(error: &(dyn StdError + 'static), what: &str) -> Error {
    let cause = chain(error);
    if is_full(error) {
        let message = format!("the disk is full ({cause}); {what}: make room and try again");
        return Error::new(SubCode::ResourceExhausted, message).with_detail("resource", "disk");
    }
    Error::new(SubCode::Unavailable, format!("{cause}; {what}")).with_detail("cause", cause)
}

fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| {
            matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        }) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_written(kind: io::ErrorKind) -> CheckpointError {
        CheckpointError::Publish {
            snapshot_id: 7,
            source: kind.into(),
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures_and_both_name_the_snapshot() {
        let full = of_checkpoint(&not_written(io::ErrorKind::StorageFull));
        assert_eq!(full.sub, Some(SubCode::ResourceExhausted));
        assert_eq!(full.retry, Retry::Later);
        assert_eq!(full.detail("resource"), Some(&"disk".into()));
        let other = of_checkpoint(&not_written(io::ErrorKind::NotFound));
        assert_eq!(other.sub, Some(SubCode::Unavailable));
        for error in [full, other] {
            assert!(error.message.contains("snapshot 7"), "{error}");
            assert!(error.message.contains("no snapshot was taken"), "{error}");
        }
    }

    #[test]
    fn each_reason_of_a_refusal_has_a_code_and_a_retry_of_its_own() {
        let told = |error: CheckpointError| {
            let error = of_checkpoint(&error);
            (error.sub.expect("a sub-code"), error.retry)
        };
        let expected = [
            (CheckpointError::NoLog, SubCode::Unavailable, Retry::No),
            (CheckpointError::ReadOnly, SubCode::ReadOnly, Retry::No),
            (
                CheckpointError::AlreadyInProgress,
                SubCode::AlreadyInProgress,
                Retry::Later,
            ),
            (
                CheckpointError::Poisoned(None),
                SubCode::Unavailable,
                Retry::AfterReopen,
            ),
            (
                CheckpointError::Closed,
                SubCode::DatabaseClosed,
                Retry::AfterReopen,
            ),
        ];
        for (error, sub, retry) in expected {
            assert_eq!(told(error), (sub, retry));
        }
        let none = of_compaction(&CompactError::NoSnapshot);
        assert_eq!(none.sub, Some(SubCode::NoSnapshot));
        assert!(none.message.contains("db.checkpoint"), "{none}");
    }
}
