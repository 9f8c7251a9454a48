//! Parameters of the `db.*` operations that have any.

use rkyv::{Archive, Deserialize, Serialize};

use crate::bytes::Text;

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

/// The parameters of `db.compact`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Compact<'a> {
    /// What to let go of, by name. A name and no number, so that a server that knows fewer modes
    /// than its client says which ones it knows.
    pub mode: Text<'a>,
}

/// The parameters of `db.delete_snapshot`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteSnapshot {
    /// The number of the snapshot.
    pub snapshot_id: u64,
}

/// The parameters of `db.export`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Export<'a> {
    /// The name of the clone, one plain name inside the directory that the server exports to.
    pub name: Text<'a>,
}
