//! What the daemon says it does without.

use crate::store::Place;

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
                root: None,
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
