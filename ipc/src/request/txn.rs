//! Parameters of `txn.begin` and of the one-shot `batch`.
//!
//! A batch carries everything the server needs to validate and commit in one step and leaves no
//! state behind. Every change costs 40 bytes in the archive beside its key and value, 4 more than in
//! the log record: with 100,000 changes less than the 1 MiB by which a frame may exceed a
//! writeset, so the largest transaction fits the largest frame. Boxing the conditional ones would
//! make a put 20 bytes, but a conditional put 60 and the largest transaction of those too large.
//! A read set and expected values come on top.

use rkyv::{Archive, Deserialize, Serialize};

use super::DurabilityChoice;
use super::kv::{CasValue, CasVersion, Increment, Key, KeyValue};
use crate::bytes::Bytes;

/// The parameters of `txn.begin`; the run is that of the header.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnBegin {
    /// Refuse writes in this transaction.
    pub read_only: bool,
    /// Total limit in milliseconds; 0 for the server's.
    pub timeout_ms: u32,
    /// Durability of the commit.
    pub durability: DurabilityChoice,
}

/// What a read of a batch expects to be still so at its commit.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadCheck {
    /// The newest version of the key is this raw version; 0 means it never existed.
    Version(u64),
    /// The key did not change after the start version of the batch.
    SinceStart,
}

/// One entry of the read set of a batch.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct BatchRead<'a> {
    /// The user key.
    pub key: Bytes<'a>,
    /// What must hold.
    pub check: ReadCheck,
}

/// One change of a batch.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum BatchOperation<'a> {
    /// Put a value.
    Put(KeyValue<'a>),
    /// Delete a key.
    Delete(Key<'a>),
    /// Put a value if the key does not exist.
    PutIfAbsent(KeyValue<'a>),
    /// Put a value if the version is the expected one.
    CasVersion(CasVersion<'a>),
    /// Put a value if the current value is the expected one.
    CasValue(CasValue<'a>),
    /// Add to an integer.
    Increment(Increment<'a>),
}

/// The parameters of `batch`: all of it happens, or none.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch<'a> {
    /// The commit version the caller read at; needed by `ReadCheck::SinceStart`.
    pub start_version: Option<u64>,
    /// What the caller read, validated at the commit.
    pub reads: Vec<BatchRead<'a>>,
    /// The changes, in order.
    pub operations: Vec<BatchOperation<'a>>,
}
