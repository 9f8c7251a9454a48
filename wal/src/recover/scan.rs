//! Reading the log: every record in order, and the decision where it ends. Writes nothing.
//!
//! A segment counts as closed once the next one holds a valid mark, so the newest segment is looked
//! at first: without a mark anywhere it was just being created, and the one before it is the last.
//! Closed segments must parse exactly to the end that the next one states; in the last one the
//! table of [`super::tail`] decides.

use std::collections::VecDeque;

use super::tail::{self, Tail, TailFacts};
use super::walk::{self, Item, Stop, UnknownVersion, Walk, WalkOptions};
use super::{Damage, DamageKind, RecoveredRecord, ScanError};
use crate::codec::StorageCodec;
use crate::disk::Disk;
use crate::faults::Planted;
use crate::files;
use crate::format::header::{HEADER_LEN_BYTES, HeaderState, SegmentHeader};
use crate::format::mark::{MARK_LEN_BYTES, Mark, MarkKind};
use crate::limits::{RECORD_LEN_BYTES_MAX, SEGMENT_DATA_OFFSET, SEGMENT_LEN_BYTES_MAX};
use crate::lsn::Lsn;
use crate::names;

/// What a scan must know beforehand.
#[derive(Debug, Clone, Copy)]
pub struct ScanOptions {
    /// The database, from MANIFEST.
    pub database_uuid: [u8; 16],
    /// Largest record accepted, bytes, framing included. Records up to the cap of the format are
    /// accepted even if this is lower: a setting that was lowered tears no log.
    pub record_len_bytes_max: u32,
    /// The `wal_offset` of the snapshot in use; [`Lsn::ZERO`] without one. Reading starts at its
    /// segment, and the log must reach to it.
    pub snapshot_end: Lsn,
    /// The active segment according to MANIFEST.
    pub manifest_active_segment: u64,
    /// Stop at the first damage instead of refusing; the log can then be read and not settled.
    pub is_permissive: bool,
    /// A planted mistake, for tests of the tests.
    pub planted: Planted,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// Segments read.
    pub segment_count: u64,
    /// Records handed to the visitor.
    pub record_count: u64,
    /// Bytes of segments read.
    pub read_len_bytes: u64,
    /// The highest commit version read; 0 without records.
    pub last_txn_id: u64,
    /// The highest commit version that a mark behind it proves to be durable; 0 without one. What
    /// was read above it may be in the page cache alone, until the log is settled.
    pub durable_txn_id: u64,
    /// The floor in the last valid mark; 0 without one.
    pub version_floor: u64,
    /// The log ends with a close mark.
    pub is_closed: bool,
    /// End of the last record or mark read.
    pub end_lsn: Lsn,
    /// How it ends.
    pub tail: Tail,
    /// Where a permissive scan stopped.
    pub damage: Option<Damage>,
    /// The newest segment, when it holds nothing and must be removed.
    pub empty_newest_segment: Option<u64>,
    /// Segments below the snapshot: left over, to be deleted by compaction.
    pub left_over_segments: Vec<u64>,
    pub(super) last: LastSegment,
    /// Bytes of the empty newest segment behind its header, when they are not all zero.
    pub(super) newest_junk: Option<Vec<u8>>,
}

/// The last segment as read: what settling needs.
#[derive(Debug, Default)]
pub(super) struct LastSegment {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// The batch that holds the last record, and where that record ends; none without records.
    pub(super) content: Option<(Mark, u32)>,
    /// The last valid mark, records or not.
    pub(super) last_mark: Option<Mark>,
    /// Where the walk stopped.
    pub(super) stop_at: u32,
    /// End of the log in the segment before; none when this is the first one.
    pub(super) previous_end: Option<Lsn>,
}

