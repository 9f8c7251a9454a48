//! What the daemon says of itself: its health, with the reason, and what it does without.

use in_mem_ipc::response::system::Health;

use crate::store::{Place, Store};

/// Whether it takes writes, and why not; if it does, what it does without, and what to change.
pub(crate) fn health(store: &Store) -> (Health, String) {
    let database = &store.database;
    if database.is_poisoned() {
        let cause = database.poison_cause();
        let cause = cause.map_or_else(|| "a defect".to_owned(), |cause| cause.to_string());
        return (Health::Poisoned, cause);
    }
    if store.is_draining() {
        return (Health::Draining, "the server is shutting down".to_owned());
    }
    if database
        .last_recovery_result()
        .is_some_and(|result| result.is_read_only)
    {
        let reason = "no room to make the recovered log writable: make room and restart".to_owned();
        return (Health::ReadOnly, reason);
    }
    (Health::Ok, without_rings(&store.place).unwrap_or_default())
}

/// What runs without io_uring because the kernel refuses it, and what to change; none where
/// nothing is refused.
#[must_use]
pub(crate) fn without_rings(place: &Place) -> Option<String> {
    let (who, refusal) = match (&place.ring_refusal, &place.refusal) {
        (Some(refusal), Some(_)) => ("sockets and log do without it", refusal),
        (Some(refusal), None) => ("the sockets do without it", refusal),
        (None, Some(refusal)) => ("the log does without it", refusal),
        (None, None) => return None,
    };
    Some(format!("{refusal}; {who}"))
}

#[cfg(test)]
mod tests {
    use in_mem_wal::disk::{DiskKind, FileSystem};

    use super::*;

    #[test]
    fn what_runs_without_io_uring_is_said_with_the_reason_and_nothing_where_nothing_is_refused() {
        let said = |ring: Option<&str>, log: Option<&str>| {
            without_rings(&Place {
                file_system: FileSystem::Ext,
                disk: DiskKind::Thread,
                refusal: log.map(str::to_owned),
                reactor: "readiness",
                ring_refusal: ring.map(str::to_owned),
            })
        };
        assert_eq!(said(None, None), None);
        let both = said(Some("refused: do this"), Some("forbidden")).unwrap();
        assert_eq!(both, "refused: do this; sockets and log do without it");
        let log = said(None, Some("forbidden")).unwrap();
        assert_eq!(log, "forbidden; the log does without it");
        let sockets = said(Some("refused"), None).unwrap();
        assert_eq!(sockets, "refused; the sockets do without it");
    }
}
