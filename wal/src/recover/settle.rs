//! Making the end of the log durable before the first new record.
//!
//! ```text
//! 1  delete left-over temporary files
//! 2  copy what follows the end of the log to QUARANTINE/, synced, and sync that directory
//! 3  an empty newest segment: lower the MANIFEST hint, unlink the segment, sync WAL/; without room
//!    for the hint, cut the segment to its header first
//! 4  write the surviving prefix of the last segment, and behind it one empty batch with the new
//!    version floor, to a new file of a whole segment; sync it
//! 5  rename it over the last segment, sync WAL/
//! ```
//!
//! Step 4 happens always: after an earlier write or sync error the page cache may show bytes that
//! the disk does not hold. Empty batches at the very end are not carried over, so opening again and
//! again does not grow the log; a batch that was cut is carried over up to its last whole record,
//! with a mark that says so. Every step can be cut short and done again from the start: until the
//! rename of step 5 the last segment is as it was, and afterwards it scans to the same records.

use std::io;

use super::scan::{LastSegment, Scan};
use super::tail::Tail;
use crate::config::LogConfig;
use crate::disk::{Disk, FileId, Op, OpenMode};
use crate::faults::{self, Mutant, Point};
use crate::files;
use crate::format::header::SegmentHeader;
use crate::format::mark::{MARK_LEN_BYTES, Mark, MarkKind};
use crate::limits::{LOG_BLOCK_LEN_BYTES_MAX, SEGMENT_DATA_OFFSET, SEGMENT_LEN_BYTES_MAX};
use crate::lsn::Lsn;
use crate::names;

use super::reserve::release_reserve;

/// What settling must know.
#[derive(Debug, Clone, Copy)]
pub struct SettleOptions {
    /// The settings the log will be started with.
    pub config: LogConfig,
    /// The database, from MANIFEST.
    pub database_uuid: [u8; 16],
    /// The floor to make durable: the engine's, raised.
    pub version_floor: u64,
    /// Time of day, microseconds since the epoch; names the quarantine file.
    pub now_us: u64,
}

/// A log that is ready to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The database it belongs to.
    pub database_uuid: [u8; 16],
    /// The segment that new batches go to.
    pub active_segment: u64,
    /// Length of its file, bytes.
    pub active_len_bytes: u64,
    /// Where the next batch goes, bytes from the start of the file.
    pub next_offset: u32,
    /// End of the log; everything below is durable.
    pub end_lsn: Lsn,
    /// The highest commit version in the log that was read; 0 without one.
    pub last_txn_id: u64,
    /// The floor that is durable.
    pub version_floor: u64,
    /// Bytes that went to quarantine.
    pub quarantined_len_bytes: u64,
    /// The reserve file was given up to get here.
    pub reserve_is_spent: bool,
}

