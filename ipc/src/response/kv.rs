//! Results of the `kv.*` operations and of `batch`.

use rkyv::{Archive, Deserialize, Serialize};

use super::Receipt;
use crate::bytes::Bytes;
use crate::request::version::TaggedVersion;

/// A value with its version and time.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Versioned<'a> {
    /// The encoded value; none: this version deleted the entity.
    pub value: Option<Bytes<'a>>,
    /// The version.
    pub version: TaggedVersion,
    /// When it was committed, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// One answer of `kv.get_many`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum Slot<'a> {
    /// The key does not exist.
    Absent,
    /// The encoded value of the key.
    Present(Bytes<'a>),
}

/// The result of `kv.delete` and `kv.delete_many`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many of the keys existed.
    pub count: u32,
    /// What the commit made; nothing if no key existed.
    pub receipt: Receipt,
}

/// The result of `kv.incr`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremented {
    /// The integer after the addition.
    pub value: i64,
    /// What the commit made.
    pub receipt: Receipt,
}

/// A condition that did not hold: a normal answer, not an error.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// The version found; 0 if the key never existed.
    pub actual: TaggedVersion,
    /// Whether that version is a tombstone.
    pub is_tombstone: bool,
}

/// The result of `kv.get_and_set` and `kv.get_and_delete`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Replaced<'a> {
    /// The encoded value that was there; none if the key did not exist.
    pub previous: Option<Bytes<'a>>,
    /// What the commit made; nothing if there was nothing to delete.
    pub receipt: Receipt,
}

/// One entry of a page.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// The encoded value; none if values were not asked for.
    pub value: Option<Bytes<'a>>,
    /// The commit version of the entry.
    pub version: u64,
}

/// A page of a listing or scan, sorted by key.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Page<'a> {
    /// The entries.
    pub entries: Vec<Entry<'a>>,
    /// Where to go on; empty when there is no more.
    pub cursor: Bytes<'a>,
    /// Whether there is more.
    pub has_more: bool,
}

/// Versions of one key, newest first.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct History<'a> {
    /// The versions; one without a value is a tombstone.
    pub versions: Vec<Versioned<'a>>,
    /// Whether there are older readable ones.
    pub has_more: bool,
}

/// What one operation of a batch did.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum BatchEffect {
    /// A value was put.
    Put,
    /// A key was deleted, or was not there.
    Deleted(bool),
    /// A value was put because the key did not exist, or was not.
    PutIfAbsent(bool),
    /// The integer after the addition.
    Incremented(i64),
}

/// The result of `batch`. A condition that did not hold is the error `Conflict`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct BatchResult {
    /// What the commit made.
    pub receipt: Receipt,
    /// One effect for each operation, in order.
    pub effects: Vec<BatchEffect>,
}
