//! The database's root directory: opened once, checked, locked, and then only worked beneath.
//!
//! It owns the directory's descriptor and what is known of the file system below it. All real
//! disks share one root. No file of the database is ever reached by an absolute path, so a
//! directory or link swapped in later is never followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, Stat, fdatasync, flock, fstat,
    fstatfs, fstatvfs, fsync, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;

use super::is_beneath;

mod in_place;
mod shared_lock;
#[cfg(test)]
mod tests;

pub use in_place::Displaced;
pub use shared_lock::SharedDirectoryLock;

/// Mode of directories: the owner only.
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// Mode of files: the owner only.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Name of the lock file. It is never copied and holds nothing.
const LOCK_NAME: &str = "LOCK";

/// The log block where the device does not tell its own, bytes.
const BLOCK_BYTES_UNKNOWN: u32 = 4096;

/// An open and checked database directory. Clones share one descriptor.
#[derive(Debug, Clone)]
pub struct RealRoot {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    path: PathBuf,
    file_system: FileSystem,
    block_bytes: u32,
}

/// The exclusive right to a database directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirectoryLock {
    fd: OwnedFd,
    /// The directory, locked too where that can be done: for readers that find no lock file.
    _directory: Option<OwnedFd>,
}

/// The file system a directory lies on, as far as it matters to durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// ZFS.
    Zfs,
    /// tmpfs or ramfs: memory, gone at the next boot.
    Memory,
    /// overlayfs, as in a container's own layer: gone with the container.
    Overlay,
    /// NFS.
    Nfs,
    /// A FUSE file system.
    Fuse,
    /// Another one, by its magic number (statfs(2)).
    Other(u64),
}

