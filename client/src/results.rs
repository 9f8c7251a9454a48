//! What operations give back.
//!
//! Plain data. A version keeps its flavour everywhere; a write says what it survives.

use in_mem_model::{Level, Version};

/// What a write made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The version written; number 0 if nothing was committed.
    pub version: Version,
    /// The commit that made it; 0 if nothing was committed.
    pub commit_version: u64,
    /// What the commit survives from here on; `None` if nothing was committed, because nothing
    /// changed or because the commit of the transaction is still to come.
    pub level: Option<Level>,
}

impl Receipt {
    /// Whether the write committed by itself.
    #[must_use]
    pub const fn is_committed(&self) -> bool {
        self.level.is_some()
    }
}

/// A value with its version and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its version.
    pub version: Version,
    /// When it was committed, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// A condition that did not hold: a normal answer, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// The version found; number 0 if the key never existed.
    pub actual: Version,
    /// Whether that version is a deletion.
    pub is_tombstone: bool,
}

/// What a conditional write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// The condition held.
    Written(Receipt),
    /// It did not; nothing was written.
    Mismatch(Mismatch),
}

impl Conditional {
    /// Whether the condition held.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        matches!(self, Self::Written(_))
    }

    /// The receipt, if the condition held.
    #[must_use]
    pub const fn receipt(&self) -> Option<Receipt> {
        match self {
            Self::Written(receipt) => Some(*receipt),
            Self::Mismatch(_) => None,
        }
    }
}

/// What a compare-and-swap by version expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This commit version. 0: the key never existed; a deleted key has the version of its
    /// deletion.
    Version(u64),
    /// The key never existed, or is deleted.
    Absent,
}

/// How many keys a deletion found, and what it made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Keys that existed.
    pub count: u32,
    /// What the commit made.
    pub receipt: Receipt,
}

/// An integer after an addition, and what the addition made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremented {
    /// The integer after the addition.
    pub value: i64,
    /// What the commit made.
    pub receipt: Receipt,
}

/// What was there before, and what the write made.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced<T> {
    /// The value before; `None` if the key did not exist.
    pub previous: Option<T>,
    /// What the commit made.
    pub receipt: Receipt,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<T> {
    /// The user key.
    pub key: String,
    /// The value.
    pub value: T,
    /// The commit version of the value.
    pub version: u64,
}

/// Where a listing goes on; valid in the session that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(crate) Vec<u8>);

impl Cursor {
    /// The cursor as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A cursor from its bytes; the server refuses one it did not make.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// A part of a listing, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<Cursor>,
}

/// Versions of one key, newest first; one without a value is a deletion.
#[derive(Debug, Clone, PartialEq)]
pub struct History<T> {
    /// The versions.
    pub versions: Vec<Versioned<Option<T>>>,
    /// Whether there are older readable ones.
    pub has_more: bool,
}
