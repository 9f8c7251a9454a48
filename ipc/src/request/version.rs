//! A version as it crosses the wire: its flavour and its number, never one without the other.

use rkyv::{Archive, Deserialize, Serialize};

/// A version with its flavour tag.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaggedVersion {
    /// A commit version: KV, JSON, Trace, Run, Vector.
    Txn(u64),
    /// A position in the event log of a run.
    Sequence(u64),
    /// The write counter of a state cell.
    Counter(u64),
}

impl ArchivedTaggedVersion {
    /// The version, copied out of its archive.
    #[must_use]
    pub const fn to_native(&self) -> TaggedVersion {
        match self {
            Self::Txn(version) => TaggedVersion::Txn(version.to_native()),
            Self::Sequence(version) => TaggedVersion::Sequence(version.to_native()),
            Self::Counter(version) => TaggedVersion::Counter(version.to_native()),
        }
    }
}
