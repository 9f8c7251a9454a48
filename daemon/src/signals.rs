//! The signals that stop the daemon or have it read its configuration again, as a descriptor the
//! reactor can watch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

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

    /// Calls `stop` when a signal asks for the stop, until `done` is readable. Returns whether one
    /// asked for another reading of the configuration, which is not looked after here.
    pub(crate) fn watch(&self, done: BorrowedFd<'_>, stop: impl Fn(Signal)) -> bool {
        let mut is_reload_asked = false;
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(done, PollFlags::IN),
                PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN),
            ];
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return is_reload_asked,
            }
            let [done, _] = &polled;
            if !done.revents().is_empty() {
                return is_reload_asked;
            }
            while let Some(signal) = self.next() {
                match signal {
                    Signal::SIGHUP => is_reload_asked = true,
                    signal => stop(signal),
                }
            }
        }
    }

    /// The next signal that came, if any.
    pub(crate) fn next(&self) -> Option<Signal> {
        let received = self.descriptor.read_signal().ok().flatten()?;
        Signal::try_from(i32::try_from(received.ssi_signo).ok()?).ok()
    }
}
