//! The simulated device and kernel: names, files and space, and what each operation does to them.
//!
//! It executes one operation at a time, with at most one fault, and knows nothing of tickets,
//! order or threads. A copy shares all content with its original until one of them changes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::{AlignedBuf, FileId, Op, OpenMode, Output, WriteSync};
use super::fault::{Fault, Lie};
use super::file::SimFile;
use super::names::{Inode, Namespace, Node};
use super::pages::{FILE_LEN_BYTES_MAX, PAGE_BYTES, Pages};
use super::rng::{SimRng, mix};

/// Identifies one disk handle, since file ids are each disk's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DiskId(pub(super) u32);

/// One operation on its way to the device.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) disk: DiskId,
    /// A write's buffer is empty here: its bytes are in `bytes`.
    pub(super) op: Op,
    pub(super) bytes: Arc<[u8]>,
    pub(super) fault: Option<Fault>,
}

/// Everything a disk holds, and the open files of its users.
#[derive(Debug, Clone, Default)]
pub(super) struct Media {
    pub(super) files: BTreeMap<Inode, Arc<SimFile>>,
    pub(super) names: Namespace,
    pub(super) lies: Vec<Lie>,
    /// Content of the file that was removed or cut last: what unwritten bytes may read as.
    pub(super) stale: Option<Arc<Pages>>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) block_bytes: u32,
    open: Arc<BTreeMap<(DiskId, FileId), OpenFile>>,
    next_inode: u32,
    next_file: u32,
}

#[derive(Debug, Clone)]
struct OpenFile {
    inode: Inode,
    path: Arc<str>,
    is_writable: bool,
    is_direct: bool,
}

/// What a sync does.
enum SyncFate {
    Done,
    /// Success without effect.
    Skipped,
    /// Success, and what it should have written is forgotten.
    Forgotten,
    /// The error, and what it should have written is forgotten.
    Failed(Errno),
    /// ECANCELED without effect.
    Cancelled,
}

impl Media {
    pub(super) fn new(capacity_bytes: Option<u64>, block_bytes: u32) -> Self {
        Self {
            capacity_bytes,
            block_bytes,
            ..Self::default()
        }
    }

    /// Executes one operation. What a read finds goes to `target`.
    pub(super) fn execute(
        &mut self,
        request: &Request,
        rng: &mut SimRng,
        target: &mut AlignedBuf,
    ) -> io::Result<Output> {
        self.run(request, rng, target).map_err(io::Error::from)
    }

    /// Executes an operation that was in flight when the power or the process went: its effect,
    /// if any, is in the cache, and nothing is synced.
    pub(super) fn execute_unsynced(&mut self, request: &Request) {
        let mut request = Request {
            fault: None,
            ..request.clone()
        };
        match &mut request.op {
            Op::Write { sync, .. } => *sync = WriteSync::None,
            Op::Sync { .. } | Op::SyncDir { .. } | Op::Read { .. } | Op::Close { .. } => return,
            _ => {}
        }
        // An operation that fails has no effect to keep.
        let _ = self.run(&request, &mut SimRng::new(0), &mut AlignedBuf::new());
    }

    /// The path an operation is about, for rules and tables.
    pub(super) fn path_of(&self, disk: DiskId, op: &Op) -> Arc<str> {
        match op {
            Op::Open { path, .. }
            | Op::Unlink { path }
            | Op::SyncDir { path }
            | Op::CreateDir { path }
            | Op::RemoveDir { path }
            | Op::List { path } => path.as_str().into(),
            Op::Rename { to, .. } | Op::RenameDir { to, .. } => to.as_str().into(),
            Op::Close { file }
            | Op::Write { file, .. }
            | Op::Read { file, .. }
            | Op::Sync { file }
            | Op::FileLen { file }
            | Op::SetLen { file, .. }
            | Op::Allocate { file, .. } => self
                .open
                .get(&(disk, *file))
                .map_or_else(|| "".into(), |open| open.path.clone()),
        }
    }

