//! Copying a log, up to a position below which all of it is durable, into another directory while
//! the log goes on.
//!
//! Segments before the last one are frozen and copied whole. Of the last one the records below the
//! end are copied, behind them an empty batch with a mark that says that they were durable, and
//! nothing more: so the copy is a log that was never cut short, the segment it ends in counts as
//! its newest, and damage to its last record is told from a torn tail. Files are read around the
//! page cache, which would stand in the way of the log's own writes.

use std::io;
use std::ops::ControlFlow;

use super::scan::LastSegment;
use super::settle::{SettleOptions, image};
use super::walk::{Item, Walk, WalkOptions};
use crate::config::LogConfig;
use crate::disk::{ALIGN_BYTES, AlignedBuf, Disk, FileId, Op, OpenMode, Output};
use crate::faults::Planted;
use crate::files;
use crate::limits::{CHUNK_LEN_BYTES, RECORD_LEN_BYTES_MAX, SEGMENT_DATA_OFFSET};
use crate::lsn::Lsn;
use crate::names;

/// Copied bytes after which the copy is synced, bytes: the syncs of the log must not wait behind
/// all of a large file at once.
const SYNC_LEN_BYTES: u64 = 16 << 20;

const _: () = assert!(CHUNK_LEN_BYTES.is_multiple_of(ALIGN_BYTES));

/// Which part of a log is copied.
#[derive(Debug, Clone, Copy)]
pub struct LogCopy {
    /// The first segment.
    pub first: u64,
    /// The end of the last record; of a log without records the place of its first.
    pub end: Lsn,
    /// The settings of the log.
    pub config: LogConfig,
    /// The database.
    pub database_uuid: [u8; 16],
    /// No version above it was issued.
    pub version_floor: u64,
}

/// Called after each chunk with the disk that is read, for whoever has other work on it; it leaves
/// nothing in flight, and may end the copying with a `Break`.
type Between<'a> = dyn FnMut(&mut dyn Disk) -> ControlFlow<()> + 'a;

/// Takes in the bytes at an offset, and may use the disk they were read from.
type Take<'a> = dyn FnMut(&mut dyn Disk, u64, &[u8]) -> io::Result<()> + 'a;

/// Copies the log into `target`, which has a `WAL/` directory without segments; how many bytes. The
/// files are synced, their names are not.
///
/// # Errors
/// What a kernel said; `InvalidData` when no record ends where the log should; `Interrupted` after a
/// `Break`. What was copied so far stays.
pub fn copy_log(
    source: &mut dyn Disk,
    target: &mut dyn Disk,
    copy: &LogCopy,
    between: &mut Between<'_>,
) -> io::Result<u64> {
    let last = copy.end.segment();
    let mut len_bytes = 0;
    for number in copy.first..last {
        let path = names::segment_path(number);
        len_bytes += copy_file(source, target, &path, between)?;
    }
    let bytes = front(source, last, copy.end.offset(), between)?;
    let content = content(&bytes, copy)?;
    let last_segment = LastSegment {
        number: last,
        bytes,
        content,
        ..LastSegment::default()
    };
    let options = SettleOptions {
        config: copy.config,
        database_uuid: copy.database_uuid,
        version_floor: copy.version_floor,
        now_us: 0,
    };
    let (bytes, _) = image(last_segment, &options);
    files::write_new_file(target, &names::segment_path(last), &bytes)?;
    Ok(len_bytes + bytes.len() as u64)
}

/// Copies a file of the same name and syncs it; how many bytes. For files that nobody writes.
///
/// # Errors
/// As [`copy_log`].
pub fn copy_file(
    source: &mut dyn Disk,
    target: &mut dyn Disk,
    path: &str,
    between: &mut Between<'_>,
) -> io::Result<u64> {
    let from = files::open(source, path, OpenMode::ReadDirect)?;
    let copied = files::len(source, from).and_then(|len_bytes| {
        let to = files::open(target, path, OpenMode::CreateNew)?;
        let copied = copy_bytes((source, from), (target, to), len_bytes, between)
            .and_then(|()| files::sync(target, to));
        files::close(target, to);
        copied.map(|()| len_bytes)
    });
    files::close(source, from);
    copied
}

fn copy_bytes(
    (source, from): (&mut dyn Disk, FileId),
    (target, to): (&mut dyn Disk, FileId),
    len_bytes: u64,
    between: &mut Between<'_>,
) -> io::Result<()> {
    let mut unsynced_len_bytes = 0;
    read_chunks(source, from, len_bytes, &mut |source, at, bytes| {
        files::write_all(target, to, at, bytes)?;
        unsynced_len_bytes += bytes.len() as u64;
        if SYNC_LEN_BYTES <= unsynced_len_bytes {
            files::sync(target, to)?;
            unsynced_len_bytes = 0;
        }
        go_on(between(source))
    })
}

fn go_on(flow: ControlFlow<()>) -> io::Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Hands over the first bytes of a file that was opened around the page cache, in order.
fn read_chunks(
    disk: &mut dyn Disk,
    file: FileId,
    len_bytes: u64,
    take: &mut Take<'_>,
) -> io::Result<()> {
    let mut buf = AlignedBuf::new();
    let mut at = 0;
    while at < len_bytes {
        // From an aligned position, as direct reads want it, also behind a short one.
        let start = at - at % ALIGN_BYTES as u64;
        let rest = (len_bytes - start).next_multiple_of(ALIGN_BYTES as u64);
        let op = Op::Read {
            file,
            offset: start,
            len_bytes: usize::try_from(rest).map_or(CHUNK_LEN_BYTES, |it| it.min(CHUNK_LEN_BYTES)),
            buf,
        };
        let (result, back) = files::run_with_buf(disk, op);
        buf = back.unwrap_or_default();
        let Output::Read { count } = result? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let wanted = usize::try_from(len_bytes - start).map_or(count, |it| it.min(count));
        let skipped = usize::try_from(at - start).unwrap_or(usize::MAX);
        let bytes = buf.get(skipped..wanted).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(disk, at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// The first bytes of a segment that may be written to behind them.
fn front(
    disk: &mut dyn Disk,
    number: u64,
    len_bytes: u32,
    between: &mut Between<'_>,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len_bytes as usize);
    let file = files::open(disk, &names::segment_path(number), OpenMode::ReadDirect)?;
    let read = read_chunks(
        disk,
        file,
        u64::from(len_bytes),
        &mut |disk, _, chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            go_on(between(disk))
        },
    );
    files::close(disk, file);
    read.map(|()| bytes)
}

/// The batch that holds the last record, which ends where the bytes do.
fn content(bytes: &[u8], copy: &LogCopy) -> io::Result<Option<(crate::format::mark::Mark, u32)>> {
    let end = copy.end.offset();
    if end == SEGMENT_DATA_OFFSET {
        return Ok(None);
    }
    let options = WalkOptions {
        segment: copy.end.segment(),
        database_uuid: copy.database_uuid,
        record_len_bytes_max: copy.config.record_len_bytes_max.max(RECORD_LEN_BYTES_MAX),
        planted: Planted::NONE,
    };
    let (mut walk, mut mark, mut content) = (Walk::new(bytes, options), None, None);
    loop {
        match walk.next() {
            Ok(Item::Mark(found)) => mark = Some(found),
            Ok(Item::Record { end, .. }) => content = mark.map(|mark| (mark, end)),
            Ok(Item::Stop(_)) | Err(_) => break,
        }
    }
    match content {
        Some((_, found)) if found == end => Ok(content),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no record ends at {}", copy.end),
        )),
    }
}
