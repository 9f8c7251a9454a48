//! Crash-safe file steps over a [`Disk`], one operation at a time.
//!
//! For opening, recovery and background work, where waiting for each step is what is wanted. Every
//! function expects nothing else in flight on the disk and leaves nothing in flight, also after an
//! error. None of them retries.

use std::io;

use crate::disk::{AlignedBuf, Disk, FileId, Op, OpenMode, Output, WriteSync};
use crate::limits::{CHUNK_LEN_BYTES, READ_DEPTH};

/// Runs one operation to its end.
///
/// # Errors
/// What the operation came to.
///
/// # Panics
/// When something else is in flight on this disk.
pub fn run(disk: &mut dyn Disk, op: Op) -> io::Result<Output> {
    run_with_buf(disk, op).0
}

/// Runs one operation to its end and returns its buffer too.
///
/// # Panics
/// When something else is in flight on this disk.
pub fn run_with_buf(disk: &mut dyn Disk, op: Op) -> (io::Result<Output>, Option<AlignedBuf>) {
    assert_eq!(disk.in_flight_count(), 0, "one operation at a time");
    let ticket = disk.submit(op);
    let completion = disk.complete();
    assert_eq!(
        completion.ticket, ticket,
        "the only operation in flight completes"
    );
    (completion.result, completion.buf)
}

/// Opens a file.
///
/// # Errors
/// What the kernel said.
pub fn open(disk: &mut dyn Disk, path: &str, mode: OpenMode) -> io::Result<FileId> {
    match run(
        disk,
        Op::Open {
            path: path.to_owned(),
            mode,
        },
    )? {
        Output::File(file) => Ok(file),
        other => Err(unexpected(&other)),
    }
}

/// Closes a file. What it promised was promised by a sync, so an error here loses nothing and is
/// only logged.
pub fn close(disk: &mut dyn Disk, file: FileId) {
    if let Err(error) = run(disk, Op::Close { file }) {
        tracing::warn!(%error, "closing a file failed");
    }
}

/// Writes all of `bytes` at `offset`, continuing short writes that made progress.
///
/// # Errors
/// What the kernel said; `WriteZero` when a write made no progress.
pub fn write_all(disk: &mut dyn Disk, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let chunk = rest.get(..CHUNK_LEN_BYTES).unwrap_or(rest);
        let buf = AlignedBuf::from(chunk);
        let at = offset + written as u64;
        let count = write_some(disk, file, at, buf)?.0;
        written += count;
    }
    Ok(())
}

/// Writes zeros from `offset` up to `end`.
///
/// # Errors
/// What the kernel said; `WriteZero` when a write made no progress.
pub fn write_zeros(disk: &mut dyn Disk, file: FileId, offset: u64, end: u64) -> io::Result<()> {
    let mut at = offset;
    let mut buf = AlignedBuf::new();
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        buf.resize(rest.min(CHUNK_LEN_BYTES));
        buf.truncate(rest);
        let (count, back) = write_some(disk, file, at, buf)?;
        buf = back;
        at += count as u64;
    }
    Ok(())
}

fn write_some(
    disk: &mut dyn Disk,
    file: FileId,
    offset: u64,
    buf: AlignedBuf,
) -> io::Result<(usize, AlignedBuf)> {
    let op = Op::Write {
        file,
        offset,
        buf,
        sync: WriteSync::None,
    };
    let (result, buf) = run_with_buf(disk, op);
    match result? {
        Output::Written { count: 0 } => Err(io::ErrorKind::WriteZero.into()),
        Output::Written { count } => Ok((count, buf.unwrap_or_default())),
        other => Err(unexpected(&other)),
    }
}

/// Makes a file's bytes durable.
///
/// # Errors
/// What the kernel said; nothing is known about the file then.
pub fn sync(disk: &mut dyn Disk, file: FileId) -> io::Result<()> {
    run(disk, Op::Sync { file }).map(drop)
}

/// Makes the names of a directory durable.
///
/// # Errors
/// What the kernel said.
pub fn sync_dir(disk: &mut dyn Disk, path: &str) -> io::Result<()> {
    run(
        disk,
        Op::SyncDir {
            path: path.to_owned(),
        },
    )
    .map(drop)
}

/// Renames a file over another; durable only after a sync of the directory.
///
/// # Errors
/// What the kernel said.
pub fn rename(disk: &mut dyn Disk, from: &str, to: &str) -> io::Result<()> {
    run(
        disk,
        Op::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        },
    )
    .map(drop)
}

/// Removes a file; durable only after a sync of the directory.
///
/// # Errors
/// What the kernel said.
pub fn unlink(disk: &mut dyn Disk, path: &str) -> io::Result<()> {
    run(
        disk,
        Op::Unlink {
            path: path.to_owned(),
        },
    )
    .map(drop)
}

