//! The one door to the disk: a completion-shaped trait over one database directory.
//!
//! The log, snapshots, MANIFEST and recovery are written against [`Disk`] alone. They submit an
//! operation, get a [`Ticket`], and later reap its [`Completion`]; they never see a descriptor or
//! a path outside the directory. io_uring, plain system calls on the calling thread, tokio-uring
//! and the simulated disk are its implementations.
//!
//! Durability contract, the same for all: bytes of a [`Op::Write`] survive a power loss once a
//! [`Op::Sync`] of that file, submitted after the write completed, has completed without error, or
//! once a `Write` with [`WriteSync::Data`] has (which covers only its own bytes). A created,
//! renamed or removed name survives once a [`Op::SyncDir`] of its directory, submitted after it
//! completed, has completed without error. After an error of a write or a sync nothing is known
//! about the file, and what the cache shows must not be trusted.
//!
//! A disk belongs to the thread that opened it. A buffer given to an operation is owned by the
//! operation and comes back in its completion.

use std::fmt;
use std::io;

mod beneath;
mod buf;
mod calls;
#[cfg(test)]
mod conformance;
mod io_uring;
mod key_file;
mod open;
mod ring;
mod root;
mod schedule;
mod simulated;
mod thread;
mod tokio_uring;

pub use beneath::Beneath;
pub use buf::{ALIGN_BYTES, AlignedBuf};
pub use io_uring::IoUringDisk;
pub use key_file::{KeyFileError, read_key_file};
#[cfg(test)]
pub(crate) use open::refusing::with_refused;
pub use open::{DiskPreference, RealDisk, RingRefusal};
pub use root::{
    DirectoryLock, Displaced, FileSystem, LockError, RealRoot, RootError, SharedDirectoryLock,
};
pub use schedule::short_slice;
pub use simulated::{
    CrashMode, Fault, FaultRule, Fired, Lie, Moment, OpKind, SimDisk, SimOptions, SimRng, SimWorld,
    UnsyncedWrite, WriteFate, is_simulated_crash,
};
pub use thread::ThreadDisk;
pub use tokio_uring::TokioUringDisk;

/// Opens disks over one directory, each on the thread that will use it.
pub trait OpenDisk: Send + Sync {
    /// A new disk for the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses the means (a ring, a descriptor).
    fn open_disk(&self) -> io::Result<Box<dyn Disk>>;

    /// Which implementation [`Self::open_disk`] gives, for status lines and metrics.
    fn kind(&self) -> DiskKind;

    /// A new disk for the calling thread when that is the background thread, whose transfers are
    /// large and whose latency does not matter.
    ///
    /// # Errors
    /// When the kernel refuses the means (a ring, a descriptor).
    fn open_background_disk(&self) -> io::Result<Box<dyn Disk>> {
        self.open_disk()
    }

    /// Which implementation [`Self::open_background_disk`] gives.
    fn background_kind(&self) -> DiskKind {
        self.kind()
    }

    /// The unit the device below writes whole, bytes: 512 or 4096, and 4096 where unknown. The
    /// log block of `WAL/` follows it.
    fn block_bytes(&self) -> u32 {
        4096
    }

    /// Bytes still free for this user on the file system of the directory.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Operations on the files of one directory, started in order, finished in any order.
pub trait Disk {
    /// Starts an operation. Never blocks for long and never fails: errors come as completions.
    fn submit(&mut self, op: Op) -> Ticket;

    /// Waits for the next operation to finish, in whatever order they do.
    ///
    /// # Panics
    /// When nothing is in flight: the caller would wait for ever.
    fn complete(&mut self) -> Completion;

    /// Operations submitted and not yet reaped.
    fn in_flight_count(&self) -> usize;

    /// Which implementation this is.
    fn kind(&self) -> DiskKind;
}

/// The implementations of [`Disk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// A raw io_uring of the calling thread.
    IoUring,
    /// System calls made by the calling thread while it submits.
    Thread,
    /// tokio-uring, used by the background thread.
    TokioUring,
    /// The simulated disk of the tests.
    Simulated,
}

impl DiskKind {
    /// The name used in logs, metrics and status lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Thread => "thread",
            Self::TokioUring => "tokio_uring",
            Self::Simulated => "simulated",
        }
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one submitted operation of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names one open file of one disk. Not valid on another disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// How a file is opened. All files are opened beneath the directory, never through a link, and
/// close-on-exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading an existing file.
    Read,
    /// Reading an existing file around the page cache. A file system that cannot do that gives an
    /// ordinary descriptor.
    ReadDirect,
    /// Reading and writing an existing file.
    Write,
    /// Writing an existing file around the page cache; the log's direct write form. Buffers,
    /// offsets and lengths are multiples of the log block.
    WriteDirect,
    /// Creating a file that must not exist, mode 0600, for reading and writing.
    CreateNew,
    /// Creating a file, or emptying the existing one, mode 0600, for reading and writing.
    CreateTruncate,
    /// The same around the page cache, under the conditions of [`Self::WriteDirect`].
    CreateTruncateDirect,
}

