//! Changes of a directory as events.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify;

use super::daemon::wait_readable;

/// Tells of names that appear in a directory, made there or renamed into it.
pub struct Watch {
    events: OwnedFd,
}

impl Watch {
    /// Begins to watch; nothing if there is no such directory.
    pub fn new(dir: &Path) -> Option<Self> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK);
        let events = events.expect("inotify");
        let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&events, dir, flags).ok()?;
        Some(Self { events })
    }

    /// Forgets what has happened so far.
    pub fn drain(&mut self) {
        while self.read(|_| true) {}
    }

    /// Waits until a name appears that `is_wanted`; false when `end` is readable before, or the
    /// time is over.
    pub fn wait(
        &mut self,
        is_wanted: impl Fn(&str) -> bool,
        end: BorrowedFd<'_>,
        wait_max: Duration,
    ) -> bool {
        let deadline = Instant::now() + wait_max;
        loop {
            if self.read(&is_wanted) {
                return true;
            }
            if wait_readable(&[end], Instant::now())
                || !wait_readable(&[self.events.as_fd(), end], deadline)
            {
                return false;
            }
        }
    }

    /// Takes in what has happened; whether a name appeared that `is_wanted`.
    fn read(&mut self, is_wanted: impl Fn(&str) -> bool) -> bool {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        let mut is_found = false;
        while let Ok(event) = reader.next() {
            let name = event.file_name().and_then(|name| name.to_str().ok());
            is_found |= name.is_some_and(&is_wanted);
        }
        is_found
    }
}
