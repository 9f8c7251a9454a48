//! Results of the `db.*` operations.

use rkyv::{Archive, Deserialize, Serialize};

/// The result of `db.subscribe_durable`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The id that the pushes of the subscription carry; valid in this session only.
    pub subscription_id: u64,
    /// The durable version now: the first push carries a higher one.
    pub durable_version: u64,
}