/// Why a log was not settled. It can be scanned again; nothing readable was lost.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The disk is full, and giving up the reserve file, if there was one, did not help. The log is
    /// as it was: open read-only.
    #[error("no space to settle the log: free some and open again")]
    NoSpace(#[source] io::Error),
    /// The scan stopped at damage: such a log is only read.
    #[error("a damaged log is not written to")]
    Damaged,
    /// The kernel said no.
    #[error("log could not be settled at {step}")]
    Io {
        /// Which step.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The MANIFEST hint could not be lowered.
    #[error("manifest could not be lowered to segment {segment}")]
    Hint {
        /// To which segment.
        segment: u64,
        /// What was said.
        source: io::Error,
    },
}

/// Creates the directories and the first segment of a new log, durably. Harmless to repeat, as
/// long as no MANIFEST exists.
///
/// # Errors
/// What the kernel said.
pub fn create_log(disk: &mut dyn Disk, database_uuid: [u8; 16]) -> io::Result<()> {
    files::create_dir_if_absent(disk, names::WAL_DIR)?;
    files::create_dir_if_absent(disk, names::QUARANTINE_DIR)?;
    let header = SegmentHeader {
        segment: 1,
        database_uuid,
    };
    files::write_new_file(disk, &names::segment_path(1), &header.encode())?;
    files::sync_dir(disk, names::WAL_DIR)?;
    files::sync_dir(disk, names::QUARANTINE_DIR)?;
    files::sync_dir(disk, "")
}

/// Settles the log that `scan` read; see the module. `lower_hint` makes MANIFEST name the given
/// segment, durably; it is called only when the newest segment is removed.
///
/// # Errors
/// See [`SettleError`].
pub fn settle(
    disk: &mut dyn Disk,
    scan: Scan,
    options: &SettleOptions,
    lower_hint: &mut dyn FnMut(&mut dyn Disk, u64) -> io::Result<()>,
) -> Result<Settled, SettleError> {
    if scan.damage.is_some() {
        return Err(SettleError::Damaged);
    }
    if !has_room_behind(&scan.last) {
        return Err(at("make room behind the log")(
            io::ErrorKind::FileTooLarge.into(),
        ));
    }
    faults::pass(Point::RecoveryAfterScan);
    delete_temps(disk).map_err(at("delete temporary files"))?;
    faults::pass(Point::RecoveryAfterTemps);
    let mut plan = Plan::new(scan, options);
    let mut settled = plan.settled;
    let result = plan.apply(disk, lower_hint);
    let result = match result {
        Err(SettleError::NoSpace(error)) => {
            match release_reserve(disk).map_err(at("release reserve"))? {
                true => {
                    settled.reserve_is_spent = true;
                    plan.apply(disk, lower_hint)
                }
                false => Err(SettleError::NoSpace(error)),
            }
        }
        other => other,
    };
    if let Err(SettleError::NoSpace(_)) = &result {
        plan.undo_quarantine(disk);
    }
    result?;
    faults::pass(Point::RecoveryAfterSettle);
    Ok(settled)
}

fn at(step: &'static str) -> impl Fn(io::Error) -> SettleError {
    move |source| {
        if files::is_no_space(&source) {
            SettleError::NoSpace(source)
        } else {
            SettleError::Io { step, source }
        }
    }
}

fn delete_temps(disk: &mut dyn Disk) -> io::Result<()> {
    for name in files::list(disk, names::WAL_DIR)? {
        if names::is_temp_name(&name) {
            files::unlink_if_there(disk, &format!("{}/{name}", names::WAL_DIR))?;
        }
    }
    Ok(())
}

/// Everything that will be done, decided before the first effect.
struct Plan {
    /// Path and bytes of each quarantine file.
    quarantine: Vec<(String, Vec<u8>)>,
    empty_newest_segment: Option<u64>,
    /// The new content of the last segment up to the next batch; zeros follow.
    image: Vec<u8>,
    settled: Settled,
    skips_rewrite: bool,
    has_removed_newest: bool,
}

impl Plan {
    fn new(scan: Scan, options: &SettleOptions) -> Self {
        let number = scan.last.number;
        let mut quarantine = Vec::new();
        if let Tail::Torn {
            at,
            dropped_len_bytes,
        } = scan.tail
            && dropped_len_bytes != 0
        {
            let start = at.offset() as usize;
            let dropped = scan.last.bytes.get(start..).unwrap_or_default();
            quarantine.push(quarantine_file(
                number,
                at.offset(),
                dropped,
                options.now_us,
            ));
        }
        if let (Some(newest), Some(junk)) = (scan.empty_newest_segment, &scan.newest_junk) {
            quarantine.push(quarantine_file(
                newest,
                SEGMENT_DATA_OFFSET,
                junk,
                options.now_us,
            ));
        }
        let quarantined = quarantine.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let skips_rewrite = scan.is_closed
            && scan.empty_newest_segment.is_none()
            && options
                .config
                .planted
                .is(Mutant::RewriteSkippedAfterCloseMark);
        let file_len_bytes = scan.last.bytes.len() as u64;
        let (last_txn_id, close_mark) = (scan.last_txn_id, scan.last.last_mark);
        let empty_newest_segment = scan.empty_newest_segment;
        let (image, mark) = image(scan.last, options);
        let mut settled = settled_behind(&mark, options);
        settled.last_txn_id = last_txn_id;
        settled.quarantined_len_bytes = quarantined;
        if let (true, Some(mark)) = (skips_rewrite, close_mark) {
            settled = Settled {
                active_len_bytes: file_len_bytes,
                version_floor: mark.version_floor,
                next_offset: next_offset(&mark, u32::from(mark.log_block_len_bytes)),
                end_lsn: end_of(&mark),
                ..settled
            };
        }
        Self {
            quarantine,
            empty_newest_segment,
            image,
            settled,
            skips_rewrite,
            has_removed_newest: false,
        }
    }

    fn apply(
        &mut self,
        disk: &mut dyn Disk,
        lower_hint: &mut dyn FnMut(&mut dyn Disk, u64) -> io::Result<()>,
    ) -> Result<(), SettleError> {
        self.keep_dropped(disk).map_err(at("quarantine"))?;
        faults::pass(Point::RecoveryAfterQuarantine);
        self.remove_newest(disk, lower_hint)?;
        if self.skips_rewrite {
            return Ok(());
        }
        let number = self.settled.active_segment;
        let temp = names::rewrite_path(number);
        let file = files::open(disk, &temp, OpenMode::CreateTruncate).map_err(at("rewrite"))?;
        let result = self.rewrite(disk, file);
        files::close(disk, file);
        if let Err(error) = result {
            files::remove_leftover(disk, &temp);
            return Err(at("rewrite")(error));
        }
        faults::pass(Point::RecoveryBeforeRewriteRename);
        files::rename(disk, &temp, &names::segment_path(number)).map_err(at("rename rewrite"))?;
        faults::pass(Point::RecoveryAfterRewriteRename);
        files::sync_dir(disk, names::WAL_DIR).map_err(at("sync log directory"))
    }

    fn keep_dropped(&self, disk: &mut dyn Disk) -> io::Result<()> {
        if self.quarantine.is_empty() {
            return Ok(());
        }
        files::create_dir_if_absent(disk, names::QUARANTINE_DIR)?;
        files::sync_dir(disk, "")?;
        for (path, bytes) in &self.quarantine {
            files::write_new_file(disk, path, bytes)?;
            tracing::warn!(
                path,
                len_bytes = bytes.len(),
                "torn tail of the log kept in quarantine"
            );
        }
        files::sync_dir(disk, names::QUARANTINE_DIR)
    }

    /// Without room nothing was dropped, so no copy of it is kept: or every further open of a full
    /// disk would add one. After the removal of a segment its copy stays.
    fn undo_quarantine(&self, disk: &mut dyn Disk) {
        if self.has_removed_newest {
            return;
        }
        for (path, _) in &self.quarantine {
            files::remove_leftover(disk, path);
        }
    }

    fn remove_newest(
        &mut self,
        disk: &mut dyn Disk,
        lower_hint: &mut dyn FnMut(&mut dyn Disk, u64) -> io::Result<()>,
    ) -> Result<(), SettleError> {
        let Some(newest) = self.empty_newest_segment else {
            return Ok(());
        };
        tracing::warn!(
            segment = newest,
            "the newest segment holds nothing and is removed"
        );
        let segment = self.settled.active_segment;
        let hint = |source: io::Error| match files::is_no_space(&source) {
            true => SettleError::NoSpace(source),
            false => SettleError::Hint { segment, source },
        };
        match lower_hint(disk, segment).map_err(hint) {
            Err(SettleError::NoSpace(_)) => {
                // What goes makes room for what it takes to let it go. Without a mark the segment
                // holds nothing, whatever its length.
                self.has_removed_newest = true;
                self.cut(disk, newest).map_err(at("cut segment"))?;
                lower_hint(disk, segment).map_err(hint)?;
            }
            other => other?,
        }
        faults::pass(Point::RecoveryBeforeRemove);
        self.has_removed_newest = true;
        files::unlink_if_there(disk, &names::segment_path(newest)).map_err(at("remove segment"))?;
        faults::pass(Point::RecoveryAfterRemove);
        files::sync_dir(disk, names::WAL_DIR).map_err(at("sync log directory"))?;
        self.empty_newest_segment = None;
        Ok(())
    }

    /// Gives back the room of an empty segment and leaves its name and its header.
    fn cut(&self, disk: &mut dyn Disk, number: u64) -> io::Result<()> {
        let file = files::open(disk, &names::segment_path(number), OpenMode::Write)?;
        let len_bytes = u64::from(SEGMENT_DATA_OFFSET);
        let op = Op::SetLen { file, len_bytes };
        let result = files::run(disk, op).and_then(|_| files::sync(disk, file));
        files::close(disk, file);
        result
    }

    fn rewrite(&self, disk: &mut dyn Disk, file: FileId) -> io::Result<()> {
        let len_bytes = self.settled.active_len_bytes;
        files::run(disk, Op::Allocate { file, len_bytes })?;
        files::write_all(disk, file, 0, &self.image)?;
        files::write_zeros(disk, file, self.image.len() as u64, len_bytes)?;
        faults::pass(Point::RecoveryBeforeRewriteSync);
        files::sync(disk, file)
    }
}

/// A quarantine file: what was dropped, up to the last byte that is not zero.
fn quarantine_file(segment: u64, offset: u32, dropped: &[u8], now_us: u64) -> (String, Vec<u8>) {
    let len = dropped
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let bytes = dropped.get(..len).unwrap_or_default().to_vec();
    (names::quarantine_path(segment, offset, now_us), bytes)
}

/// The last segment's new content: header, surviving batches, and the mark that states the floor.
pub(super) fn image(last: LastSegment, options: &SettleOptions) -> (Vec<u8>, Mark) {
    let LastSegment {
        number,
        mut bytes,
        content,
        previous_end,
        ..
    } = last;
    let header = SegmentHeader {
        segment: number,
        database_uuid: options.database_uuid,
    };
    let (mark_offset, durable_lsn) = match content {
        Some((mark, end)) => {
            bytes.truncate(end as usize);
            shorten(&mut bytes, &mark, end, options.database_uuid);
            let block = u32::from(mark.log_block_len_bytes);
            (end.next_multiple_of(block), Some(Lsn::new(number, end)))
        }
        None => {
            bytes.clear();
            (SEGMENT_DATA_OFFSET, previous_end)
        }
    };
    bytes.resize(mark_offset as usize, 0);
    for (place, field) in bytes.iter_mut().zip(header.encode()) {
        *place = field;
    }
    let own_lsn = Lsn::new(number, mark_offset);
    let mark = Mark {
        kind: MarkKind::Batch,
        log_block_len_bytes: u16::try_from(options.config.log_block_len_bytes)
            .expect("a valid log block fits 16 bits"),
        batch_len_bytes: MARK_LEN_BYTES,
        own_lsn,
        durable_lsn: durable_lsn.unwrap_or(own_lsn),
        version_floor: options.version_floor,
    };
    bytes.extend_from_slice(&mark.encode(options.database_uuid));
    (bytes, mark)
}

/// Makes the mark of a batch that was cut announce only the records that are there.
fn shorten(bytes: &mut [u8], mark: &Mark, end: u32, database_uuid: [u8; 16]) {
    let batch_len_bytes = end - mark.own_lsn.offset();
    if batch_len_bytes == mark.batch_len_bytes {
        return;
    }
    let shorter = Mark {
        batch_len_bytes,
        ..*mark
    };
    let start = mark.own_lsn.offset() as usize;
    for (place, field) in bytes
        .iter_mut()
        .skip(start)
        .zip(shorter.encode(database_uuid))
    {
        *place = field;
    }
}

/// Offsets are 32 bits: the new mark, the padding around it and the block kept for the close mark
/// must fit behind the last record. They do in every segment that this build made.
fn has_room_behind(last: &LastSegment) -> bool {
    let end = last.content.map_or(0, |(_, end)| u64::from(end));
    end + 3 * u64::from(LOG_BLOCK_LEN_BYTES_MAX) <= SEGMENT_LEN_BYTES_MAX
}

/// Where a log goes on behind its last mark.
fn settled_behind(mark: &Mark, options: &SettleOptions) -> Settled {
    let block = options.config.log_block_len_bytes;
    let next_offset = next_offset(mark, block);
    // One block is kept for the close mark, also when the segment was full.
    let needed = u64::from(next_offset) + u64::from(LOG_BLOCK_LEN_BYTES_MAX);
    let needed = needed.next_multiple_of(u64::from(LOG_BLOCK_LEN_BYTES_MAX));
    Settled {
        database_uuid: options.database_uuid,
        active_segment: mark.own_lsn.segment(),
        active_len_bytes: needed.max(u64::from(options.config.segment_len_bytes)),
        next_offset,
        end_lsn: end_of(mark),
        last_txn_id: 0,
        version_floor: mark.version_floor,
        quarantined_len_bytes: 0,
        reserve_is_spent: false,
    }
}

fn end_of(mark: &Mark) -> Lsn {
    Lsn::new(
        mark.own_lsn.segment(),
        mark.own_lsn.offset() + MARK_LEN_BYTES,
    )
}

fn next_offset(mark: &Mark, block_len_bytes: u32) -> u32 {
    (mark.own_lsn.offset() + MARK_LEN_BYTES).next_multiple_of(block_len_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{OpenDisk, SimOptions, SimWorld};

    /// A log whose last segment is as long as offsets reach; its bytes are not needed.
    fn scan_of_a_full_segment(end: u32) -> Scan {
        let mark = Mark {
            kind: MarkKind::Batch,
            log_block_len_bytes: 4096,
            batch_len_bytes: end - SEGMENT_DATA_OFFSET,
            own_lsn: Lsn::new(1, SEGMENT_DATA_OFFSET),
            durable_lsn: Lsn::new(1, SEGMENT_DATA_OFFSET),
            version_floor: 7,
        };
        Scan {
            segment_count: 1,
            record_count: 1,
            read_len_bytes: u64::from(end),
            durable_txn_id: 0,
            last_txn_id: 7,
            version_floor: 7,
            is_closed: false,
            end_lsn: Lsn::new(1, end),
            tail: Tail::PlainEnd,
            damage: None,
            empty_newest_segment: None,
            left_over_segments: Vec::new(),
            last: LastSegment {
                number: 1,
                bytes: Vec::new(),
                content: Some((mark, end)),
                last_mark: Some(mark),
                stop_at: end,
                previous_end: None,
            },
            newest_junk: None,
        }
    }

    #[test]
    fn a_segment_without_room_for_one_more_mark_below_4_gib_is_refused_and_not_written() {
        let world = SimWorld::new(SimOptions::new(1));
        let mut disk = world.open_disk().unwrap();
        let options = SettleOptions {
            config: LogConfig::tiny(),
            database_uuid: [1; 16],
            version_floor: 8,
            now_us: 0,
        };
        let end = u32::try_from(SEGMENT_LEN_BYTES_MAX).unwrap();
        for end in [end - 2 * LOG_BLOCK_LEN_BYTES_MAX, end - 1, end] {
            let scan = scan_of_a_full_segment(end);
            let refused = settle(&mut *disk, scan, &options, &mut |_, _| Ok(())).unwrap_err();
            let SettleError::Io { source, .. } = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(source.kind(), io::ErrorKind::FileTooLarge, "{end}");
        }
    }
}
