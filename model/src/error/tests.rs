//! Classes and sub-codes against the published lists.

use super::*;
use std::collections::HashSet;

/// Every reason and sub-code of the specification, so that none is lost or renamed.
// Those of the specification, its two reasons of compaction that a client can do something about,
// and one of ours (see docs/decisions.md): not_logged.
const PUBLISHED: [&str; 58] = [
    "no_snapshot",
    "already_in_progress",
    "not_logged",
    "empty",
    "nul",
    "key_too_long",
    "invalid_utf8",
    "reserved_prefix",
    "value_too_large",
    "string_too_long",
    "bytes_too_long",
    "array_too_long",
    "object_too_large",
    "nesting_too_deep",
    "vector_dim_exceeded",
    "vector_dim_mismatch",
    "non_finite",
    "root_not_object",
    "run_closed",
    "invalid_transition",
    "already_exists",
    "cross_run_write",
    "transaction_too_large",
    "transaction_not_active",
    "transaction_already_active",
    "not_in_transaction",
    "volatile_dependency",
    "invalid_argument",
    "budget_exceeded",
    "cas_mismatch",
    "read_conflict",
    "path_conflict",
    "fence_stale",
    "transition_failed",
    "test_failed",
    "run_not_found",
    "document_not_found",
    "cell_not_found",
    "collection_not_found",
    "trace_not_found",
    "history_unavailable",
    "unavailable",
    "connection_lost",
    "connection_refused",
    "database_closed",
    "wal_poisoned",
    "read_only",
    "timeout",
    "cancelled",
    "resource_exhausted",
    "permission_denied",
    "session_expired",
    "damage",
    "snapshot_unrecoverable",
    "database_locked",
    "key_not_found",
    "protocol_mismatch",
    "protocol_violation",
];

#[test]
fn every_published_sub_code_exists_and_no_other() {
    let names: HashSet<&str> = SubCode::ALL.iter().map(|sub| sub.name()).collect();
    assert_eq!(names, HashSet::from(PUBLISHED));
}

#[test]
fn class_numbers_are_the_published_ones() {
    let numbers: Vec<u8> = ErrorClass::ALL.iter().map(|class| class.number()).collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<u8>>());
    assert_eq!(ErrorClass::from_number(12), None);
}

#[test]
fn sub_codes_have_one_number_and_one_name_each_and_lie_in_their_class() {
    let numbers: HashSet<u16> = SubCode::ALL.iter().map(|sub| sub.number()).collect();
    let names: HashSet<&str> = SubCode::ALL.iter().map(|sub| sub.name()).collect();
    assert_eq!(numbers.len(), SubCode::ALL.len());
    assert_eq!(names.len(), SubCode::ALL.len());
    for sub in SubCode::ALL {
        assert_eq!(
            u16::from(sub.class().number()),
            sub.number() / 100,
            "{sub:?}"
        );
        assert_eq!(SubCode::from_number(sub.number()), Some(*sub));
        assert_eq!(SubCode::from_name(sub.name()), Some(*sub));
    }
}
