//! From the files of a log to a log that takes records again.
//!
//! Two steps, apart so that the decision can be tested without effects: [`scan`] reads every
//! segment, hands each record to a visitor and decides where the log ends; it writes nothing.
//! [`settle`] makes that decision durable: it keeps what is dropped in quarantine, rewrites the last
//! segment and raises the version floor. A crash anywhere inside and a rerun give the same log.

mod copy;
mod inspect;
mod reserve;
mod scan;
mod settle;
mod tail;
mod walk;

use std::fmt;
use std::io;

use crate::codec::CodecError;
use crate::lsn::Lsn;
use crate::names;

pub use copy::{LogCopy, copy_file, copy_log};
pub use inspect::{Inspection, SegmentSeen, inspect};
pub use reserve::{ensure_reserve, release_reserve};
pub use scan::{Scan, ScanOptions, scan};
pub use settle::{SettleError, SettleOptions, Settled, create_log, settle};
pub use tail::Tail;

/// A record read back, in log order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredRecord<'a> {
    /// Its first byte.
    pub lsn: Lsn,
    /// The byte after it.
    pub end_lsn: Lsn,
    /// Commit version.
    pub txn_id: u64,
    /// The run it belongs to.
    pub run_id: [u8; 16],
    /// Commit time, microseconds since the epoch.
    pub timestamp_us: u64,
    /// The plain writeset.
    pub writeset: &'a [u8],
}

/// Bytes that changed after they were durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: u64,
    /// Where the segment stops making sense, bytes from the start of its file.
    pub offset: u32,
    /// How it is known to be damage.
    pub kind: DamageKind,
}

/// How damage is told from a torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// The header of a segment that was in use does not read as one.
    Header,
    /// The header carries another number than the file's name.
    SegmentNumber {
        /// The number in the header.
        found: u64,
    },
    /// The header carries another database's uuid.
    DatabaseUuid,
    /// A later mark says that this position was durable.
    DurablePerLaterMark {
        /// What that mark says.
        durable_lsn: Lsn,
    },
    /// A segment between others, or one that MANIFEST names, is not there.
    Missing,
    /// The snapshot in use was taken from behind this position.
    BelowSnapshot,
    /// A closed segment does not parse to its end.
    ClosedSegment,
    /// The next segment says that this one ends elsewhere.
    StatedEnd {
        /// What it says.
        stated: Lsn,
    },
    /// A commit version does not rise.
    VersionOrder {
        /// The version found.
        txn_id: u64,
        /// The one before it.
        after: u64,
    },
    /// The codec refuses a record whose checksum is right. A scan that is not permissive ends with
    /// [`ScanError::Codec`] there.
    Undecodable,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = names::segment_path(self.segment);
        write!(f, "{path} is damaged at offset {}: ", self.offset)?;
        match self.kind {
            DamageKind::Header => f.write_str("no segment header"),
            DamageKind::SegmentNumber { found } => write!(f, "header of segment {found}"),
            DamageKind::DatabaseUuid => f.write_str("segment of another database"),
            DamageKind::DurablePerLaterMark { durable_lsn } => {
                write!(
                    f,
                    "a later mark says the log was durable up to {durable_lsn}"
                )
            }
            DamageKind::Missing => f.write_str("the segment is missing"),
            DamageKind::BelowSnapshot => f.write_str("the snapshot reaches beyond it"),
            DamageKind::ClosedSegment => f.write_str("a closed segment does not parse to its end"),
            DamageKind::StatedEnd { stated } => {
                write!(f, "the next segment says it ends at {stated}")
            }
            DamageKind::VersionOrder { txn_id, after } => {
                write!(f, "commit version {txn_id} follows {after}")
            }
            DamageKind::Undecodable => {
                f.write_str("its codec refuses a record whose checksum is right")
            }
        }
    }
}

impl std::error::Error for Damage {}

/// Why a log cannot be read. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum ScanError<E> {
    /// The kernel said no.
    #[error("{path} could not be read")]
    Io {
        /// Which file or directory.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// A segment between the first needed and the newest is missing, or all of them are.
    #[error("log segment {number} is missing")]
    MissingSegment {
        /// Its number.
        number: u64,
    },
    /// MANIFEST names a segment above every one that exists; no crash can cause that.
    #[error("manifest names segment {hint}, the newest is {newest}")]
    HintAboveLog {
        /// What MANIFEST says.
        hint: u64,
        /// The newest there is.
        newest: u64,
    },
    /// Valid bytes of a format version this build does not know. Nothing was dropped.
    #[error("log segment {segment} holds format version {version} at offset {offset}")]
    UnknownFormat {
        /// In which segment.
        segment: u64,
        /// Where, bytes from the start of the file.
        offset: u32,
        /// The version found.
        version: u32,
    },
    /// Durable bytes changed.
    #[error(transparent)]
    Damage(Damage),
    /// A record's checksum is right and its codec refuses it.
    #[error("record at {at} could not be decoded")]
    Codec {
        /// The record.
        at: Lsn,
        /// What the codec said.
        source: CodecError,
    },
    /// The visitor refused a record.
    #[error("record at {at} was refused")]
    Visitor {
        /// The record.
        at: Lsn,
        /// What it said.
        source: E,
    },
}
