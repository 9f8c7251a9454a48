//! Results of the operations on the retention policy of a run. Policies are in the text form of
//! `model::RetentionPolicy`.

use rkyv::{Archive, Deserialize, Serialize};

use crate::bytes::Text;

/// The policy of a run itself.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct OwnPolicy<'a> {
    /// What it says.
    pub policy: Text<'a>,
    /// The commit version of its last change; 0 inside the transaction that changes it.
    pub version: u64,
    /// When that was, microseconds since the epoch; 0 inside the transaction that changes it.
    pub timestamp_us: u64,
}

/// The result of `run.get_retention`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Retention<'a> {
    /// The policy of the run itself; none if the default of the server holds.
    pub own: Option<OwnPolicy<'a>>,
    /// What holds.
    pub effective: Text<'a>,
}

/// The result of `run.retention_stats` and `run.retention_preview`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RetentionStats<'a> {
    /// The policy that was asked about.
    pub policy: Text<'a>,
    /// The highest commit version counted.
    pub watermark: u64,
    /// The moment for policies that look at ages, microseconds since the epoch.
    pub now_us: u64,
    /// Entities with at least one version, deleted ones included; not those of the server itself.
    pub entity_count: u64,
    /// Their versions.
    pub version_count: u64,
    /// Tombstones among those.
    pub tombstone_count: u64,
    /// Bytes of the values of all versions.
    pub value_len_bytes: u64,
    /// Versions that the policy lets go.
    pub removable_count: u64,
    /// Bytes of their values.
    pub removable_len_bytes: u64,
}
