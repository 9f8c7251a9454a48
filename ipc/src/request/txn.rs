//! Parameters of `txn.begin` and of the one-shot `batch`.
//!
//! A batch carries everything the server needs to validate and commit in one step and leaves no
//! state behind. Its conditional entries are boxed in the archive, so that a put costs 20 bytes
//! beside its key and value: less than the 36 of the log record, hence a batch of the largest
//! transaction fits the largest frame.

use rkyv::with::AsBox;
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
    CasVersion(#[rkyv(with = AsBox)] CasVersion<'a>),
    /// Put a value if the current value is the expected one.
    CasValue(#[rkyv(with = AsBox)] CasValue<'a>),
    /// Add to an integer.
    Increment(#[rkyv(with = AsBox)] Increment<'a>),
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
