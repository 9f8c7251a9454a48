//! Descriptors the process was started with: the one to announce readiness on, and the socket a
//! service manager listens at.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Writes to a descriptor this process was started with, and closes it.
///
/// # Errors
/// When it is not open, is one of the standard streams, or cannot be written.
pub(crate) fn write_and_close(descriptor: RawFd, bytes: &[u8]) -> io::Result<()> {
    let descriptor = take(descriptor)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::write(&descriptor, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Takes a descriptor this process was started with. From then on it is close-on-exec, like every
/// descriptor of ours.
///
/// # Errors
/// When it is not open, is one of the standard streams, or was taken or opened by this process.
pub(crate) fn take(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only looked at: fcntl(2) on a number that is no descriptor fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = rustix::io::fcntl_getfd(borrowed)?;
    if flags.contains(rustix::io::FdFlags::CLOEXEC) {
        // Somebody here owns it already.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open and was inherited (every descriptor made here is close-on-exec), and it is
    // marked now, so that it is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
