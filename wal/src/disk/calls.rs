//! The operations of a disk as plain system calls on the calling thread.
//!
//! It owns the open files of one real disk. The thread disk does everything through it; the rings
//! do only their transfers and syncs themselves, since opening, renaming and removing are rare and
//! a ring would hand them to a kernel worker, which costs more than the call. It refuses to know
//! who waits for a result.
//!
//! A call interrupted by a signal is repeated, except a sync: no error of a sync is ever retried.
//! Short counts are reported as they are.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    Advice, AtFlags, Dir, FallocateFlags, OFlags, RenameFlags, fadvise, fallocate, fdatasync,
    fstat, fsync, ftruncate, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, preadv, pwritev, pwritev2};

use super::root::{RealRoot, retry};
use super::{AlignedBuf, FileId, Op, OpenMode, Output, WriteSync};

/// The open files of one disk, and the directory they lie in.
#[derive(Debug)]
pub(super) struct Files {
    root: RealRoot,
    open: BTreeMap<FileId, OpenFile>,
    next_id: u32,
}

/// One open file.
#[derive(Debug)]
struct OpenFile {
    fd: Rc<OwnedFd>,
    /// Its transfers go around the page cache.
    is_direct: bool,
}

impl Files {
    pub(super) fn new(root: RealRoot) -> Self {
        Self {
            root,
            open: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Performs one operation to its end.
    pub(super) fn perform(&mut self, op: Op) -> (io::Result<Output>, Option<AlignedBuf>) {
        match op {
            Op::Write {
                file,
                offset,
                buf,
                sync,
            } => {
                let result = self.fd(file).and_then(|fd| write(fd, offset, &buf, sync));
                (result.map_err(io::Error::from), Some(buf))
            }
            Op::Read {
                file,
                offset,
                len_bytes,
                mut buf,
            } => {
                let result = self.read(file, offset, len_bytes, &mut buf);
                (result.map_err(io::Error::from), Some(buf))
            }
            op => (self.perform_plain(op).map_err(io::Error::from), None),
        }
    }

    /// The descriptor of an open file, to keep while an operation is in flight.
    pub(super) fn share(&self, file: FileId) -> Result<Rc<OwnedFd>, Errno> {
        self.open
            .get(&file)
            .map(|open| Rc::clone(&open.fd))
            .ok_or(Errno::BADF)
    }

    /// Whether writing to the file, without a sync, is a copy into the page cache.
    pub(super) fn is_cached(&self, file: FileId) -> bool {
        self.open.get(&file).is_some_and(|open| !open.is_direct)
    }

    /// A descriptor of a directory that can be synced.
    pub(super) fn open_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.root
            .open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn fd(&self, file: FileId) -> Result<BorrowedFd<'_>, Errno> {
        let open = self.open.get(&file).ok_or(Errno::BADF)?;
        Ok(open.fd.as_fd())
    }

    fn perform_plain(&mut self, op: Op) -> Result<Output, Errno> {
        match op {
            Op::Open { path, mode } => return self.open(&path, mode).map(Output::File),
            Op::Close { file } => drop(self.open.remove(&file).ok_or(Errno::BADF)?),
            Op::Sync { file } => fdatasync(self.fd(file)?)?,
            Op::FileLen { file } => {
                let len = fstat(self.fd(file)?)?.st_size;
                return Ok(Output::Len(
                    u64::try_from(len).map_err(|_| Errno::OVERFLOW)?,
                ));
            }
            Op::SetLen { file, len_bytes } => retry(|| ftruncate(self.fd(file)?, len_bytes))?,
            Op::Allocate { file, len_bytes } => {
                let fd = self.fd(file)?;
                retry(|| fallocate(fd, FallocateFlags::empty(), 0, len_bytes))?;
            }
            Op::Rename { from, to } => {
                let (from_directory, from) = self.root.parent_of(&from)?;
                let (to_directory, to) = self.root.parent_of(&to)?;
                renameat(&from_directory, from, &to_directory, to)?;
            }
            Op::Unlink { path } => {
                let (directory, name) = self.root.parent_of(&path)?;
                unlinkat(&directory, name, AtFlags::empty())?;
            }
            Op::RenameDir { from, to } => self.rename_directory(&from, &to)?,
            Op::RemoveDir { path } => {
                let (directory, name) = self.root.parent_of(&path)?;
                unlinkat(&directory, name, AtFlags::REMOVEDIR)?;
            }
            Op::SyncDir { path } => fsync(self.open_directory(&path)?)?,
            Op::CreateDir { path } => self.root.create_directory_beneath(&path)?,
            Op::List { path } => return self.list(&path).map(Output::Names),
            Op::Write { .. } | Op::Read { .. } => return Err(Errno::INVAL),
        }
        Ok(Output::Done)
    }

    fn open(&mut self, path: &str, mode: OpenMode) -> Result<FileId, Errno> {
        let plain = match mode {
            OpenMode::Read | OpenMode::ReadDirect => OFlags::RDONLY,
            OpenMode::Write | OpenMode::WriteDirect => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::CreateTruncate | OpenMode::CreateTruncateDirect => {
                OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC
            }
        };
        let direct = mode
            .is_direct()
            .then(|| self.root.open_beneath(path, plain | OFlags::DIRECT));
        let (fd, is_direct) = match direct {
            Some(Ok(fd)) => (fd, true),
            // open(2): the file system does not support O_DIRECT.
            None | Some(Err(Errno::INVAL)) => (self.root.open_beneath(path, plain)?, false),
            Some(Err(errno)) => return Err(errno),
        };
        if is_direct && mode == OpenMode::WriteDirect {
            // Where the cache holds pages of its range, a direct write of a ring goes to a worker
            // thread of the kernel (`kiocb_invalidate_pages`, mm/filemap.c). Advice only: what the
            // kernel keeps costs time, nothing else.
            let _ = fadvise(&fd, 0, None, Advice::DontNeed);
        }
        let file = FileId(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or(Errno::MFILE)?;
        let fd = Rc::new(fd);
        self.open.insert(file, OpenFile { fd, is_direct });
        Ok(file)
    }

    fn rename_directory(&self, from: &str, to: &str) -> Result<(), Errno> {
        let (from_directory, from) = self.root.parent_of(from)?;
        let (to_directory, to) = self.root.parent_of(to)?;
        match renameat_with(
            &from_directory,
            from,
            &to_directory,
            to,
            RenameFlags::NOREPLACE,
        ) {
            // A file system without the flag. Without it an empty directory that appears between
            // the look and the rename is replaced, and nothing else.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match statat(&to_directory, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => renameat(&from_directory, from, &to_directory, to),
                    Ok(_) => Err(Errno::EXIST),
                    Err(errno) => Err(errno),
                }
            }
            renamed => renamed,
        }
    }