/// Why a directory cannot be a database's root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is nothing at the path.
    #[error("no directory at {}", path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path leads to something else than a directory, or to a symbolic link.
    #[error("{} is not a directory, or is a symbolic link", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// The directory belongs to another user.
    #[error("{} belongs to user {owner}, and this process is user {user}", path.display())]
    NotOurs {
        /// The path asked for.
        path: PathBuf,
        /// The directory's owner.
        owner: u32,
        /// Our effective user.
        user: u32,
    },
    /// Its group or everyone may write to the directory.
    #[error("{} can be written by others (mode {mode:o})", path.display())]
    WritableByOthers {
        /// The path asked for.
        path: PathBuf,
        /// The directory's permission bits.
        mode: u32,
    },
    /// The kernel refused a step.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// The path the step was about.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Why the lock of a directory was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another opener in this one, holds it.
    #[error("{} is locked by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The kernel refused a step.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl RealRoot {
    /// Opens an existing directory.
    ///
    /// # Errors
    /// When it is missing, is not a directory, is reached through a link as its last component,
    /// belongs to another user or can be written by others.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        Self::open_checked(path, OFlags::NOFOLLOW, check_owner)
    }

    /// Opens an existing directory that is no database's, to make one beneath it. A link as its last
    /// component is followed, since it is the caller who names it.
    ///
    /// # Errors
    /// When it is missing, is not a directory, belongs to somebody else than this user or root, or
    /// can be written by others who could exchange what is made there: the sticky bit forbids that.
    pub fn open_above(path: &Path) -> Result<Self, RootError> {
        Self::open_checked(path, OFlags::empty(), check_holder)
    }

    fn open_checked(
        path: &Path,
        flags: OFlags,
        check: fn(&Path, &Stat) -> Result<(), RootError>,
    ) -> Result<Self, RootError> {
        let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => RootError::NotFound {
                path: path.to_owned(),
            },
            Errno::NOTDIR | Errno::LOOP => RootError::NotADirectory {
                path: path.to_owned(),
            },
            errno => io_error(path, "open", errno),
        })?;
        let stat = fstat(&fd).map_err(|errno| io_error(path, "examine", errno))?;
        check(path, &stat)?;
        let magic = fstatfs(&fd)
            .map_err(|errno| io_error(path, "examine", errno))?
            .f_type;
        let inner = Inner {
            fd,
            path: path.to_owned(),
            file_system: FileSystem::from_magic(magic.cast_unsigned()),
            block_bytes: physical_block_bytes(stat.st_dev).unwrap_or(BLOCK_BYTES_UNKNOWN),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens a directory; it and missing ones above it are created with mode 0700, and the names
    /// of those created are durable when this returns.
    ///
    /// # Errors
    /// As [`Self::open`], and when a directory cannot be created or synced.
    pub fn open_or_create(path: &Path) -> Result<Self, RootError> {
        create_directory(path)?;
        Self::open(path)
    }

    /// Takes the directory's lock, without waiting.
    ///
    /// # Errors
    /// [`LockError::Locked`] when somebody holds it; nothing was changed then.
    pub fn lock(&self) -> Result<DirectoryLock, LockError> {
        let path = self.inner.path.join(LOCK_NAME);
        let fd = match self.open_beneath(LOCK_NAME, OFlags::RDWR | OFlags::CREATE) {
            Ok(fd) => fd,
            Err(errno) => {
                return Err(LockError::Io {
                    path,
                    source: errno.into(),
                });
            }
        };
        match retry(|| flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {
                let _directory = self.lock_directory(FlockOperation::NonBlockingLockExclusive)?;
                Ok(DirectoryLock { fd, _directory })
            }
            Err(Errno::WOULDBLOCK) => Err(LockError::Locked { path }),
            Err(errno) => Err(LockError::Io {
                path,
                source: errno.into(),
            }),
        }
    }

    /// Syncs the directory and a file in it, that of its lock: on a file system that cannot, no
    /// commit would be durable.
    ///
    /// # Errors
    /// [`RootError::Io`] with the step `sync`, the path that was not synced and what the kernel
    /// said: EINVAL, EROFS or EOPNOTSUPP where the file system has no sync.
    pub fn check_sync(&self, lock: &DirectoryLock) -> Result<(), RootError> {
        let lock_path = self.inner.path.join(LOCK_NAME);
        retry(|| fdatasync(&lock.fd)).map_err(|errno| io_error(&lock_path, "sync", errno))?;
        retry(|| fsync(self.fd())).map_err(|errno| io_error(&self.inner.path, "sync", errno))
    }

    /// The path it was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What the directory lies on.
    #[must_use]
    pub fn file_system(&self) -> FileSystem {
        self.inner.file_system
    }

    /// The physical block of the device below, bytes: 512 or 4096, and 4096 where it is unknown
    /// or another.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        self.inner.block_bytes
    }

    /// Bytes still free for this user.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = retry(|| fstatvfs(&self.inner.fd))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }

    /// Opens `path` beneath the root, never through a link; the empty path is the root.
    pub(super) fn open_beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        if !is_beneath(path) {
            return Err(Errno::INVAL);
        }
        let path = if path.is_empty() { "." } else { path };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = if flags.contains(OFlags::CREATE) {
            FILE_MODE
        } else {
            Mode::empty()
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match retry(|| openat2(self.fd(), path, flags, mode, resolve)) {
            // A sandbox without openat2 (gVisor): walk, which follows no link either.
            Err(Errno::NOSYS) => self.walk(path, flags, mode),
            opened => opened,
        }
    }

    /// The directory that holds `path`, and the name of `path` in it.
    pub(super) fn parent_of<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
        if path.is_empty() || !is_beneath(path) {
            return Err(Errno::INVAL);
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((
            self.open_beneath(parent, OFlags::PATH | OFlags::DIRECTORY)?,
            name,
        ))
    }

    /// Creates a directory beneath the root.
    pub(super) fn create_directory_beneath(&self, path: &str) -> Result<(), Errno> {
        let (parent, name) = self.parent_of(path)?;
        mkdirat(&parent, name, DIRECTORY_MODE)
    }

    /// What [`Self::open_beneath`] does, one component at a time.
    fn walk(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut parent: Option<OwnedFd> = None;
        for component in parents.split('/').filter(|component| !component.is_empty()) {
            let from = parent.as_ref().map_or_else(|| self.fd(), AsFd::as_fd);
            parent = Some(openat(from, component, step, Mode::empty())?);
        }
        let from = parent.as_ref().map_or_else(|| self.fd(), AsFd::as_fd);
        retry(|| openat(from, name, flags, mode))
    }
}

