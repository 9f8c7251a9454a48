//! Power that goes: a file system that from one moment on writes nothing any more.
#![expect(
    unsafe_code,
    reason = "the one request that shuts a file system down has no safe form"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What is written before everything ends.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Loss {
    /// Everything: the file system is frozen first. What a clean moment of a crash looks like.
    Everything = 0,
    /// The journal, without the data behind it.
    Journal = 1,
    /// Nothing: what was not synced is gone, as when the power is cut.
    Nothing = 2,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Journal, Self::Everything];
}

/// `EXT4_IOC_SHUTDOWN`, which is `_IOR('X', 125, __u32)`: fs/ext4/ext4.h of Linux.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;

/// Shuts down the file system of a directory: every later write and sync of it fails with EIO, what
/// is in its cache is never written, and a mount afterwards recovers its journal.
///
/// # Errors
/// Whatever the kernel says: EPERM without the right to administer the system, ENOTTY where it is no
/// ext4.
pub fn take_power(dir: &Path, loss: Loss) -> io::Result<()> {
    let dir = File::open(dir)?;
    let flags = loss as u32;
    // SAFETY: the request reads one u32, which outlives the call; the descriptor is open.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
