//! The lock of those who only read: it makes nothing and changes nothing.
//!
//! Whoever writes holds the lock file `LOCK` alone, and the directory itself where that can be
//! locked. Whoever reads shares both: the file if there is one, since a copy has none and a
//! directory that cannot be written gets none, and the directory.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::{LOCK_NAME, LockError, RealRoot, retry};

/// The right to read a database directory, shared with other readers, held until it is dropped or
/// the process ends.
#[derive(Debug)]
pub struct SharedDirectoryLock {
    _file: Option<OwnedFd>,
    _directory: Option<OwnedFd>,
}

impl RealRoot {
    /// Takes the directory's lock for reading, without waiting and without creating anything.
    ///
    /// # Errors
    /// [`LockError::Locked`] when somebody writes, or may.
    pub fn lock_shared(&self) -> Result<SharedDirectoryLock, LockError> {
        let path = self.path().join(LOCK_NAME);
        let file = match self.open_beneath(LOCK_NAME, OFlags::RDONLY) {
            Ok(file) => Some(file),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                let source = errno.into();
                return Err(LockError::Io { path, source });
            }
        };
        if let Some(file) = &file {
            match retry(|| flock(file, FlockOperation::NonBlockingLockShared)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(LockError::Locked { path }),
                Err(errno) => {
                    let source = errno.into();
                    return Err(LockError::Io { path, source });
                }
            }
        }
        let _directory = self.lock_directory(FlockOperation::NonBlockingLockShared)?;
        Ok(SharedDirectoryLock {
            _file: file,
            _directory,
        })
    }

    /// Locks the directory itself. None where the file system locks no directories (NFS): there a
    /// reader that finds no lock file is not kept apart from a writer.
    pub(super) fn lock_directory(
        &self,
        operation: FlockOperation,
    ) -> Result<Option<OwnedFd>, LockError> {
        let opened = self.open_beneath("", OFlags::RDONLY | OFlags::DIRECTORY);
        let Ok(directory) = opened else {
            return Ok(None);
        };
        match retry(|| flock(&directory, operation)) {
            Ok(()) => Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) => Err(LockError::Locked {
                path: self.path().to_owned(),
            }),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_a_directory_and_keep_a_writer_out_with_and_without_a_lock_file() {
        for has_file in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let root = RealRoot::open(scratch.path()).unwrap();
            if has_file {
                drop(root.lock().unwrap());
            }
            let names = || std::fs::read_dir(scratch.path()).unwrap().count();
            let before = names();
            let first = root.lock_shared().unwrap();
            let second = root.lock_shared().unwrap();
            assert_eq!(names(), before, "nothing is made");
            assert!(matches!(root.lock(), Err(LockError::Locked { .. })));
            drop(first);
            assert!(matches!(root.lock(), Err(LockError::Locked { .. })));
            drop(second);
            let writer = root.lock().unwrap();
            assert!(matches!(root.lock_shared(), Err(LockError::Locked { .. })));
            drop(writer);
            drop(root.lock_shared().unwrap());
        }
    }
}