    /// Space taken by files that have a name or are open, bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut used: Vec<Inode> = self.open.values().map(|open| open.inode).collect();
        used.extend(self.names.live().filter_map(|(_, node)| match node {
            Node::File(inode) => Some(inode),
            Node::Directory => None,
        }));
        used.sort_unstable();
        used.dedup();
        let pages = |inode: &Inode| {
            self.files
                .get(inode)
                .map(|file| file.cache().allocated_count())
        };
        used.iter().filter_map(pages).sum::<usize>() as u64 * PAGE_BYTES as u64
    }

    /// Closes every file of a disk.
    pub(super) fn close_all(&mut self, disk: DiskId) {
        if self.open.keys().any(|(of, _)| *of == disk) {
            Arc::make_mut(&mut self.open).retain(|(of, _), _| *of != disk);
            self.drop_unreachable();
        }
    }

    /// Closes the files of all disks.
    pub(super) fn close_everything(&mut self) {
        self.open = Arc::default();
    }

    /// Puts a durable file in place of what is there.
    pub(super) fn put_file(&mut self, path: &str, content: Pages) {
        let inode = self
            .names
            .find_file(path)
            .unwrap_or_else(|_| self.new_inode());
        self.files
            .insert(inode, Arc::new(SimFile::durable(content)));
        self.names.insert_durable(path, Node::File(inode));
    }

    /// A number that differs, but for chance, when what a reader finds does.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut fingerprint = 0;
        for (path, node) in self.names.live() {
            for byte in path.bytes() {
                fingerprint = (fingerprint ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
            }
            let content = match node {
                Node::Directory => 1,
                Node::File(inode) => self.files.get(&inode).map_or(0, |file| file.cache().hash()),
            };
            fingerprint = mix(fingerprint ^ content);
        }
        fingerprint
    }

    fn run(
        &mut self,
        request: &Request,
        rng: &mut SimRng,
        target: &mut AlignedBuf,
    ) -> Result<Output, Errno> {
        let Request {
            disk, op, fault, ..
        } = request;
        match fault {
            Some(Fault::Interrupted) => return Err(Errno::INTR),
            Some(Fault::NoSpace) if !matches!(op, Op::Sync { .. }) => return Err(Errno::NOSPC),
            Some(Fault::Io) => match op {
                Op::Write { .. } | Op::Sync { .. } => {}
                // It may have happened all the same.
                Op::Rename { .. } | Op::RenameDir { .. } | Op::Unlink { .. } if rng.coin() => {
                    let _ = self.change_names(op);
                    return Err(Errno::IO);
                }
                _ => return Err(Errno::IO),
            },
            _ => {}
        }
        match op {
            Op::Open { path, mode } => self.open(*disk, path, *mode).map(Output::File),
            Op::Close { file } => self.close(*disk, *file),
            Op::Write {
                file, offset, sync, ..
            } => self.write(request, (*file, *offset, *sync), rng),
            Op::Read {
                file,
                offset,
                len_bytes,
                ..
            } => self.read(request, (*file, *offset, *len_bytes), rng, target),
            Op::Sync { file } => {
                let open = self.opened(*disk, *file)?;
                let fate = self.sync_fate(&open, *fault);
                self.sync(open.inode, &fate)?;
                Ok(Output::Done)
            }
            Op::FileLen { file } => {
                let open = self.opened(*disk, *file)?;
                Ok(Output::Len(self.file(open.inode)?.cache().len()))
            }
            Op::SetLen { file, len_bytes } => self.set_len(*disk, *file, *len_bytes),
            Op::Allocate { file, len_bytes } => self.allocate(*disk, *file, *len_bytes),
            Op::List { path } => self.names.list(path).map(Output::Names),
            Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::SyncDir { .. }
            | Op::CreateDir { .. }
            | Op::RenameDir { .. }
            | Op::RemoveDir { .. } => self.change_names(op),
        }
    }

    fn change_names(&mut self, op: &Op) -> Result<Output, Errno> {
        match op {
            Op::Rename { from, to } => self.names.rename(from, to)?,
            Op::Unlink { path } => self.names.remove(path)?,
            Op::CreateDir { path } => self.names.create(path, Node::Directory)?,
            Op::RenameDir { from, to } => self.names.rename_directory(from, to)?,
            Op::RemoveDir { path } => self.names.remove_directory(path)?,
            Op::SyncDir { path } => {
                let is_lied_about = self.lies.iter().any(|lie| match lie {
                    Lie::NoDirectorySync { path_prefix } => path.starts_with(path_prefix),
                    Lie::NoFileSync { .. } | Lie::LostSync { .. } => false,
                });
                if !is_lied_about {
                    self.names.sync(path)?;
                }
            }
            _ => return Err(Errno::INVAL),
        }
        self.drop_unreachable();
        Ok(Output::Done)
    }

    fn open(&mut self, disk: DiskId, path: &str, mode: OpenMode) -> Result<FileId, Errno> {
        let inode = match (self.names.find_file(path), mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(Errno::EXIST),
            (Ok(inode), OpenMode::CreateTruncate | OpenMode::CreateTruncateDirect) => {
                if self.file(inode)?.cache().len() > 0 {
                    self.cut(inode, 0)?;
                }
                inode
            }
            (Ok(inode), _) => inode,
            (
                Err(Errno::NOENT),
                OpenMode::CreateNew | OpenMode::CreateTruncate | OpenMode::CreateTruncateDirect,
            ) => {
                let inode = self.new_inode();
                self.names.create(path, Node::File(inode))?;
                self.files.insert(inode, Arc::default());
                inode
            }
            (Err(errno), _) => return Err(errno),
        };
        let file = FileId(self.next_file);
        self.next_file += 1;
        let opened = OpenFile {
            inode,
            path: path.into(),
            is_writable: !matches!(mode, OpenMode::Read | OpenMode::ReadDirect),
            is_direct: mode.is_direct(),
        };
        Arc::make_mut(&mut self.open).insert((disk, file), opened);
        Ok(file)
    }

    fn close(&mut self, disk: DiskId, file: FileId) -> Result<Output, Errno> {
        Arc::make_mut(&mut self.open)
            .remove(&(disk, file))
            .ok_or(Errno::BADF)?;
        self.drop_unreachable();
        Ok(Output::Done)
    }

    fn write(
        &mut self,
        request: &Request,
        (file, offset, sync): (FileId, u64, WriteSync),
        rng: &mut SimRng,
    ) -> Result<Output, Errno> {
        let open = self.opened(request.disk, file)?;
        let wanted = request.bytes.len();
        self.check_transfer(&open, offset, wanted)?;
        if !open.is_writable {
            return Err(Errno::BADF);
        }
        let mut count = wanted.min(self.room(open.inode, offset, wanted)?);
        let mut failed = None;
        match request.fault {
            Some(Fault::ShortWrite) => count = count.min(rng.index(wanted)),
            Some(Fault::Io) if sync == WriteSync::None || rng.coin() => {
                count = rng.index(count + 1);
                failed = Some(Errno::IO);
            }
            _ => {}
        }
        let bytes = match request.bytes.get(..count) {
            Some(part) if count < wanted => part.into(),
            _ => request.bytes.clone(),
        };
        let does_sync = failed.is_none()
            && match sync {
                WriteSync::None => false,
                WriteSync::Data => true,
                WriteSync::LinkedSync => count == wanted,
            };
        let target = self.file_mut(open.inode)?;
        if let Some(errno) = failed {
            target.write(offset, bytes);
            return Err(errno);
        }
        if request.fault == Some(Fault::WritebackError) {
            target.write(offset, bytes.clone());
            target.fail_in_background();
        } else if !(does_sync && sync == WriteSync::Data) {
            target.write(offset, bytes.clone());
        }
        if does_sync {
            let fate = self.sync_fate(&open, request.fault);
            match sync {
                WriteSync::Data => self.write_data(&open, offset, bytes, (&fate, request.fault))?,
                _ => self.sync(open.inode, &fate)?,
            }
        }
        Ok(Output::Written { count })
    }

    /// A write whose sync covers only its own bytes.
    fn write_data(
        &mut self,
        open: &OpenFile,
        offset: u64,
        bytes: Arc<[u8]>,
        (fate, fault): (&SyncFate, Option<Fault>),
    ) -> Result<(), Errno> {
        let target = self.file_mut(open.inode)?;
        if let SyncFate::Done = fate {
            target.write_durable(offset, bytes);
            return Ok(());
        }
        if fault != Some(Fault::WritebackError) {
            target.write(offset, bytes);
        }
        match fate {
            SyncFate::Done | SyncFate::Skipped => Ok(()),
            SyncFate::Forgotten => {
                target.forget_newest();
                Ok(())
            }
            SyncFate::Failed(errno) => {
                target.forget_newest();
                Err(*errno)
            }
            SyncFate::Cancelled => Err(Errno::CANCELED),
        }
    }

    fn read(
        &mut self,
        request: &Request,
        (file, offset, len_bytes): (FileId, u64, usize),
        rng: &mut SimRng,
        target: &mut AlignedBuf,
    ) -> Result<Output, Errno> {
        let open = self.opened(request.disk, file)?;
        self.check_transfer(&open, offset, len_bytes)?;
        let source = self.file(open.inode)?;
        let room = target.room_for_read(len_bytes);
        let mut count = if open.is_direct {
            source.device().read(offset, room)
        } else {
            source.cache().read(offset, room)
        };
        if request.fault == Some(Fault::ShortRead) {
            count = rng.index(count);
        }
        target.filled(count);
        if request.fault == Some(Fault::BitRot)
            && let Some(byte) = target.get_mut(rng.index(count))
        {
            *byte ^= 1 << rng.below(8);
        }
        Ok(Output::Read { count })
    }

    fn set_len(&mut self, disk: DiskId, file: FileId, len: u64) -> Result<Output, Errno> {
        let open = self.opened(disk, file)?;
        if !open.is_writable {
            return Err(Errno::INVAL);
        }
        if len > FILE_LEN_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        self.cut(open.inode, len)?;
        Ok(Output::Done)
    }

    fn allocate(&mut self, disk: DiskId, file: FileId, len: u64) -> Result<Output, Errno> {
        let open = self.opened(disk, file)?;
        if !open.is_writable {
            return Err(Errno::BADF);
        }
        if len == 0 {
            return Err(Errno::INVAL);
        }
        if len > FILE_LEN_BYTES_MAX {
            return Err(Errno::FBIG);
        }
        let holes = self.file(open.inode)?.cache().hole_count(0, len);
        if self.free_pages() < holes as u64 {
            return Err(Errno::NOSPC);
        }
        self.file_mut(open.inode)?.allocate(len);
        Ok(Output::Done)
    }

    /// Sets a file's length and remembers what was cut off as stale.
    fn cut(&mut self, inode: Inode, len: u64) -> Result<(), Errno> {
        let before = self.file(inode)?.cache().clone();
        if len < before.len() {
            self.stale = Some(Arc::new(before));
        }
        self.file_mut(inode)?.set_len(len);
        Ok(())
    }

    fn sync_fate(&mut self, open: &OpenFile, fault: Option<Fault>) -> SyncFate {
        let is_reported = self
            .file_mut(open.inode)
            .is_ok_and(SimFile::take_unreported_error);
        match fault {
            Some(Fault::Io) => return SyncFate::Failed(Errno::IO),
            Some(Fault::NoSpace) => return SyncFate::Failed(Errno::NOSPC),
            Some(Fault::SyncErrorLost) => return SyncFate::Forgotten,
            Some(Fault::BrokenLink) => return SyncFate::Cancelled,
            _ if is_reported => return SyncFate::Failed(Errno::IO),
            _ => {}
        }
        for lie in &self.lies {
            match lie {
                Lie::NoFileSync { path_prefix } if open.path.starts_with(path_prefix) => {
                    return SyncFate::Skipped;
                }
                Lie::LostSync { path_prefix } if open.path.starts_with(path_prefix) => {
                    return SyncFate::Forgotten;
                }
                _ => {}
            }
        }
        SyncFate::Done
    }

    fn sync(&mut self, inode: Inode, fate: &SyncFate) -> Result<(), Errno> {
        let file = self.file_mut(inode)?;
        match fate {
            SyncFate::Done => file.sync(),
            SyncFate::Skipped => {}
            SyncFate::Forgotten => file.forget_pending(),
            SyncFate::Failed(errno) => {
                file.forget_pending();
                return Err(*errno);
            }
            SyncFate::Cancelled => return Err(Errno::CANCELED),
        }
        Ok(())
    }

    /// How many of `wanted` bytes at `offset` there is space for; an error when for none.
    fn room(&self, inode: Inode, offset: u64, wanted: usize) -> Result<usize, Errno> {
        let content = self.file(inode)?.cache();
        let end = offset + wanted as u64;
        let mut missing = content.hole_count(offset, end) as u64;
        if self.capacity_bytes.is_none() || missing <= self.free_pages() {
            return Ok(wanted);
        }
        // From the end, so that what fits is a prefix.
        let free = self.free_pages();
        let mut fitting = end;
        while missing > free {
            fitting = (fitting - 1) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
            if fitting <= offset {
                return Err(Errno::NOSPC);
            }
            missing = content.hole_count(offset, fitting) as u64;
        }
        Ok(usize::try_from(fitting - offset).unwrap_or(wanted))
    }

    fn free_pages(&self) -> u64 {
        match self.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(self.used_bytes()) / PAGE_BYTES as u64,
            None => u64::MAX,
        }
    }

    /// Refuses what direct I/O refuses, and files longer than can be.
    fn check_transfer(&self, open: &OpenFile, offset: u64, len: usize) -> Result<(), Errno> {
        let block = u64::from(self.block_bytes.max(1));
        let is_aligned = offset.is_multiple_of(block) && (len as u64).is_multiple_of(block);
        if open.is_direct && !is_aligned {
            return Err(Errno::INVAL);
        }
        match offset.checked_add(len as u64) {
            Some(end) if end <= FILE_LEN_BYTES_MAX => Ok(()),
            _ => Err(Errno::FBIG),
        }
    }

    fn opened(&self, disk: DiskId, file: FileId) -> Result<OpenFile, Errno> {
        self.open.get(&(disk, file)).cloned().ok_or(Errno::BADF)
    }

    fn file(&self, inode: Inode) -> Result<&SimFile, Errno> {
        self.files
            .get(&inode)
            .map(|file| &**file)
            .ok_or(Errno::NOENT)
    }

    fn file_mut(&mut self, inode: Inode) -> Result<&mut SimFile, Errno> {
        self.files
            .get_mut(&inode)
            .map(Arc::make_mut)
            .ok_or(Errno::NOENT)
    }

    fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        Inode(self.next_inode)
    }

    /// Forgets files that no name leads to, now or after a power loss, and nobody has open.
    pub(super) fn drop_unreachable(&mut self) {
        let reachable = self.names.reachable();
        let open = self.open.clone();
        let is_kept = |inode: &Inode| {
            reachable.contains(inode) || open.values().any(|open| open.inode == *inode)
        };
        let stale = &mut self.stale;
        self.files.retain(|inode, file| {
            let is_kept = is_kept(inode);
            if !is_kept {
                *stale = Some(Arc::new(file.cache().clone()));
            }
            is_kept
        });
    }
}
