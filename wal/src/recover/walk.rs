//! Walking one segment's bytes, from mark to mark and from record to record. Pure.
//!
//! Nothing is searched for inside a batch: what its mark announces must parse, or the walk stops
//! there. [`later_marks`] looks at block boundaries behind a stop, for evidence only.

use crate::faults::{Mutant, Planted};
use crate::format::mark::{MARK_LEN_BYTES, MARK_TXN_ID, Mark};
use crate::format::record::{ParseError, ParseLimits, Record};
use crate::limits::{LOG_BLOCK_LEN_BYTES_MIN, SEGMENT_DATA_OFFSET};
use crate::lsn::Lsn;

/// What is needed to read a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalkOptions {
    pub(super) segment: u64,
    pub(super) database_uuid: [u8; 16],
    pub(super) record_len_bytes_max: u32,
    pub(super) planted: Planted,
}

/// What the walk meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Mark(Mark),
    Record {
        record: Record<'a>,
        at: u32,
        end: u32,
    },
    Stop(Stop),
}

/// Where the walk stopped: the first position where what is expected is missing or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) at: u32,
    pub(super) is_inside_batch: bool,
}

/// A valid record or mark of a version this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownVersion {
    pub(super) at: u32,
    pub(super) version: u8,
}

/// A walk over one segment.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    options: WalkOptions,
    /// Where the next item starts.
    at: usize,
    /// The batch being read.
    batch: Option<Mark>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], options: WalkOptions) -> Self {
        Self {
            bytes,
            options,
            at: SEGMENT_DATA_OFFSET as usize,
            batch: None,
        }
    }

    /// The same from a mark on.
    pub(super) fn from_mark(bytes: &'a [u8], options: WalkOptions, mark: &Mark) -> Self {
        Self {
            at: mark.own_lsn.offset() as usize,
            ..Self::new(bytes, options)
        }
    }

    pub(super) fn next(&mut self) -> Result<Item<'a>, UnknownVersion> {
        if let Some(mark) = self.batch {
            let end = usize::try_from(mark.end_offset()).unwrap_or(usize::MAX);
            if self.at < end {
                return self.next_record(end);
            }
            self.at = end.next_multiple_of(usize::from(mark.log_block_len_bytes));
            self.batch = None;
        }
        self.next_mark()
    }

    fn next_mark(&mut self) -> Result<Item<'a>, UnknownVersion> {
        let at = offset_u32(self.at);
        let stop = Item::Stop(Stop {
            at,
            is_inside_batch: false,
        });
        let Some(rest) = self.bytes.get(self.at..) else {
            return Ok(stop);
        };
        let lsn = Lsn::new(self.options.segment, at);
        match Mark::read(rest, lsn, self.options.database_uuid) {
            Ok(Some(mark)) => {
                self.at += MARK_LEN_BYTES as usize;
                self.batch = Some(mark);
                Ok(Item::Mark(mark))
            }
            Ok(None) => Ok(stop),
            Err(error) => Err(unknown_version(at, error)),
        }
    }

    fn next_record(&mut self, end: usize) -> Result<Item<'a>, UnknownVersion> {
        let at = offset_u32(self.at);
        let there = self
            .bytes
            .get(self.at..end.min(self.bytes.len()))
            .unwrap_or_default();
        let limits = ParseLimits {
            record_len_bytes_max: self.options.record_len_bytes_max,
            crc_is_checked: !self.options.planted.is(Mutant::CrcNotChecked),
        };
        match Record::parse_with(there, limits) {
            Ok((record, consumed)) if record.head.txn_id != MARK_TXN_ID => {
                self.at += consumed;
                Ok(Item::Record {
                    record,
                    at,
                    end: offset_u32(self.at),
                })
            }
            Err(error @ ParseError::UnsupportedVersion { .. }) => Err(unknown_version(at, error)),
            // A mark inside a batch is as bad as a broken record.
            Ok(_) | Err(_) => self.bad_record(there, limits, end),
        }
    }

    fn bad_record(
        &mut self,
        there: &'a [u8],
        limits: ParseLimits,
        end: usize,
    ) -> Result<Item<'a>, UnknownVersion> {
        let planted = self.options.planted;
        if planted.is(Mutant::ZeroSectorTakenForPadding) && there.starts_with(&[0; 4]) {
            self.at = end;
            return self.next();
        }
        if planted.is(Mutant::TornBatchAppliedPastHole) {
            let next = (1..there.len()).find(|skip| {
                Record::parse_with(there.get(*skip..).unwrap_or_default(), limits).is_ok()
            });
            self.at = next.map_or(end, |skip| self.at + skip);
            return self.next();
        }
        Ok(Item::Stop(Stop {
            at: offset_u32(self.at),
            is_inside_batch: true,
        }))
    }
}

fn unknown_version(at: u32, error: ParseError) -> UnknownVersion {
    match error {
        ParseError::UnsupportedVersion { version } => UnknownVersion { at, version },
        _ => UnknownVersion { at, version: 0 },
    }
}

/// The valid marks at block boundaries behind `after`, wherever batches may lie, those of unknown
/// versions as errors.
pub(super) fn later_marks(
    bytes: &[u8],
    options: WalkOptions,
    after: u32,
) -> impl Iterator<Item = Result<Mark, UnknownVersion>> + use<'_> {
    let block = LOG_BLOCK_LEN_BYTES_MIN as usize;
    let first = (after as usize + 1)
        .next_multiple_of(block)
        .max(SEGMENT_DATA_OFFSET as usize);
    (first..bytes.len()).step_by(block).filter_map(move |at| {
        let offset = offset_u32(at);
        let lsn = Lsn::new(options.segment, offset);
        Mark::read(bytes.get(at..)?, lsn, options.database_uuid)
            .map_err(|error| unknown_version(offset, error))
            .transpose()
    })
}

/// Bytes from `at` to the last one that is not zero.
pub(super) fn nonzero_len_bytes(bytes: &[u8], at: u32) -> u64 {
    let rest = bytes.get(at as usize..).unwrap_or_default();
    rest.iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

/// A file offset; segments are below 4 GiB, and the scan refuses longer files.
fn offset_u32(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
