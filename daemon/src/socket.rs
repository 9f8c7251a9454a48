//! The listening socket: taking the path, binding, giving it up.
//!
//! Called only while the lock of the data directory is held, so two daemons of one directory
//! never race here. Removes nothing but a stale socket of its own user: a live socket, another
//! user's or another kind of file is refused. The socket is bound under a strict umask and opened
//! to the configured mode and group afterwards, so that nobody connects in between.
//!
//! A socket that a service manager listens at for us is checked and used as it is; its file belongs
//! to the manager and stays when we go, so that clients wait in its backlog for the next start.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Stat};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::exit::{self, Exit};
use crate::supervisor::PassedSocket;

/// Connections the kernel holds while the daemon recovers or is at a limit.
const BACKLOG_COUNT: i32 = 1024;

/// Everything but the owner's bits.
const UMASK_STRICT: Mode = Mode::from_raw_mode(0o177);

/// The bound socket. Its file is removed when it is dropped, if it is ours.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: OwnedFd,
    path: PathBuf,
    /// Device and inode of our file: another's is never removed. None for the manager's.
    identity: Option<(u64, u64)>,
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Somebody answers there.
    #[error("socket in use: another process listens at {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The path holds something that is not a socket.
    #[error("{} is not a socket; it was left alone", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A stale socket of another user.
    #[error("{} belongs to user {owner}; it was left alone", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The path is too long for a socket address.
    #[error("{} is too long for a socket (107 bytes)", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// No file can have the path: it is empty or holds a NUL byte. In front, both would name a
    /// socket without a file and without a mode (unix(7), abstract).
    #[error("`socket` is {path:?}: no file can have this name")]
    NotAPath {
        /// The path.
        path: PathBuf,
    },
    /// What the service manager passed is no listening Unix stream socket with a path.
    #[error("the service manager passed {what}, not a listening Unix stream socket with a path")]
    PassedOther {
        /// What it is.
        what: &'static str,
    },
    /// The service manager listens at another path than the configuration says.
    #[error(
        "the service manager listens at {}, but `socket` is {}",
        path.display(), expected.display()
    )]
    PassedElsewhere {
        /// Where it listens.
        path: PathBuf,
        /// What is configured.
        expected: PathBuf,
    },
    /// Everybody may connect.
    #[error("{} may be written by everybody: set SocketMode=0660 or less", path.display())]
    OpenToAll {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused a step.
    #[error("cannot {step} {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SocketError {
    /// The exit code it ends the daemon with.
    #[must_use]
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } | Self::NotASocket { .. } => Exit::SocketInUse,
            Self::NotOurs { .. } | Self::OpenToAll { .. } => Exit::Permission,
            Self::PathTooLong { .. }
            | Self::NotAPath { .. }
            | Self::PassedOther { .. }
            | Self::PassedElsewhere { .. } => Exit::Usage,
            Self::Io { source, .. } => exit::of_io(source),
        }
    }
}

