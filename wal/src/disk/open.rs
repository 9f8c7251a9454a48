//! Choosing among the real disks: the ring where the kernel allows one, plain calls elsewhere.
//!
//! The choice is made once, when the directory is opened, by building a ring, syncing the directory through it, and
//! throwing it away.
//! A refusal is kept with its reason, for the log and the status line: nothing falls back in
//! silence.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::root::RealRoot;
use super::{Disk, DiskKind, IoUringDisk, OpenDisk, ThreadDisk, TokioUringDisk};

/// Which real disk is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskPreference {
    /// io_uring, and plain calls where it is refused.
    #[default]
    Auto,
    /// Plain calls, even where io_uring would do.
    Thread,
}

/// The real disks over one directory.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: RealRoot,
    refusal: Option<RingRefusal>,
    uses_rings: bool,
}

/// Why the kernel gives no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingRefusal {
    /// The error number of io_uring_setup(2) or of what follows it.
    pub errno: i32,
}

impl RingRefusal {
    /// What an operator can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match Errno::from_raw_os_error(self.errno) {
            Errno::PERM | Errno::ACCESS => {
                "io_uring is forbidden here: check kernel.io_uring_disabled, and the seccomp \
                 profile of the container or service"
            }
            Errno::NOSYS => "this kernel or sandbox has no io_uring",
            Errno::NOMEM => "too little locked memory for io_uring: raise LimitMEMLOCK",
            Errno::INVAL => "this kernel's io_uring is too old",
            Errno::MFILE | Errno::NFILE => "no file descriptor left: raise LimitNOFILE",
            _ => "io_uring cannot be used here",
        }
    }
}

impl fmt::Display for RingRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.errno);
        write!(f, "{} ({error})", self.advice())
    }
}

impl RealDisk {
    /// Finds out what the kernel allows and settles which disks are used over `root`.
    #[must_use]
    pub fn probe(root: RealRoot, preference: DiskPreference) -> Self {
        let refusal = match preference {
            DiskPreference::Thread => None,
            DiskPreference::Auto => {
                let tried = IoUringDisk::new(root.clone()).and_then(|mut disk| disk.check());
                let tried = tried.and_then(|()| TokioUringDisk::new(root.clone()).map(drop));
                let errno = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
                tried.err().map(|error| RingRefusal {
                    errno: errno(error),
                })
            }
        };
        let uses_rings = preference == DiskPreference::Auto && refusal.is_none();
        Self {
            root,
            refusal,
            uses_rings,
        }
    }

    /// Why plain calls are used although rings were wanted.
    #[must_use]
    pub fn refusal(&self) -> Option<&RingRefusal> {
        self.refusal.as_ref()
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &RealRoot {
        &self.root
    }
}

impl OpenDisk for RealDisk {
    fn open_disk(&self) -> io::Result<Box<dyn Disk>> {
        if self.uses_rings {
            Ok(Box::new(IoUringDisk::new(self.root.clone())?))
        } else {
            Ok(Box::new(ThreadDisk::new(self.root.clone())))
        }
    }

    fn kind(&self) -> DiskKind {
        if self.uses_rings {
            DiskKind::IoUring
        } else {
            DiskKind::Thread
        }
    }

    fn open_background_disk(&self) -> io::Result<Box<dyn Disk>> {
        if self.uses_rings {
            Ok(Box::new(TokioUringDisk::new(self.root.clone())?))
        } else {
            Ok(Box::new(ThreadDisk::new(self.root.clone())))
        }
    }

    fn background_kind(&self) -> DiskKind {
        if self.uses_rings {
            DiskKind::TokioUring
        } else {
            DiskKind::Thread
        }
    }

    fn block_bytes(&self) -> u32 {
        self.root.block_bytes()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.root.free_bytes()
    }
}

#[cfg(test)]
pub(crate) mod refusing {
    //! Threads on which the kernel refuses a system call.

    use std::collections::BTreeMap;

    use rustix::io::Errno;
    use seccompiler::{SeccompAction, SeccompFilter};

