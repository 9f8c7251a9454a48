//! The results of `system.health` and `system.describe`.

use rkyv::bytecheck::CheckBytes;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::bytes::Text;
use crate::response::system::{Capabilities, Info};

/// What a server is fit for, the worst that is known first.
#[derive(
    Archive, Serialize, Deserialize, Portable, CheckBytes, Debug, Clone, Copy, PartialEq, Eq, Hash,
)]
#[rkyv(as = Self)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(u8)]
pub enum HealthState {
    /// Reads and writes, and nothing is wrong.
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

/// One thing that is wrong.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Fault<'a> {
    /// Its stable name: `log`, `stopping`, `recovery`, `data_directory`, `disk_space` or `snapshot`.
    pub name: Text<'a>,
    /// What is wrong and what to do, in one line.
    pub reason: Text<'a>,
}

/// The result of `system.health`.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct HealthReport<'a> {
    /// What the server is fit for.
    pub state: HealthState,
    /// Everything that is wrong, the worst first; empty when the state is Ok.
    pub faults: Vec<Fault<'a>>,
    /// How the log is written: `io_uring`, `thread` or `simulated`.
    pub log_backend: Text<'a>,
    /// How the sockets are served.
    pub socket_backend: Text<'a>,
    /// Bytes free for the server below its data directory; none where the kernel does not say.
    pub free_len_bytes: Option<u64>,
}

/// One setting in force.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Its name, with its section.
    pub name: Text<'a>,
    /// Its value as TOML; none if it is unset.
    pub value: Option<Text<'a>>,
    /// Where it came from.
    pub origin: Text<'a>,
}

/// One run, in short.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RunSummary<'a> {
    /// Its id.
    pub id: [u8; 16],
    /// Its name, if it has one.
    pub name: Option<Text<'a>>,
    /// The name of its status.
    pub status: Text<'a>,
    /// Its live keys.
    pub key_count: u64,
}

/// The result of `system.describe`: everything about a server in one answer.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Description<'a> {
    /// The state of the server.
    pub info: Info<'a>,
    /// Whether it is fit, and what is wrong.
    pub health: HealthReport<'a>,
    /// What it can do.
    pub capabilities: Capabilities<'a>,
    /// Every setting.
    pub settings: Vec<Setting<'a>>,
    /// The first runs in the order of their ids, archived ones left out.
    pub runs: Vec<RunSummary<'a>>,
    /// Whether there are more runs than these.
    pub has_more_runs: bool,
}
