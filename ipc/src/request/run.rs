//! Parameters of the `run.*` operations.
//!
//! Operations on one existing run (`run.end`, `run.get`, `run.add_tags`, ...) act on the run
//! of the request header and name no other.

use rkyv::bytecheck::CheckBytes;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::bytes::{Bytes, Text};

/// The parameters of `run.begin`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct RunBegin<'a> {
    /// The unique name; none for a nameless run.
    pub name: Option<Text<'a>>,
    /// The parent run, which must exist.
    pub parent: Option<[u8; 16]>,
    /// Tags; duplicates are ignored.
    pub tags: Vec<Text<'a>>,
    /// An encoded Object value; none for Null.
    pub metadata: Option<Bytes<'a>>,
    /// What the run is for.
    pub description: Option<Text<'a>>,
    /// Whether a taken name answers with the run that has it instead of `already_exists`.
    pub if_missing: bool,
}

/// Why a run ends badly: the parameters of `run.fail` and `run.abort`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunFailure<'a> {
    /// The message of a failure or the reason of an abort.
    pub message: Text<'a>,
}

/// A run status as asked for and answered.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum RunState {
    /// Accepts writes.
    Active,
    /// Ended well.
    Completed,
    /// Ended with an error message.
    Failed,
    /// Ended on request.
    Cancelled,
    /// Refuses writes until resumed.
    Paused,
    /// Kept, left out of listings.
    Archived,
    /// Active when its owner died.
    Orphaned,
    /// No such run; a query result, never stored.
    NotFound,
}

/// The parameters of `run.list`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
pub struct RunList<'a> {
    /// Only runs of this status.
    pub status: Option<RunState>,
    /// Whether archived runs are listed too.
    pub include_archived: bool,
    /// Most runs wanted in the page; 0 for the server's limit.
    pub limit: u32,
    /// Where the page before ended; empty for the first page.
    pub cursor: Bytes<'a>,
}

/// The parameters of `run.resolve`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunName<'a> {
    /// The name to look up.
    pub name: Text<'a>,
}

/// The parameters of `run.update_metadata`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunMetadata<'a> {
    /// An encoded Object or Null value.
    pub metadata: Bytes<'a>,
}

/// The parameters of `run.add_tags` and `run.remove_tags`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunTags<'a> {
    /// The tags; duplicates and missing ones are ignored.
    pub tags: Vec<Text<'a>>,
}