impl Listener {
    /// Takes the path and listens.
    pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Self, SocketError> {
        let failed = |step, errno: Errno| SocketError::Io {
            path: path.to_owned(),
            step,
            source: errno.into(),
        };
        let address = address_of(path)?;
        create_parent(path).map_err(|errno| failed("create the directory of", errno))?;
        remove_stale(path, &address)?;
        let descriptor = new_socket().map_err(|errno| failed("make a socket for", errno))?;
        let umask = rustix::process::umask(UMASK_STRICT);
        let bound = rustix::net::bind(&descriptor, &address);
        rustix::process::umask(umask);
        match bound {
            Ok(()) => {}
            // Bound by another between our look and now: the lock is per directory, not per path.
            Err(Errno::ADDRINUSE) => {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(failed("bind", errno)),
        }
        let found = status_of(path).map_err(|errno| failed("look at", errno))?;
        let identity = found.map(|found| (found.st_dev, found.st_ino));
        let this = Self {
            descriptor,
            path: path.to_owned(),
            identity,
        };
        if let Some(group) = group {
            rustix::fs::chown(path, None, Some(Gid::from_raw(group)))
                .map_err(|errno| failed("set the group of", errno))?;
        }
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))
            .map_err(|errno| failed("set the mode of", errno))?;
        rustix::net::listen(&this.descriptor, BACKLOG_COUNT)
            .map_err(|errno| failed("listen at", errno))?;
        Ok(this)
    }

    /// Takes over a socket that a service manager listens at. `expected` is the path somebody has
    /// configured, if anybody has.
    pub(crate) fn adopt(
        passed: PassedSocket,
        expected: Option<&Path>,
    ) -> Result<Self, SocketError> {
        let descriptor = passed.0;
        let path = path_of_listener(&descriptor)?;
        if let Some(expected) = expected.filter(|expected| *expected != path) {
            let expected = expected.to_owned();
            return Err(SocketError::PassedElsewhere { path, expected });
        }
        let found = status_of(&path).map_err(|errno| SocketError::Io {
            path: path.clone(),
            step: "look at",
            source: errno.into(),
        })?;
        match found {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Socket => {
                if found.st_mode & Mode::WOTH.as_raw_mode() != 0 {
                    return Err(SocketError::OpenToAll { path });
                }
            }
            _ => return Err(SocketError::NotASocket { path }),
        }
        tracing::info!(target: "ipc", path = %path.display(), "the service manager's socket is used");
        Ok(Self {
            descriptor,
            path,
            identity: None,
        })
    }

    /// The path clients connect to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The listening descriptor.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let found = status_of(&self.path).ok().flatten();
        let found = found.map(|found| (found.st_dev, found.st_ino));
        if self.identity.is_some() && found == self.identity {
            // Gone already, or left for the next start to find stale.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// Where a socket listens, if it is one that we can serve.
fn path_of_listener(descriptor: &OwnedFd) -> Result<PathBuf, SocketError> {
    let other = |what| SocketError::PassedOther { what };
    let domain = sockopt::socket_domain(descriptor).map_err(|_| other("something else"))?;
    if domain != AddressFamily::UNIX {
        return Err(other("a socket of another family"));
    }
    if sockopt::socket_type(descriptor) != Ok(SocketType::STREAM) {
        return Err(other("a Unix socket of another type"));
    }
    if sockopt::socket_acceptconn(descriptor) != Ok(true) {
        return Err(other("a socket nobody listens at"));
    }
    let address = rustix::net::getsockname(descriptor)
        .ok()
        .and_then(|address| SocketAddrUnix::try_from(address).ok());
    let path = address.as_ref().and_then(SocketAddrUnix::path_bytes);
    let path = path.ok_or_else(|| other("a socket without a path"))?;
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// The address of a file, never of a socket in the abstract namespace, which everybody may use.
fn address_of(path: &Path) -> Result<SocketAddrUnix, SocketError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(SocketError::NotAPath {
            path: path.to_owned(),
        });
    }
    SocketAddrUnix::new(path).map_err(|_| SocketError::PathTooLong {
        path: path.to_owned(),
    })
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Makes the one directory the socket lies in, for the owner only.
fn create_parent(path: &Path) -> Result<(), Errno> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    match rustix::fs::mkdir(parent, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn status_of(path: &Path) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes a socket of our own that nobody listens at; refuses everything else.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let owned = || path.to_owned();
    let failed = |step, errno: Errno| SocketError::Io {
        path: path.to_owned(),
        step,
        source: errno.into(),
    };
    let Some(found) = status_of(path).map_err(|errno| failed("look at", errno))? else {
        return Ok(());
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(SocketError::NotASocket { path: owned() });
    }
    let probe = new_socket().map_err(|errno| failed("make a socket for", errno))?;
    rustix::io::ioctl_fionbio(&probe, true).map_err(|errno| failed("probe", errno))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        Ok(()) if is_left_by_the_dead(&probe) => {}
        // Connected, or the backlog is full, or we may not even ask: somebody lives there.
        Ok(()) | Err(_) => return Err(SocketError::InUse { path: owned() }),
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(SocketError::NotOurs {
            path: owned(),
            owner: found.st_uid,
        });
    }
    tracing::info!(target: "ipc", path = %path.display(), "removing a stale socket");
    rustix::fs::unlink(path).map_err(|errno| failed("remove the stale", errno))
}