impl FileSystem {
    /// Whether its files are gone after a reboot, or with the container: no place for a log.
    #[must_use]
    pub fn is_volatile(self) -> bool {
        matches!(self, Self::Memory | Self::Overlay)
    }

    /// A short name for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Memory => "tmpfs",
            Self::Overlay => "overlayfs",
            Self::Nfs => "nfs",
            Self::Fuse => "fuse",
            Self::Other(_) => "other",
        }
    }

    /// The file system of a magic number, as in statfs(2), and OpenZFS's own.
    #[must_use]
    pub fn from_magic(magic: u64) -> Self {
        match magic {
            0xEF53 => Self::Ext,
            0x5846_5342 => Self::Xfs,
            0x9123_683E => Self::Btrfs,
            0x2FC1_2FC1 => Self::Zfs,
            0x0102_1994 | 0x8584_58F6 => Self::Memory,
            0x794C_7630 => Self::Overlay,
            0x6969 => Self::Nfs,
            0x6573_5546 => Self::Fuse,
            other => Self::Other(other),
        }
    }
}

/// Repeats a call that a signal interrupted before it did anything. Never used for a sync: an
/// error of a sync is final, whatever its number.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn io_error(path: &Path, step: &'static str, errno: Errno) -> RootError {
    RootError::Io {
        path: path.to_owned(),
        step,
        source: errno.into(),
    }
}

fn check_owner(path: &Path, stat: &Stat) -> Result<(), RootError> {
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return Err(RootError::NotOurs {
            path: path.to_owned(),
            owner: stat.st_uid,
            user,
        });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return Err(RootError::WritableByOthers {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Nobody but this user and root can exchange what this user makes in the directory.
fn check_holder(path: &Path, stat: &Stat) -> Result<(), RootError> {
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user && stat.st_uid != 0 {
        return Err(RootError::NotOurs {
            path: path.to_owned(),
            owner: stat.st_uid,
            user,
        });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(RootError::WritableByOthers {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Creates `path` and the missing directories above it, and makes each new name durable. The name
/// of a directory that is there already may still be undurable from a creation that was cut
/// short, so the last parent is synced in every case where it can be opened.
fn create_directory(path: &Path) -> Result<(), RootError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let is_plain = matches!(path.components().next_back(), Some(Component::Normal(_)));
    let is_missing = matches!(
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        Err(Errno::NOENT)
    );
    if is_missing && is_plain {
        if matches!(statat(CWD, parent, AtFlags::empty()), Err(Errno::NOENT)) {
            create_directory(parent)?;
        }
        match mkdirat(CWD, path, DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(io_error(path, "create", errno)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(fd) => fsync(&fd).map_err(|errno| io_error(parent, "sync", errno)),
        Err(_) if !is_missing => Ok(()),
        Err(errno) => Err(io_error(parent, "open", errno)),
    }
}

/// Asks sysfs for the physical block of a device; a partition's queue is that of its disk.
fn physical_block_bytes(device: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let base = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let read = |below: &OsStr| std::fs::read_to_string(base.join(below)).ok();
    let text = read(OsStr::new("queue/physical_block_size"))
        .or_else(|| read(OsStr::new("../queue/physical_block_size")))?;
    match text.trim().parse() {
        Ok(block @ (512 | 4096)) => Some(block),
        _ => None,
    }
}