/// Removes a file if it exists.
///
/// # Errors
/// What the kernel said, other than that it does not exist.
pub fn unlink_if_there(disk: &mut dyn Disk, path: &str) -> io::Result<bool> {
    match unlink(disk, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Creates a directory if it does not exist; durable only after a sync of its parent.
///
/// # Errors
/// What the kernel said.
pub fn create_dir_if_absent(disk: &mut dyn Disk, path: &str) -> io::Result<()> {
    match run(
        disk,
        Op::CreateDir {
            path: path.to_owned(),
        },
    ) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Renames a directory to a name that must not exist; durable only after a sync of its parent.
///
/// # Errors
/// What the kernel said.
pub fn rename_dir(disk: &mut dyn Disk, from: &str, to: &str) -> io::Result<()> {
    let op = Op::RenameDir {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    run(disk, op).map(drop)
}

/// Removes an empty directory; durable only after a sync of its parent.
///
/// # Errors
/// What the kernel said.
pub fn remove_dir(disk: &mut dyn Disk, path: &str) -> io::Result<()> {
    let op = Op::RemoveDir {
        path: path.to_owned(),
    };
    run(disk, op).map(drop)
}

/// The names in a directory, sorted.
///
/// # Errors
/// What the kernel said.
pub fn list(disk: &mut dyn Disk, path: &str) -> io::Result<Vec<String>> {
    match run(
        disk,
        Op::List {
            path: path.to_owned(),
        },
    )? {
        Output::Names(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        other => Err(unexpected(&other)),
    }
}

/// The length of an open file, bytes.
///
/// # Errors
/// What the kernel said.
pub fn len(disk: &mut dyn Disk, file: FileId) -> io::Result<u64> {
    match run(disk, Op::FileLen { file })? {
        Output::Len(len_bytes) => Ok(len_bytes),
        other => Err(unexpected(&other)),
    }
}

/// The whole content of a file of at most `len_bytes_max` bytes.
///
/// # Errors
/// What the kernel said; `InvalidData` when the file is longer, before anything is allocated.
pub fn read_file(disk: &mut dyn Disk, path: &str, len_bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_file_into(disk, path, len_bytes_max, &mut bytes)?;
    Ok(bytes)
}

/// Like [`read_file`], into a buffer whose content is replaced.
///
/// # Errors
/// What the kernel said; `InvalidData` when the file is longer, before anything is allocated.
pub fn read_file_into(
    disk: &mut dyn Disk,
    path: &str,
    len_bytes_max: u64,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let file = open(disk, path, OpenMode::Read)?;
    let result = read_open_file(disk, file, len_bytes_max, bytes);
    close(disk, file);
    result
}

fn read_open_file(
    disk: &mut dyn Disk,
    file: FileId,
    len_bytes_max: u64,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    let len_bytes = len(disk, file)?;
    if len_bytes_max < len_bytes {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len_bytes = usize::try_from(len_bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    bytes.clear();
    bytes.resize(len_bytes, 0);
    let mut reads = Reads {
        file,
        pending: Vec::with_capacity(READ_DEPTH),
        next: 0,
    };
    let result = reads.run(disk, bytes);
    // Buffers in flight belong to the kernel until they are reaped.
    while disk.in_flight_count() != 0 {
        let _ = disk.complete();
    }
    result
}

/// Reads of one file, several in flight.
struct Reads {
    file: FileId,
    /// Ticket, offset and length of each read in flight.
    pending: Vec<(crate::disk::Ticket, usize, usize)>,
    next: usize,
}

impl Reads {
    fn run(&mut self, disk: &mut dyn Disk, bytes: &mut [u8]) -> io::Result<()> {
        let mut spare = Vec::new();
        loop {
            while self.pending.len() < READ_DEPTH && self.next < bytes.len() {
                let count = CHUNK_LEN_BYTES.min(bytes.len() - self.next);
                self.submit(disk, self.next, count, spare.pop().unwrap_or_default());
                self.next += count;
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            let completion = disk.complete();
            let position = self
                .pending
                .iter()
                .position(|read| read.0 == completion.ticket);
            let Some(position) = position else { continue };
            let (_, offset, asked) = self.pending.swap_remove(position);
            let buf = completion.buf.unwrap_or_default();
            let Output::Read { count } = completion.result? else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if count == 0 {
                // The file is shorter than it was a moment ago: somebody else is at it.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let target = bytes.get_mut(offset..offset + count);
            match (target, buf.get(..count)) {
                (Some(target), Some(source)) => target.copy_from_slice(source),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            if count < asked {
                self.submit(disk, offset + count, asked - count, buf);
            } else {
                spare.push(buf);
            }
        }
    }

    fn submit(&mut self, disk: &mut dyn Disk, offset: usize, count: usize, buf: AlignedBuf) {
        let op = Op::Read {
            file: self.file,
            offset: offset as u64,
            len_bytes: count,
            buf,
        };
        self.pending.push((disk.submit(op), offset, count));
    }
}

/// Writes a file whole under a temporary name and syncs it; the caller renames it. An existing
/// file of that name is replaced. After an error the temporary file is removed if possible.
///
/// # Errors
/// What the kernel said.
pub fn write_new_file(disk: &mut dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = open(disk, path, OpenMode::CreateTruncate)?;
    let result = write_all(disk, file, 0, bytes).and_then(|()| sync(disk, file));
    close(disk, file);
    if result.is_err() {
        remove_leftover(disk, path);
    }
    result
}

/// Removes a file that an error left behind. That may fail too; the next open removes it then.
pub fn remove_leftover(disk: &mut dyn Disk, path: &str) {
    if let Err(error) = unlink_if_there(disk, path) {
        tracing::debug!(path, %error, "a temporary file stays until the next open");
    }
}

/// True when an error says that the disk, or the quota, is full.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
    )
}

fn unexpected(output: &Output) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("disk answered {output:?}"),
    )
}