/// Whether the process that listened at the other end is gone. Its ring keeps the socket open
/// until the kernel has taken the ring apart, which happens after a SIGKILL was waited for: a
/// second start within milliseconds found its own dead predecessor "in use" (Linux 6.18).
fn is_left_by_the_dead(probe: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_peercred(probe)
        .is_ok_and(|peer| rustix::process::test_kill_process(peer.pid) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_free_path_is_bound_with_the_mode_and_given_up_on_drop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/s.sock");
        let listener = Listener::bind(&path, 0o660, None).unwrap();
        assert_eq!(status_of(&path).unwrap().unwrap().st_mode & 0o777, 0o660);
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(status_of(&path).unwrap().is_none());
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let live = Listener::bind(&path, 0o600, None).unwrap();
        let refused = Listener::bind(&path, 0o600, None).unwrap_err();
        assert_eq!(refused.exit(), Exit::SocketInUse);
        UnixStream::connect(&path).unwrap();
        let Listener { .. } = &live;
        // The file of a daemon that was killed: nobody listens, nobody removed it.
        rustix::net::shutdown(&live.descriptor, rustix::net::Shutdown::Both).unwrap();
        let next = Listener::bind(&path, 0o600, None).unwrap();
        drop(live);
        UnixStream::connect(&path).unwrap();
        drop(next);
    }

    #[test]
    fn another_kind_of_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        rustix::fs::mkdir(&path, Mode::RWXU).unwrap();
        let refused = Listener::bind(&path, 0o600, None).unwrap_err();
        assert!(
            matches!(refused, SocketError::NotASocket { .. }),
            "{refused}"
        );
        assert!(status_of(&path).unwrap().is_some());
    }

    #[test]
    fn a_passed_socket_is_checked_and_its_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let bind = || {
            let _ = rustix::fs::unlink(&path);
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o660)).unwrap();
            PassedSocket(listener.into())
        };
        let adopted = Listener::adopt(bind(), Some(&path)).unwrap();
        assert_eq!(adopted.path(), path);
        drop(adopted);
        assert!(status_of(&path).unwrap().is_some(), "it is the manager's");

        let refused = Listener::adopt(bind(), Some(Path::new("/elsewhere"))).unwrap_err();
        assert!(refused.to_string().contains("/elsewhere"), "{refused}");
        let passed = bind();
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o666)).unwrap();
        let refused = Listener::adopt(passed, None).unwrap_err();
        assert_eq!(refused.exit(), Exit::Permission, "{refused}");
        let passed = bind();
        rustix::fs::unlink(&path).unwrap();
        let refused = Listener::adopt(passed, None).unwrap_err();
        assert!(
            matches!(refused, SocketError::NotASocket { .. }),
            "{refused}"
        );

        let (stream, _peer) = UnixStream::pair().unwrap();
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (pipe, _end) = rustix::pipe::pipe().unwrap();
        for other in [stream.into(), datagram.into(), tcp.into(), pipe] {
            let refused = Listener::adopt(PassedSocket(other), None).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage, "{refused}");
        }
    }

    #[test]
    fn no_path_names_a_socket_in_the_abstract_namespace() {
        for bytes in [
            &b""[..],
            b"\0",
            b"\0inmem",
            b"/tmp/in\0mem",
            b"/tmp/inmem\0",
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            let refused = Listener::bind(path, 0o600, None).unwrap_err();
            assert!(
                matches!(refused, SocketError::NotAPath { .. }),
                "{bytes:?}: {refused}"
            );
            assert_eq!(refused.exit(), Exit::Usage);
        }
        // How other programs write an abstract name is the name of a file here.
        let address = address_of(Path::new("@inmem")).unwrap();
        assert_eq!(address.path_bytes(), Some(&b"@inmem"[..]));
        assert_eq!(address.abstract_name(), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("@inmem");
        let listener = Listener::bind(&path, 0o600, None).unwrap();
        assert!(status_of(&path).unwrap().is_some());
        UnixStream::connect(&path).unwrap();
        drop(listener);
    }

    #[test]
    fn a_path_no_socket_can_have_is_refused() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let refused = Listener::bind(&path, 0o600, None).unwrap_err();
        assert!(
            matches!(refused, SocketError::PathTooLong { .. }),
            "{refused}"
        );
    }
}
