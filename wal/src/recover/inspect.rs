//! Looking at every segment on its own, whatever is wrong with those before it. For examining a
//! log that may be damaged; nothing is decided here about what may be used, and nothing is written.
//!
//! A scan stops at the first damage, because nothing behind it may be applied. This goes on at the
//! next valid mark, so that it can be said how much is damaged and what stands behind it.

use std::io;

use super::tail::{self, Tail, TailFacts};
use super::walk::{self, Item, Stop, Walk, WalkOptions};
use super::{Damage, DamageKind, ScanOptions};
use crate::disk::Disk;
use crate::files;
use crate::format::header::{HEADER_LEN_BYTES, HeaderState, SegmentHeader};
use crate::limits::{RECORD_LEN_BYTES_MAX, SEGMENT_DATA_OFFSET, SEGMENT_LEN_BYTES_MAX};
use crate::lsn::Lsn;
use crate::names;

/// What one segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSeen {
    /// Its number.
    pub number: u64,
    /// Length of its file, bytes.
    pub len_bytes: u64,
    /// Records that can be read, those behind damage included, count.
    pub record_count: u64,
    /// The commit versions of the first and the last of them; none without records.
    pub versions: Option<(u64, u64)>,
    /// The highest floor its marks state: no version above it was issued then.
    pub version_floor: u64,
    /// The first thing wrong with it.
    pub damage: Option<Damage>,
    /// The first byte that should be zero and is not, between header and first batch or between two
    /// batches: nobody reads it, so nothing is lost, but nobody of ours wrote it either.
    pub padding_offset: Option<u32>,
    /// Bytes of an append that a crash cut short, which the next open drops; 0 for none.
    pub torn_len_bytes: u64,
    /// No valid mark stands in it: it was being created.
    pub is_empty: bool,
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Every segment that is there, ascending.
    pub segments: Vec<SegmentSeen>,
    /// Numbers between them, and up to the one that MANIFEST names, that are not there.
    pub missing: Vec<u64>,
}

/// Reads every segment and hands the run and the version of every record to `visit`, in the order
/// of the files. Checksums are compared; what records hold is not looked at.
///
/// # Errors
/// The file, and what the kernel said about it.
pub fn inspect(
    disk: &mut dyn Disk,
    options: &ScanOptions,
    visit: &mut dyn FnMut([u8; 16], u64),
) -> Result<Inspection, (String, io::Error)> {
    let listed =
        files::list(disk, names::WAL_DIR).map_err(|error| (names::WAL_DIR.to_owned(), error))?;
    let mut numbers: Vec<u64> = listed
        .iter()
        .filter_map(|name| names::parse_segment_name(name))
        .collect();
    numbers.sort_unstable();
    let mut inspection = Inspection::default();
    let mut bytes = Vec::new();
    let mut before: Option<Before> = None;
    for &number in &numbers {
        let path = names::segment_path(number);
        files::read_file_into(disk, &path, SEGMENT_LEN_BYTES_MAX, &mut bytes)
            .map_err(|error| (path, error))?;
        let mut look = Look::new(&bytes, number, options);
        look.records(visit);
        if let Some(before) = before.take() {
            let stated = look.stated_end.filter(|stated| stated.segment() < number);
            before.close(!look.seen.is_empty, stated, &mut inspection.segments);
        }
        before = Some(Before {
            end: look.end,
            stop: look.stop,
            closed_damage: look.closed_damage(),
            tail: look.tail(),
        });
        inspection.segments.push(look.seen);
    }
    if let Some(before) = before {
        before.close(false, None, &mut inspection.segments);
    }
    let newest = numbers.last().copied().unwrap_or(0);
    let newest = newest.max(options.manifest_active_segment);
    let oldest = numbers.first().copied().unwrap_or(1);
    inspection.missing = (oldest..=newest)
        .filter(|number| numbers.binary_search(number).is_err())
        .collect();
    Ok(inspection)
}

/// The segment before, of which it is not known yet whether it is the last one.
struct Before {
    end: Lsn,
    stop: Stop,
    closed_damage: Option<Damage>,
    tail: Result<Tail, Damage>,
}

impl Before {
    /// Enters what is wrong with it, the last of `segments`.
    fn close(self, is_closed: bool, stated: Option<Lsn>, segments: &mut [SegmentSeen]) {
        let Some(seen) = segments.last_mut().filter(|seen| seen.damage.is_none()) else {
            return;
        };
        if !is_closed {
            match self.tail {
                Ok(Tail::Torn {
                    dropped_len_bytes, ..
                }) => seen.torn_len_bytes = dropped_len_bytes,
                Ok(Tail::PlainEnd) => {}
                Err(damage) => seen.damage = Some(damage),
            }
            return;
        }
        seen.damage = self.closed_damage.or_else(|| {
            let stated = stated.filter(|stated| *stated != self.end)?;
            Some(Damage {
                segment: seen.number,
                offset: self.stop.at.min(self.end.offset()),
                kind: DamageKind::StatedEnd { stated },
            })
        });
    }
}

/// One segment that is being looked at.
struct Look<'a> {
    bytes: &'a [u8],
    options: WalkOptions,
    scan: &'a ScanOptions,
    seen: SegmentSeen,
    /// What its first valid mark says about the segment before.
    stated_end: Option<Lsn>,
    /// End of the last record or mark before the first stop.
    end: Lsn,
    /// Where the first walk stopped.
    stop: Stop,
}

