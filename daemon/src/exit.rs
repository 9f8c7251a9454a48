//! How the process ends: one exit code for each thing a supervisor or a person can act on.

use std::process::ExitCode;

/// The exit codes of `inmemd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Stopped as asked, everything in flight finished.
    Clean = 0,
    /// Anything without a code of its own.
    Other = 1,
    /// Wrong flags or configuration.
    Usage = 2,
    /// Another process owns the data directory.
    Locked = 3,
    /// The data is damaged; nothing was changed.
    Damage = 4,
    /// A directory or the socket may not be used by this user.
    Permission = 5,
    /// The disk is full.
    NoSpace = 6,
    /// The socket path is taken.
    SocketInUse = 7,
    /// The data needs a codec or key this process does not have.
    Codec = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The code of an I/O error that says nothing more specific.
#[must_use]
pub(crate) fn of_io(error: &std::io::Error) -> Exit {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Exit::Permission,
        Some(libc::ENOSPC | libc::EDQUOT) => Exit::NoSpace,
        _ => Exit::Other,
    }
}
