//! Parameters of the `kv.*` operations.
//!
//! Keys are user keys and values are encoded values; both travel as opaque bytes and are
//! validated by the receiver, so that a bad key is an error of its request and not of the frame.

use rkyv::{Archive, Deserialize, Serialize};

use super::version::TaggedVersion;
use crate::bytes::Bytes;

/// One key: the parameters of `kv.get`, `kv.get_versioned`, `kv.exists`, `kv.delete`,
/// `kv.get_and_delete` and `kv.latest_version`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// The user key.
    pub key: Bytes<'a>,
}

/// Several keys: the parameters of `kv.get_many`, `kv.exists_many` and `kv.delete_many`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Keys<'a> {
    /// The user keys, in the order of the answer.
    pub keys: Vec<Bytes<'a>>,
}

/// A key and a value: the parameters of `kv.put`, `kv.put_if_absent` and `kv.get_and_set`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The encoded value.
    pub value: Bytes<'a>,
}

/// A key and a value that expires: the parameters of `kv.put_with_ttl`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct KeyValueTtl<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The encoded value.
    pub value: Bytes<'a>,
    /// How long it lives, microseconds from the timestamp of its commit; not 0.
    pub ttl_us: u64,
}

/// Several keys with values: the parameters of `kv.put_many`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct KeyValues<'a> {
    /// The entries; all are put or none.
    pub entries: Vec<KeyValue<'a>>,
}

/// The parameters of `kv.incr`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Increment<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// What to add; negative to subtract.
    pub delta: i64,
}

/// What a compare-and-swap by version expects to find.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// This raw version; 0 means the key never existed, and a tombstone has its own version.
    Raw(u64),
    /// The key never existed, or is a tombstone.
    Absent,
}

/// The parameters of `kv.cas_version`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct CasVersion<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The encoded value to put.
    pub value: Bytes<'a>,
    /// What must be there.
    pub expected: ExpectedVersion,
}

/// The parameters of `kv.cas_value`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct CasValue<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The encoded value to put.
    pub value: Bytes<'a>,
    /// The encoded value that must be there, compared structurally; none: absent.
    pub expected: Option<Bytes<'a>>,
}

/// The parameters of `kv.list`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct List<'a> {
    /// Prefix of the user keys; empty for all.
    pub prefix: Bytes<'a>,
    /// Where the page before ended; empty for the first page.
    pub cursor: Bytes<'a>,
    /// Most entries wanted in the page; 0 for the server's limit.
    pub limit: u32,
    /// Whether the page carries values.
    pub with_values: bool,
}

/// The parameters of `kv.scan`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Prefix of the user keys; empty for all.
    pub prefix: Bytes<'a>,
    /// The first user key wanted, inclusive; empty for the first of the prefix.
    pub start: Bytes<'a>,
    /// Where the page before ended; empty for the first page.
    pub cursor: Bytes<'a>,
    /// Most entries wanted in the page; 0 for the server's limit.
    pub limit: u32,
}

/// A prefix: the parameters of `kv.count`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Prefix<'a> {
    /// Prefix of the user keys; empty for all.
    pub prefix: Bytes<'a>,
}

/// The parameters of `kv.get_at`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct GetAt<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The version to read at; another flavour than txn is `WrongType`.
    pub version: TaggedVersion,
}

/// The parameters of `kv.history`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct History<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// Most versions wanted; 0 for the server's limit.
    pub limit: u32,
    /// Only versions below this raw version; none: from the newest.
    pub before: Option<u64>,
}

impl ArchivedExpectedVersion {
    /// The expectation, copied out of its archive.
    #[must_use]
    pub const fn to_native(&self) -> ExpectedVersion {
        match self {
            Self::Raw(version) => ExpectedVersion::Raw(version.to_native()),
            Self::Absent => ExpectedVersion::Absent,
        }
    }
}