impl<'a> Look<'a> {
    fn new(bytes: &'a [u8], number: u64, scan: &'a ScanOptions) -> Self {
        let expected = SegmentHeader {
            segment: number,
            database_uuid: scan.database_uuid,
        };
        let kind = match SegmentHeader::read(bytes, &expected) {
            HeaderState::Valid(header) if header == expected => None,
            HeaderState::Valid(header) if header.database_uuid != scan.database_uuid => {
                Some(DamageKind::DatabaseUuid)
            }
            HeaderState::Valid(header) => Some(DamageKind::SegmentNumber {
                found: header.segment,
            }),
            HeaderState::UnknownVersion(_) | HeaderState::Torn | HeaderState::Damaged => {
                Some(DamageKind::Header)
            }
        };
        Self {
            bytes,
            options: WalkOptions {
                segment: number,
                database_uuid: scan.database_uuid,
                record_len_bytes_max: scan.record_len_bytes_max.max(RECORD_LEN_BYTES_MAX),
                planted: scan.planted,
            },
            scan,
            seen: SegmentSeen {
                number,
                len_bytes: bytes.len() as u64,
                record_count: 0,
                versions: None,
                version_floor: 0,
                damage: kind.map(|kind| Damage {
                    segment: number,
                    offset: 0,
                    kind,
                }),
                padding_offset: nonzero_in(bytes, HEADER_LEN_BYTES, SEGMENT_DATA_OFFSET as usize),
                torn_len_bytes: 0,
                is_empty: true,
            },
            stated_end: None,
            end: Lsn::new(number, SEGMENT_DATA_OFFSET),
            stop: Stop {
                at: SEGMENT_DATA_OFFSET,
                is_inside_batch: false,
            },
        }
    }

    /// Walks over all that can be read.
    fn records(&mut self, visit: &mut dyn FnMut([u8; 16], u64)) {
        let mut stop = self.walk(Walk::new(self.bytes, self.options), true, visit);
        self.stop = stop;
        loop {
            let mut marks = walk::later_marks(self.bytes, self.options, stop.at);
            let Some(mark) = marks.find_map(Result::ok) else {
                break;
            };
            stop = self.walk(
                Walk::from_mark(self.bytes, self.options, &mark),
                false,
                visit,
            );
        }
        // A newest segment that was just being made has no header to be damaged.
        if self.seen.is_empty
            && let Some(Damage {
                kind: DamageKind::Header,
                ..
            }) = self.seen.damage
        {
            self.seen.damage = None;
        }
    }

    fn walk(
        &mut self,
        mut walk: Walk<'_>,
        is_first: bool,
        visit: &mut dyn FnMut([u8; 16], u64),
    ) -> Stop {
        let mut before = None;
        loop {
            let end = match walk.next() {
                Ok(Item::Mark(mark)) => {
                    if let Some(before) = before {
                        let at = mark.own_lsn.offset() as usize;
                        let padding = nonzero_in(self.bytes, before, at);
                        self.seen.padding_offset = self.seen.padding_offset.or(padding);
                    }
                    self.seen.is_empty = false;
                    self.seen.version_floor = self.seen.version_floor.max(mark.version_floor);
                    self.stated_end.get_or_insert(mark.durable_lsn);
                    mark.own_lsn.offset() + crate::format::mark::MARK_LEN_BYTES
                }
                Ok(Item::Record { record, end, .. }) => {
                    let version = record.head.txn_id;
                    let first = self.seen.versions.map_or(version, |(first, _)| first);
                    self.seen.versions = Some((first, version));
                    self.seen.record_count += 1;
                    visit(record.head.run_id, version);
                    end
                }
                Ok(Item::Stop(stop)) => return stop,
                Err(unknown) => {
                    return Stop {
                        at: unknown.at,
                        is_inside_batch: true,
                    };
                }
            };
            before = Some(end as usize);
            if is_first {
                self.end = Lsn::new(self.seen.number, end);
            }
        }
    }

    /// What is wrong with it if a later segment was in use.
    fn closed_damage(&self) -> Option<Damage> {
        let is_whole = !self.stop.is_inside_batch
            && walk::nonzero_len_bytes(self.bytes, self.stop.at) == 0
            && !self.seen.is_empty;
        (!is_whole).then_some(Damage {
            segment: self.seen.number,
            offset: self.stop.at,
            kind: DamageKind::ClosedSegment,
        })
    }

    /// How the log ends if it is the last one.
    fn tail(&self) -> Result<Tail, Damage> {
        let later = walk::later_marks(self.bytes, self.options, self.stop.at);
        let later_durable_lsn = later.filter_map(Result::ok).map(|it| it.durable_lsn).max();
        tail::decide(TailFacts {
            at: Lsn::new(self.seen.number, self.stop.at),
            snapshot_end: self.scan.snapshot_end,
            later_durable_lsn,
            is_inside_batch: self.stop.is_inside_batch,
            nonzero_len_bytes: walk::nonzero_len_bytes(self.bytes, self.stop.at),
        })
    }
}

/// The first byte of a range that is not zero.
fn nonzero_in(bytes: &[u8], from: usize, to: usize) -> Option<u32> {
    let range = bytes.get(from..to.min(bytes.len()))?;
    let at = range.iter().position(|byte| *byte != 0)?;
    u32::try_from(from + at).ok()
}
