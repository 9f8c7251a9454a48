//! Messages about retention policies and expiry, built from given material.

use super::samples::Material;
use crate::request::Operation;
use crate::request::kv::{Key, KeyValueTtl};
use crate::request::retention::Policy;
use crate::response::Response;
use crate::response::retention::{OwnPolicy, Retention, RetentionStats};

pub(super) fn operations(m: &Material) -> Vec<Operation<'static>> {
    let policy = |index| Policy {
        policy: m.text(index),
    };
    vec![
        Operation::RunSetRetention(policy(0)),
        Operation::RunGetRetention,
        Operation::RunClearRetention,
        Operation::RunRetentionStats,
        Operation::RunRetentionPreview(policy(1)),
    ]
}

pub(super) fn expiring(m: &Material) -> Vec<Operation<'static>> {
    vec![
        Operation::KvPutWithTtl(KeyValueTtl {
            key: m.bytes(0),
            value: m.bytes(1),
            ttl_us: m.numbers[1],
        }),
        Operation::KvExpiresAt(Key { key: m.bytes(0) }),
    ]
}

pub(super) fn responses(m: &Material) -> Vec<(&'static str, Response<'static>)> {
    let own = OwnPolicy {
        policy: m.text(0),
        version: m.numbers[0],
        timestamp_us: m.numbers[3],
    };
    let retention = Retention {
        own: m.choice.is_multiple_of(2).then_some(own),
        effective: m.text(1),
    };
    let stats = RetentionStats {
        policy: m.text(0),
        watermark: m.numbers[0],
        now_us: m.numbers[3],
        entity_count: m.numbers[1],
        version_count: m.numbers[2],
        tombstone_count: m.numbers[1],
        value_len_bytes: m.numbers[0],
        removable_count: m.numbers[2],
        removable_len_bytes: m.numbers[1],
    };
    vec![
        ("Retention", Response::Retention(retention)),
        ("RetentionStats", Response::RetentionStats(stats)),
    ]
}