impl OpenMode {
    /// Whether transfers go around the page cache where the file system can do that.
    #[must_use]
    pub fn is_direct(self) -> bool {
        matches!(
            self,
            Self::ReadDirect | Self::WriteDirect | Self::CreateTruncateDirect
        )
    }
}

/// What a write promises when it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteSync {
    /// The kernel has the bytes.
    None,
    /// These bytes are durable (RWF_DSYNC). Covers no earlier write.
    Data,
    /// These bytes and every earlier write of the file are durable: a write, and behind it a data
    /// sync. Both are one result; behind a short write nothing is synced, and it is reported as short.
    LinkedSync,
}

/// One operation. Paths are relative to the directory, components separated by `/`; the empty
/// path is the directory itself.
#[derive(Debug, Clone)]
pub enum Op {
    /// Opens a file. Completes with [`Output::File`].
    Open {
        /// The file.
        path: String,
        /// What for.
        mode: OpenMode,
    },
    /// Closes a file. Completes with [`Output::Done`].
    Close {
        /// The file; its id is not valid afterwards.
        file: FileId,
    },
    /// Writes all of `buf` at `offset`. Completes with [`Output::Written`], whose count may
    /// be short: the caller decides what a short write means.
    Write {
        /// The file.
        file: FileId,
        /// Where the first byte goes, bytes from the file's start.
        offset: u64,
        /// The bytes.
        buf: AlignedBuf,
        /// What completion promises.
        sync: WriteSync,
    },
    /// Reads up to `len_bytes` at `offset` into `buf`, whose content is replaced. Completes with
    /// [`Output::Read`]; fewer bytes than asked means the file ends there or the read was short.
    Read {
        /// The file.
        file: FileId,
        /// Where the first byte is, bytes from the file's start.
        offset: u64,
        /// Bytes wanted.
        len_bytes: usize,
        /// Where they go.
        buf: AlignedBuf,
    },
    /// Makes every completed write of the file durable, its length included (fdatasync).
    Sync {
        /// The file.
        file: FileId,
    },
    /// The length of an open file. Completes with [`Output::Len`].
    FileLen {
        /// The file.
        file: FileId,
    },
    /// Sets the length of an open file.
    SetLen {
        /// The file.
        file: FileId,
        /// Its new length; bytes gained read as zero.
        len_bytes: u64,
    },
    /// Reserves space for a file up to `len_bytes`, so that a later write inside it cannot meet a
    /// full disk. The file is at least that long afterwards; the bytes gained read as zero.
    Allocate {
        /// The file.
        file: FileId,
        /// Bytes from the file's start to reserve.
        len_bytes: u64,
    },
    /// Renames a file, replacing the target.
    Rename {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Removes a file.
    Unlink {
        /// Its name.
        path: String,
    },
    /// Makes created, renamed and removed names of a directory durable.
    SyncDir {
        /// The directory.
        path: String,
    },
    /// Creates a directory, mode 0700. An existing one is an `AlreadyExists` error.
    CreateDir {
        /// Its name.
        path: String,
    },
    /// Renames a directory to a name that must not exist; `AlreadyExists`, or `DirectoryNotEmpty`,
    /// when it does. What is inside must be durable before, by syncs of its files and directories
    /// under the old name.
    RenameDir {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Removes an empty directory.
    RemoveDir {
        /// Its name.
        path: String,
    },
    /// The names in a directory, in no order, without `.` and `..`. Completes with
    /// [`Output::Names`].
    List {
        /// The directory.
        path: String,
    },
}

/// Whether a path names something beneath the directory: components that are names, separated by
/// single slashes. The empty path, which is the directory itself, does.
fn is_beneath(path: &str) -> bool {
    path.is_empty()
        || !path
            .split('/')
            .any(|component| matches!(component, "" | "." | ".."))
}

/// A finished operation.
#[derive(Debug)]
pub struct Completion {
    /// What [`Disk::submit`] returned for it.
    pub ticket: Ticket,
    /// What came of it.
    pub result: io::Result<Output>,
    /// The buffer of a read or write, also after an error. A read's buffer holds exactly the bytes
    /// read.
    pub buf: Option<AlignedBuf>,
}

/// What a successful operation yields.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing beyond success.
    Done,
    /// The opened file.
    File(FileId),
    /// A write.
    Written {
        /// Bytes written, at most those asked for.
        count: usize,
    },
    /// A read.
    Read {
        /// Bytes read, at most those asked for.
        count: usize,
    },
    /// A length in bytes.
    Len(u64),
    /// The names in a directory.
    Names(Vec<String>),
}