    /// Runs `body` on a thread on which a system call fails with an error number.
    pub(crate) fn with_refused<T: Send>(
        call: libc::c_long,
        errno: Errno,
        body: impl FnOnce() -> T + Send,
    ) -> T {
        let errno = u32::try_from(errno.raw_os_error()).expect("positive");
        let arch = std::env::consts::ARCH
            .try_into()
            .expect("a known architecture");
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, Vec::new())]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno),
            arch,
        );
        let program: seccompiler::BpfProgram =
            filter.expect("a filter").try_into().expect("a program");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                seccompiler::apply_filter(&program).expect("the filter applies");
                body()
            });
            thread.join().expect("joins")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Op, Output};
    use super::refusing::with_refused;
    use super::*;

    fn root() -> (tempfile::TempDir, RealRoot) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = RealRoot::open(directory.path()).expect("opens");
        (directory, root)
    }

    #[test]
    fn the_thread_disk_is_taken_with_the_reason_kept_where_io_uring_is_refused() {
        let (_directory, root) = root();
        let enter = [(libc::SYS_io_uring_enter, Errno::PERM)];
        let setup = [Errno::PERM, Errno::NOSYS, Errno::NOMEM, Errno::INVAL]
            .map(|errno| (libc::SYS_io_uring_setup, errno));
        for (call, errno) in setup.into_iter().chain(enter) {
            let root = root.clone();
            let disk = with_refused(call, errno, move || {
                let disk = RealDisk::probe(root, DiskPreference::Auto);
                let mut opened = disk.open_disk().expect("opens");
                opened.submit(Op::CreateDir {
                    path: format!("{call}-{}", errno.raw_os_error()),
                });
                assert_eq!(opened.complete().result.expect("works"), Output::Done);
                assert_eq!(opened.kind(), DiskKind::Thread);
                let background = disk.open_background_disk().expect("opens");
                assert_eq!(background.kind(), DiskKind::Thread);
                disk
            });
            assert_eq!(
                (disk.kind(), disk.background_kind()),
                (DiskKind::Thread, DiskKind::Thread)
            );
            let refusal = disk.refusal().expect("the reason");
            assert_eq!(refusal.errno, errno.raw_os_error());
            println!("{refusal}");
        }
    }

    #[test]
    fn rings_are_taken_where_the_kernel_allows_them() {
        let (_directory, root) = root();
        let disk = RealDisk::probe(root.clone(), DiskPreference::Auto);
        if let Some(refusal) = disk.refusal() {
            println!("SKIPPED: needs io_uring: {refusal}");
            return;
        }
        assert_eq!(disk.kind(), disk.open_disk().expect("opens").kind());
        assert_eq!(disk.kind(), DiskKind::IoUring);
        let background = disk.open_background_disk().expect("opens");
        assert_eq!(disk.background_kind(), background.kind());
        assert_eq!(disk.background_kind(), DiskKind::TokioUring);
        assert!(disk.free_bytes().expect("free space") > 0);
        let plain = RealDisk::probe(root, DiskPreference::Thread);
        assert_eq!(plain.kind(), DiskKind::Thread);
        assert!(plain.refusal().is_none());
    }

    #[test]
    fn a_kernel_without_a_ring_flag_still_gives_a_ring() {
        let (_directory, root) = root();
        let made = with_refused(libc::SYS_io_uring_register, Errno::INVAL, move || {
            IoUringDisk::new(root).map(|mut disk| {
                disk.submit(Op::SyncDir {
                    path: String::new(),
                });
                disk.complete().result.expect("syncs")
            })
        });
        assert_eq!(made.expect("a ring without restrictions"), Output::Done);
    }

    #[test]
    fn files_are_found_beneath_the_root_without_openat2() {
        let (directory, root) = root();
        std::fs::create_dir(directory.path().join("WAL")).expect("creates");
        std::os::unix::fs::symlink("/etc", directory.path().join("link")).expect("links");
        with_refused(libc::SYS_openat2, Errno::NOSYS, move || {
            let mut disk = ThreadDisk::new(root);
            let mut run = |path: &str, mode| {
                disk.submit(Op::Open {
                    path: path.to_owned(),
                    mode,
                });
                disk.complete().result
            };
            run("WAL/new", super::super::OpenMode::CreateNew).expect("creates");
            run("WAL/new", super::super::OpenMode::Read).expect("opens");
            run("top", super::super::OpenMode::CreateNew).expect("creates");
            for path in ["link/passwd", "link", "../x", "WAL/no", "no/x"] {
                run(path, super::super::OpenMode::Read).expect_err(path);
            }
            disk.submit(Op::List {
                path: String::new(),
            });
            let Output::Names(names) = disk.complete().result.expect("lists") else {
                panic!("a listing")
            };
            assert_eq!(names.len(), 3);
        });
    }
}
