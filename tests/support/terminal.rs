//! A terminal for a program under test: a pseudo-terminal whose screen is read as it is written.

#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec has no safe form"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

/// Longest anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Wide enough that no line of a test is broken.
const SIZE: Winsize = Winsize {
    ws_row: 50,
    ws_col: 500,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    keyboard: File,
    child: Child,
    screen: Arc<Screen>,
    /// What of the text was waited for already, bytes.
    seen_len: usize,
}

#[derive(Default)]
struct Screen {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Terminal {
    /// Starts a program whose standard streams are a terminal that it owns.
    pub(crate) fn start(mut command: Command) -> Self {
        let pair = openpty(Some(&SIZE), None).unwrap();
        let stream = || Stdio::from(pair.slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        command.env("TERM", "xterm");
        let own_terminal = || {
            nix::unistd::setsid()?;
            // SAFETY: the argument is an integer, and the descriptor is open.
            match unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(own_terminal) };
        let child = command.spawn().unwrap();
        // The child has the only other end: when it is gone, the screen ends.
        drop((command, pair.slave));
        let screen = Arc::new(Screen::default());
        let (reader, written) = (File::from(pair.master), Arc::clone(&screen));
        let keyboard = reader.try_clone().unwrap();
        thread::spawn(move || read_all(reader, &written));
        Self {
            keyboard,
            child,
            screen,
            seen_len: 0,
        }
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a text is on the screen behind what was waited for before; gives what stands
    /// between the two.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut written = self.screen.written.lock().unwrap();
        loop {
            let screen = plain(&written.bytes);
            let rest = &screen[self.seen_len..];
            if let Some(at) = rest.find(text) {
                self.seen_len += at + text.len();
                return rest[..at].to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            if written.is_closed || left.is_zero() {
                // The thread that reads needs the screen until the end.
                drop(written);
                panic!("{text:?} does not come; the screen: {screen:?}");
            }
            written = self.screen.changed.wait_timeout(written, left).unwrap().0;
        }
    }

    /// Waits until the program has ended; gives its exit code and what it wrote since.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let written = self.screen.written.lock().unwrap();
        let ended = self
            .screen
            .changed
            .wait_timeout_while(written, DEADLINE, |it| !it.is_closed);
        let screen = plain(&ended.unwrap().0.bytes);
        (code, screen[self.seen_len..].to_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A program that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until the last program on the terminal has ended.
fn read_all(mut reader: File, screen: &Screen) {
    let mut buffer = [0; 4096];
    loop {
        let read = reader.read(&mut buffer);
        let mut written = screen.written.lock().unwrap();
        match read {
            Ok(len) if 0 < len => written.bytes.extend_from_slice(&buffer[..len]),
            // EIO: nobody has the other end any more.
            _ => written.is_closed = true,
        }
        screen.changed.notify_all();
        if written.is_closed {
            return;
        }
    }
}

/// The text of a screen without its control sequences: what follows an escape up to a letter.
/// One that is not whole yet is left out with all behind it, so that the text only grows.
fn plain(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte != 0x1b {
            text.push(*byte);
        } else if rest.next() == Some(&b'[') {
            rest.by_ref().find(|byte| byte.is_ascii_alphabetic());
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
