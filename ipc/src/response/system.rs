//! Errors, and the results of the `system.*` operations.

use rkyv::bytecheck::CheckBytes;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::bytes::Text;
use crate::request::version::TaggedVersion;

/// What is known about a commit that failed.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum CommitOutcome {
    /// It certainly did not happen.
    NotCommitted,
    /// It may or may not be there after a reopen.
    OutcomeUnknown,
}

/// Whether asking again can help.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum RetryAdvice {
    /// No.
    No,
    /// Yes, the same request.
    Yes,
    /// Yes, after reading again.
    AfterReread,
    /// Yes, later.
    Later,
    /// Yes, after the database was reopened.
    AfterReopen,
    /// Yes, if the outcome says that nothing was committed.
    IfNotCommitted,
}

/// A detail of an error, typed.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum DetailValue<'a> {
    /// Text.
    Text(Text<'a>),
    /// A number.
    Number(u64),
    /// A version with its flavour.
    Version(TaggedVersion),
    /// A yes or a no.
    Flag(bool),
}

/// A detail of an error, named.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Detail<'a> {
    /// Its name.
    pub name: Text<'a>,
    /// Its value.
    pub value: DetailValue<'a>,
}

/// An error as it crosses the wire.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody<'a> {
    /// The stable number of the class.
    pub class: u8,
    /// The stable number of the sub-code; 0 if the class says all.
    pub sub: u16,
    /// What is known about the commit, if the request could commit.
    pub outcome: Option<CommitOutcome>,
    /// Whether asking again can help.
    pub retry: RetryAdvice,
    /// One line for a human.
    pub message: Text<'a>,
    /// The values behind the message.
    pub details: Vec<Detail<'a>>,
}

/// Whether the server takes writes, and if not, why.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum Health {
    /// Reads and writes.
    Ok,
    /// Finishing what it has, taking nothing new.
    Draining,
    /// A write or sync of the log failed; reads only, until reopened.
    Poisoned,
    /// Opened for reading only.
    ReadOnly,
    /// Serves, but somebody has to see to it: what is acknowledged now, or soon, may not be kept.
    Degraded,
}

/// A named number.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Measure<'a> {
    /// Its name, the unit last.
    pub name: Text<'a>,
    /// Its value.
    pub value: u64,
}

/// The result of `system.info`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Info<'a> {
    /// Version of the server.
    pub server_version: Text<'a>,
    /// Time since the server was ready, microseconds.
    pub uptime_us: u64,
    /// Runs there are, the default run included.
    pub run_count: u64,
    /// Live keys in all runs, the metadata of each begun run among them.
    pub key_count: u64,
    /// Name of the durability mode of the database.
    pub durability: Text<'a>,
    /// Whether it takes writes.
    pub health: Health,
    /// Why not, if it does not; if it does, what it does without and what to change, or nothing.
    pub health_reason: Text<'a>,
    /// Counters and gauges.
    pub measures: Vec<Measure<'a>>,
}

/// The result of `system.capabilities`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Capabilities<'a> {
    /// Version of the server.
    pub server_version: Text<'a>,
    /// Version of the protocol spoken in this session.
    pub protocol_version: u16,
    /// Operations that work.
    pub operations: Vec<Text<'a>>,
    /// Limits in force.
    pub limits: Vec<Measure<'a>>,
    /// Names of the encodings.
    pub encodings: Vec<Text<'a>>,
    /// Names of the features.
    pub features: Vec<Text<'a>>,
    /// Names of the durability modes.
    pub durability_modes: Vec<Text<'a>>,
    /// Names of the transports.
    pub transports: Vec<Text<'a>>,
    /// The text analyser of search; none where search does not exist.
    pub analyser: Option<Text<'a>>,
}