/// Reads the log and hands every record to `visit`, in order.
///
/// # Errors
/// See [`ScanError`]; nothing was changed on disk.
pub fn scan<E>(
    disk: &mut dyn Disk,
    options: &ScanOptions,
    codec: &dyn StorageCodec,
    visit: impl FnMut(RecoveredRecord<'_>) -> Result<(), E>,
) -> Result<Scan, ScanError<E>> {
    let names = files::list(disk, names::WAL_DIR).map_err(|source| ScanError::Io {
        path: names::WAL_DIR.to_owned(),
        source,
    })?;
    let mut listed: Vec<u64> = names
        .iter()
        .filter_map(|name| names::parse_segment_name(name))
        .collect();
    listed.sort_unstable();
    let first = options.snapshot_end.segment().max(1);
    let (newest, missing) = newest_and_missing(&listed, first, options)?;
    let left_over = listed
        .into_iter()
        .filter(|number| *number < first)
        .collect();
    let mut scanner = Scanner {
        options,
        codec,
        visit,
        found: Scan {
            segment_count: 0,
            record_count: 0,
            read_len_bytes: 0,
            last_txn_id: 0,
            durable_txn_id: 0,
            version_floor: 0,
            is_closed: false,
            end_lsn: Lsn::new(first, SEGMENT_DATA_OFFSET),
            tail: Tail::PlainEnd,
            damage: None,
            empty_newest_segment: None,
            left_over_segments: left_over,
            last: LastSegment::default(),
            newest_junk: None,
        },
        record_end_lsn: Lsn::ZERO,
        unproven: VecDeque::new(),
    };
    if newest < first {
        scanner.found.damage = missing;
        return Ok(scanner.found);
    }
    match scanner.run(disk, first, newest) {
        Ok(()) => {
            scanner.found.damage = missing;
            Ok(scanner.found)
        }
        Err(ScanError::Damage(damage)) if options.is_permissive => {
            scanner.found.damage = Some(damage);
            Ok(scanner.found)
        }
        Err(ScanError::Codec { at, .. }) if options.is_permissive => {
            scanner.found.damage = Some(Damage {
                segment: at.segment(),
                offset: at.offset(),
                kind: DamageKind::Undecodable,
            });
            Ok(scanner.found)
        }
        Err(error) => Err(error),
    }
}

/// The newest segment that can be read, and what is missing behind it, if that is permitted.
fn newest_and_missing<E>(
    listed: &[u64],
    first: u64,
    options: &ScanOptions,
) -> Result<(u64, Option<Damage>), ScanError<E>> {
    let hint = options.manifest_active_segment;
    match contiguous_newest(listed, first, hint, options.is_permissive) {
        Ok(newest) => Ok((newest, None)),
        Err(ScanError::MissingSegment { number }) if options.is_permissive => {
            Ok((number - 1, Some(missing(number))))
        }
        Err(error) => Err(error),
    }
}

/// The newest segment, when every number from `first` to it is there.
fn contiguous_newest<E>(
    listed: &[u64],
    first: u64,
    hint: u64,
    is_permissive: bool,
) -> Result<u64, ScanError<E>> {
    let Some(newest) = listed.last().copied() else {
        return Err(ScanError::MissingSegment { number: first });
    };
    if newest < hint && !is_permissive {
        return Err(ScanError::HintAboveLog { hint, newest });
    }
    let mut expected = first;
    for number in listed.iter().copied().filter(|number| first <= *number) {
        if number != expected {
            return Err(ScanError::MissingSegment { number: expected });
        }
        expected += 1;
    }
    if expected == first || newest < hint {
        return Err(ScanError::MissingSegment { number: expected });
    }
    Ok(newest)
}

/// The log ends before this segment.
fn missing(segment: u64) -> Damage {
    Damage {
        segment,
        offset: 0,
        kind: DamageKind::Missing,
    }
}

struct Scanner<'a, V> {
    options: &'a ScanOptions,
    codec: &'a dyn StorageCodec,
    visit: V,
    found: Scan,
    /// End of the last record read.
    record_end_lsn: Lsn,
    /// Where batches end that no mark has proven durable yet, each with its highest commit version.
    unproven: VecDeque<(Lsn, u64)>,
}

