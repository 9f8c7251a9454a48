//! Results of the `run.*` and `txn.*` operations.

use rkyv::bytecheck::CheckBytes;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use super::Receipt;
use crate::bytes::Bytes;
use crate::request::DurabilityChoice;
use crate::request::run::RunState;

/// The result of `run.begin`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunBegun<'a> {
    /// The metadata of the run: the Object of `model::RunInfo`, encoded.
    pub run: Bytes<'a>,
    /// What the commit made; nothing if the run existed.
    pub receipt: Receipt,
}

/// The result of `run.status`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunStatusReply {
    /// The status, or that there is no such run.
    pub status: RunState,
}

/// The result of `run.list` and `run.orphaned`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunPage<'a> {
    /// The runs, each the Object of `model::RunInfo`, encoded.
    pub runs: Vec<Bytes<'a>>,
    /// Where to go on; empty when there is no more.
    pub cursor: Bytes<'a>,
    /// Whether there is more.
    pub has_more: bool,
}

/// The result of `txn.begin`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnBegun {
    /// The id to put into the header of requests that join; valid in this session only.
    pub txn_id: u64,
    /// The commit version the transaction reads at.
    pub start_version: u64,
}

/// How far a transaction got.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum TxnState {
    /// Accepts operations.
    Active,
    /// A commit was asked for and is not settled.
    Committing,
}

/// The result of `txn.info`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnInfo {
    /// The id of the transaction.
    pub txn_id: u64,
    /// The commit version it reads at.
    pub start_version: u64,
    /// When it began, microseconds since the epoch.
    pub started_at_us: u64,
    /// Operations it has seen.
    pub operation_count: u64,
    /// The run it is bound to.
    pub run: [u8; 16],
    /// How far it got.
    pub state: TxnState,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Durability of its commit.
    pub durability: DurabilityChoice,
}