    fn read(
        &self,
        file: FileId,
        offset: u64,
        len_bytes: usize,
        buf: &mut AlignedBuf,
    ) -> Result<Output, Errno> {
        buf.clear();
        let fd = self.fd(file)?;
        let room = buf.room_for_read(len_bytes);
        let count = retry(|| preadv(fd, &mut [IoSliceMut::new(room)], offset))?;
        buf.filled(count);
        Ok(Output::Read { count })
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open_directory(path)?)? {
            let name = entry?.file_name().to_owned();
            // The database makes ASCII names only; another one is nobody's of ours, and is shown
            // as well as it can be.
            let name = name.to_string_lossy();
            if !matches!(&*name, "." | "..") {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }
}

/// Writes bytes, and syncs as asked.
pub(super) fn write(
    fd: impl AsFd,
    offset: u64,
    bytes: &[u8],
    sync: WriteSync,
) -> Result<Output, Errno> {
    let fd = fd.as_fd();
    let slices = [IoSlice::new(bytes)];
    let count = match sync {
        WriteSync::None => retry(|| pwritev(fd, &slices, offset))?,
        WriteSync::LinkedSync => write_then_sync(fd, &slices, offset)?,
        // One call is both, so its error may be the sync's and is not retried.
        WriteSync::Data => match pwritev2(fd, &slices, offset, ReadWriteFlags::DSYNC) {
            // A file system without RWF_DSYNC has written nothing yet.
            Err(Errno::OPNOTSUPP) => write_then_sync(fd, &slices, offset)?,
            written => written?,
        },
    };
    Ok(Output::Written { count })
}

/// A write, and when it was whole a sync of everything written to the file before.
fn write_then_sync(
    fd: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    offset: u64,
) -> Result<usize, Errno> {
    let len_bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    let count = retry(|| pwritev(fd, slices, offset))?;
    if count == len_bytes {
        fdatasync(fd)?;
    }
    Ok(count)
}