/// Where a segment stands in the log.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u64,
    /// A later segment holds a mark.
    is_closed: bool,
    /// The only segment, without a mark anywhere: it was being created.
    is_fresh: bool,
    previous_end: Option<Lsn>,
}

impl<E, V: FnMut(RecoveredRecord<'_>) -> Result<(), E>> Scanner<'_, V> {
    fn run(&mut self, disk: &mut dyn Disk, first: u64, newest: u64) -> Result<(), ScanError<E>> {
        let newest_bytes = self.read(disk, newest, Vec::new())?;
        let holds_mark = self.holds_mark(newest, &newest_bytes)?;
        let last = if holds_mark || newest == first {
            newest
        } else {
            newest - 1
        };
        let mut newest_is_ours = Ok(());
        if last != newest {
            newest_is_ours = self.check_unused_header(newest, &newest_bytes);
            self.found.empty_newest_segment = Some(newest);
            let junk_len = walk::nonzero_len_bytes(&newest_bytes, SEGMENT_DATA_OFFSET);
            let start = SEGMENT_DATA_OFFSET as usize;
            self.found.newest_junk =
                (junk_len != 0).then(|| newest_bytes.get(start..).unwrap_or_default().to_vec());
        }
        let mut kept = (last == newest).then_some(newest_bytes);
        let mut bytes = Vec::new();
        let mut previous_end = None;
        for number in first..=last {
            bytes = match kept.take_if(|_| number == newest) {
                Some(newest_bytes) => newest_bytes,
                None => self.read(disk, number, bytes)?,
            };
            let place = Place {
                number,
                is_closed: number != last,
                is_fresh: number == newest && !holds_mark,
                previous_end,
            };
            let walked = self.segment(place, &bytes)?;
            previous_end = Some(self.found.end_lsn);
            if let Some(walked) = walked {
                self.found.last = LastSegment { bytes, ..walked };
                break;
            }
        }
        newest_is_ours
    }

    fn read(
        &mut self,
        disk: &mut dyn Disk,
        number: u64,
        mut bytes: Vec<u8>,
    ) -> Result<Vec<u8>, ScanError<E>> {
        let path = names::segment_path(number);
        match files::read_file_into(disk, &path, SEGMENT_LEN_BYTES_MAX, &mut bytes) {
            Ok(()) => {
                self.found.read_len_bytes += bytes.len() as u64;
                Ok(bytes)
            }
            Err(source) => Err(ScanError::Io { path, source }),
        }
    }

    fn walk_options(&self, segment: u64) -> WalkOptions {
        WalkOptions {
            segment,
            database_uuid: self.options.database_uuid,
            record_len_bytes_max: self.options.record_len_bytes_max.max(RECORD_LEN_BYTES_MAX),
            planted: self.options.planted,
        }
    }

    /// Whether a segment was in use. A mark of a version this build does not know says that it
    /// was, and that this build must not touch it.
    fn holds_mark(&self, number: u64, bytes: &[u8]) -> Result<bool, ScanError<E>> {
        match walk::later_marks(bytes, self.walk_options(number), 0).next() {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(unknown)) => Err(unknown_format(number, unknown)),
        }
    }

    /// A newest segment without a mark is removed, unless its header says that it is not of this
    /// log: no crash leaves another database's header, another number or another version. A header
    /// that is not whole is that of a segment being created, as the format says; when MANIFEST named
    /// the segment, somebody else has cut it.
    fn check_unused_header(&self, number: u64, bytes: &[u8]) -> Result<(), ScanError<E>> {
        let is_named = number <= self.options.manifest_active_segment;
        match self.check_header(number, bytes, false) {
            Err(ScanError::Damage(Damage {
                kind: DamageKind::Header,
                ..
            })) if is_named => {
                tracing::error!(
                    segment = number,
                    "MANIFEST names a segment whose header is gone: no crash does that, and what it \
                     held is lost"
                );
                Ok(())
            }
            Err(ScanError::Damage(Damage {
                kind: DamageKind::Header,
                ..
            })) => Ok(()),
            other => other,
        }
    }

    /// Reads one segment. The last one yields what settling needs.
    fn segment(&mut self, place: Place, bytes: &[u8]) -> Result<Option<LastSegment>, ScanError<E>> {
        let Place {
            number,
            is_closed,
            is_fresh,
            previous_end,
        } = place;
        self.found.segment_count += 1;
        self.check_header(number, bytes, is_fresh)?;
        self.check_stated_end(number, bytes, previous_end)?;
        self.found.end_lsn = Lsn::new(number, SEGMENT_DATA_OFFSET);
        let mut last = LastSegment {
            number,
            previous_end,
            ..LastSegment::default()
        };
        let mut walk = Walk::new(bytes, self.walk_options(number));
        let stop = loop {
            match walk
                .next()
                .map_err(|unknown| unknown_format(number, unknown))?
            {
                Item::Mark(mark) => {
                    self.prove_durable(mark.durable_lsn);
                    self.found.version_floor = mark.version_floor;
                    self.found.is_closed = mark.kind == MarkKind::Close;
                    self.found.end_lsn = Lsn::new(number, mark.own_lsn.offset() + MARK_LEN_BYTES);
                    last.last_mark = Some(mark);
                }
                Item::Record { record, at, end } => {
                    let lsn = Lsn::new(number, at);
                    let end_lsn = Lsn::new(number, end);
                    self.record(record.head, record.writeset, lsn, end_lsn)?;
                    self.found.end_lsn = end_lsn;
                    last.content = last.last_mark.map(|mark| (mark, end));
                }
                Item::Stop(stop) => break stop,
            }
        };
        last.stop_at = stop.at;
        if is_closed {
            return closed_end(number, bytes, stop)
                .map(|()| None)
                .map_err(ScanError::Damage);
        }
        self.last_end(number, bytes, stop)?;
        Ok(Some(last))
    }

    fn check_header(&self, number: u64, bytes: &[u8], is_fresh: bool) -> Result<(), ScanError<E>> {
        let database_uuid = self.options.database_uuid;
        let expected = SegmentHeader {
            segment: number,
            database_uuid,
        };
        let kind = match SegmentHeader::read(bytes, &expected) {
            HeaderState::Valid(header) if header == expected => return Ok(()),
            HeaderState::Valid(header) if header.database_uuid != database_uuid => {
                DamageKind::DatabaseUuid
            }
            HeaderState::Valid(header) => DamageKind::SegmentNumber {
                found: header.segment,
            },
            HeaderState::UnknownVersion(version) => {
                let offset = 0;
                return Err(ScanError::UnknownFormat {
                    segment: number,
                    offset,
                    version,
                });
            }
            HeaderState::Torn if is_fresh => return Ok(()),
            HeaderState::Torn | HeaderState::Damaged => DamageKind::Header,
        };
        Err(ScanError::Damage(Damage {
            segment: number,
            offset: 0,
            kind,
        }))
    }

    /// The first mark of a segment states where the log ends in the segment before.
    fn check_stated_end(
        &self,
        number: u64,
        bytes: &[u8],
        previous_end: Option<Lsn>,
    ) -> Result<(), ScanError<E>> {
        let Some(previous_end) = previous_end else {
            return Ok(());
        };
        let options = self.walk_options(number);
        let mut marks = walk::later_marks(bytes, options, SEGMENT_DATA_OFFSET - 1);
        // When the first batch is torn, a later one may still state it: nothing of this segment
        // was durable then.
        let stated = marks.find_map(Result::ok).map(|mark| mark.durable_lsn);
        match stated.filter(|stated| stated.segment() < number) {
            Some(stated) if stated != previous_end => {
                let kind = DamageKind::StatedEnd { stated };
                let (segment, offset) = (previous_end.segment(), previous_end.offset());
                Err(ScanError::Damage(Damage {
                    segment,
                    offset,
                    kind,
                }))
            }
            _ => Ok(()),
        }
    }

    fn record(
        &mut self,
        head: crate::format::record::RecordHead,
        stored: &[u8],
        lsn: Lsn,
        end_lsn: Lsn,
    ) -> Result<(), ScanError<E>> {
        if head.txn_id <= self.found.last_txn_id {
            let after = self.found.last_txn_id;
            let kind = DamageKind::VersionOrder {
                txn_id: head.txn_id,
                after,
            };
            let (segment, offset) = (lsn.segment(), lsn.offset());
            return Err(ScanError::Damage(Damage {
                segment,
                offset,
                kind,
            }));
        }
        let writeset = self
            .codec
            .decode(stored)
            .map_err(|source| ScanError::Codec { at: lsn, source })?;
        let recovered = RecoveredRecord {
            lsn,
            end_lsn,
            txn_id: head.txn_id,
            run_id: head.run_id,
            timestamp_us: head.timestamp_us,
            writeset: &writeset,
        };
        (self.visit)(recovered).map_err(|source| ScanError::Visitor { at: lsn, source })?;
        self.found.last_txn_id = head.txn_id;
        self.found.record_count += 1;
        self.record_end_lsn = end_lsn;
        Ok(())
    }

    /// A mark, behind the batch read last, says how far the log was durable when it was written.
    fn prove_durable(&mut self, durable_lsn: Lsn) {
        let batch_end = (self.record_end_lsn, self.found.last_txn_id);
        if self.found.durable_txn_id < batch_end.1 && self.unproven.back() != Some(&batch_end) {
            self.unproven.push_back(batch_end);
        }
        while let Some((_, txn_id)) = self.unproven.pop_front_if(|(end, _)| *end <= durable_lsn) {
            self.found.durable_txn_id = txn_id;
        }
    }

    fn last_end(&mut self, number: u64, bytes: &[u8], stop: Stop) -> Result<(), ScanError<E>> {
        let mut later_durable_lsn = None;
        for mark in walk::later_marks(bytes, self.walk_options(number), stop.at) {
            // What a build that knows more wrote behind P is not this build's to drop.
            let mark = mark.map_err(|unknown| unknown_format(number, unknown))?;
            later_durable_lsn = later_durable_lsn.max(Some(mark.durable_lsn));
        }
        let facts = TailFacts {
            at: Lsn::new(number, stop.at),
            snapshot_end: self.options.snapshot_end,
            later_durable_lsn,
            is_inside_batch: stop.is_inside_batch,
            nonzero_len_bytes: walk::nonzero_len_bytes(bytes, stop.at),
        };
        self.found.tail = tail::decide(facts).map_err(ScanError::Damage)?;
        if self.found.tail != Tail::PlainEnd {
            self.found.is_closed = false;
        }
        Ok(())
    }
}

const _: () = assert!(HEADER_LEN_BYTES < SEGMENT_DATA_OFFSET as usize);

/// A closed segment parses to its end, and zeros follow.
fn closed_end(number: u64, bytes: &[u8], stop: Stop) -> Result<(), Damage> {
    if stop.is_inside_batch || walk::nonzero_len_bytes(bytes, stop.at) != 0 {
        let kind = DamageKind::ClosedSegment;
        return Err(Damage {
            segment: number,
            offset: stop.at,
            kind,
        });
    }
    Ok(())
}

fn unknown_format<E>(segment: u64, unknown: UnknownVersion) -> ScanError<E> {
    ScanError::UnknownFormat {
        segment,
        offset: unknown.at,
        version: u32::from(unknown.version),
    }
}
