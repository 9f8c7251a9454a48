//! The terminal while frames are shown: keys come one by one and unseen, the cursor is hidden, and
//! all of it is put back at the end, also after an error and after a signal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Hides the cursor and clears.
const BEGIN: &str = "\x1b[?25l\x1b[2J";

/// To the first column of the first line.
const HOME: &str = "\x1b[H";

/// Clears to the end of the line, and begins another.
const LINE_END: &str = "\x1b[K\r\n";

/// Clears what is left of an earlier frame.
const FRAME_END: &str = "\x1b[J";

/// Shows the cursor again.
const END: &str = "\x1b[?25h\r\n";

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing in time.
    None,
    /// To end.
    Quit,
}

/// A terminal that shows frames.
pub(super) struct Terminal {
    /// How it was; none if the input is no terminal.
    modes: Option<Termios>,
    signals: SignalFd,
    /// The input has ended: only signals end it now.
    is_deaf: bool,
}

impl Terminal {
    /// Takes it over.
    pub(super) fn open() -> io::Result<Self> {
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags)?;
        let stdin = io::stdin();
        let modes = if stdin.is_terminal() {
            let before = tcgetattr(&stdin)?;
            let mut quiet = before.clone();
            quiet.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
            Some(before)
        } else {
            None
        };
        let this = Self {
            modes,
            signals,
            is_deaf: false,
        };
        let mut out = io::stdout().lock();
        out.write_all(BEGIN.as_bytes())?;
        out.flush()?;
        Ok(this)
    }

    /// Waits for a key, at most so long.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<Key> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Key::None);
            }
            let stdin = io::stdin();
            let mut ready = vec![PollFd::from_borrowed_fd(
                self.signals.as_fd(),
                PollFlags::IN,
            )];
            if !self.is_deaf {
                ready.push(PollFd::new(&stdin, PollFlags::IN));
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut ready, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
            if is_ready(0) {
                return Ok(Key::Quit);
            }
            if is_ready(1) {
                let mut keys = [0; 64];
                let count = rustix::io::read(&stdin, &mut keys)?;
                let keys = keys.get(..count).unwrap_or_default();
                if keys.iter().any(|key| matches!(key, b'q' | b'Q' | 3)) {
                    return Ok(Key::Quit);
                }
                self.is_deaf = count == 0;
            }
        }
    }

    /// Shows a frame in place of the one before.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let mut frame = HOME.to_owned();
        for line in lines {
            frame.push_str(line);
            frame.push_str(LINE_END);
        }
        frame.push_str(FRAME_END);
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(modes) = &self.modes {
            // It may be gone; then there is nothing to put back.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        }
        let mut out = io::stdout().lock();
        let _ = out.write_all(END.as_bytes()).and_then(|()| out.flush());
    }
}
