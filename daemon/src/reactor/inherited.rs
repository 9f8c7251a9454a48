//! A descriptor the process was started with: the one to announce readiness on.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Writes to a descriptor this process was started with, and closes it.
///
/// # Errors
/// When it is not open, is one of the standard streams, or cannot be written.
pub(crate) fn write_and_close(descriptor: RawFd, bytes: &[u8]) -> io::Result<()> {
    if descriptor <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only looked at: fcntl(2) on a number that is no descriptor fails with EBADF.
    let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(descriptor) })?;
    if flags.contains(rustix::io::FdFlags::CLOEXEC) {
        // Opened by this process itself: somebody else owns it.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, was inherited (every descriptor made here is close-on-exec), and the
    // command line gave it to us alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = rustix::io::write(&descriptor, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(())
}
