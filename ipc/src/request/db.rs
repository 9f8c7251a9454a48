//! Parameters of the `db.*` operations that have any.

use rkyv::{Archive, Deserialize, Serialize};

/// The parameters of `db.wait_durable`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitDurable {
    /// The commit version; 0, which a receipt without a commit carries, is durable.
    pub version: u64,
}

/// The parameters of `db.unsubscribe`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The id the subscription was answered with.
    pub subscription_id: u64,
}
