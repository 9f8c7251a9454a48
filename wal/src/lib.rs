//! The write-ahead log: ordered, durable, opaque records.
//!
//! It owns the disk and clock seams, the segment files, group commit and the decision where a log
//! ends after a crash. It refuses to know what a record means: keys and values are bytes here, and
//! versions are the engine's numbers, written down and read back.
//!
//! A log is read by [`recover::scan`], made writable by [`recover::settle`], started by [`start`]
//! and served by a [`Writer`] on its thread ([`spawn_log_thread`]). Committers hold a [`LogHandle`]:
//! reserve, take the appender, append; the owner hears of the outcome through its [`Sink`].

#![cfg_attr(
    test,
    expect(
        clippy::duplicate_mod,
        reason = "`tests/scheduled` includes the hand-off once more, over the types of its scheduler"
    )
)]

pub mod clock;
pub mod codec;
pub mod config;
pub mod disk;
mod driver;
pub mod faults;
pub mod files;
pub mod format;
mod handle;
#[cfg(any(test, feature = "faults"))]
pub mod harness;
pub mod histogram;
pub mod limits;
mod lsn;
mod metrics;
pub mod names;
mod observed;
mod pulse;
pub mod recover;
mod room;
mod sink;
pub mod spares;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{IdentityCodec, StorageCodec, get_codec};
pub use config::{ConfigError, LogConfig, WriteForm};
pub use driver::{LOG_THREAD_NAME, LogThread, SpawnError, spawn_log_thread};
pub use handle::{
    Append, AppendError, Appender, FlushError, FlushTicket, LogHandle, Reservation, ReserveError,
};
pub use lsn::Lsn;
pub use metrics::LogMetrics;
pub use observed::LogObserved;
pub use pulse::LogPulse;
pub use sink::{LogStatus, Need, PoisonCause, Sink, Stage};
pub use writer::{Turn, Writer, WriterSeed, start};
