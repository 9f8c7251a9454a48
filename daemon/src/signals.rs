//! The signals that stop the daemon or have it read its configuration again, as a descriptor the
//! reactor can watch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGTERM, SIGINT and SIGHUP, blocked in every thread and read one at a time.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals. Must be called before any thread is started: threads inherit the mask.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.add(Signal::SIGHUP);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            descriptor: SignalFd::with_flags(&set, flags)?,
        })
    }

    /// What to watch.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The next signal that came, if any.
    pub(crate) fn next(&self) -> Option<Signal> {
        let received = self.descriptor.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(received.ssi_signo).ok()?).ok()
    }
}
