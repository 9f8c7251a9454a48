//! A second socket that gives the metrics to whoever connects: for scrapers that may not use the
//! store.
//!
//! One thread, one peer at a time, one deadline for all that a peer does, nothing shared with the
//! reactor but the numbers. A peer that sends `GET` gets an HTTP/1.0 answer, as Prometheus and curl
//! expect; one that sends nothing gets the bare text. The file's mode and group decide who may
//! connect. A stop interrupts every wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use in_mem_wal::clock::{Clock, SystemClock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::report::render;
use crate::config::Observe;
use crate::socket::{Listener, SocketError};
use crate::store::Store;

/// Most of a request that is looked at, bytes.
const REQUEST_LEN_BYTES_MAX: usize = 8 << 10;

/// How long things may take, microseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// For how long a peer may keep quiet before what it has sent is its request.
    request_wait_us: u64,
    /// All that a peer does, from its connection to the last byte it reads.
    exchange_max_us: u64,
    /// From a connection that could not be accepted to the next try: it stays in the backlog, and
    /// would wake the thread at once.
    accept_pause_us: u64,
}

const TIMES: Times = Times {
    request_wait_us: 250_000,
    exchange_max_us: 2_000_000,
    accept_pause_us: 500_000,
};

/// The responder. Ends when dropped: with the rendering of one answer at the most, whatever its
/// peer does.
#[derive(Debug)]
pub(crate) struct Responder {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no responder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponderError {
    /// The socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The thread cannot be started.
    #[error("cannot start the thread of the metrics socket: {0}")]
    Thread(#[from] io::Error),
}

impl Responder {
    /// Binds the socket of the settings and starts the thread; nothing without such a socket.
    ///
    /// # Errors
    /// See [`ResponderError`]; nothing was started.
    pub(crate) fn start(
        settings: &Observe,
        group: Option<u32>,
        store: &Arc<Store>,
    ) -> Result<Option<Self>, ResponderError> {
        let Some(path) = &settings.metrics_socket else {
            return Ok(None);
        };
        let listener = Listener::bind(path, settings.metrics_socket_mode, group)?;
        // A peer may leave between the look and the accept.
        let flags = fcntl_getfl(listener.descriptor()).map_err(io::Error::from)?;
        fcntl_setfl(listener.descriptor(), flags | OFlags::NONBLOCK).map_err(io::Error::from)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(io::Error::from)?);
        let (store, stopped) = (Arc::clone(store), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("inmem-metrics".to_owned())
            .spawn(move || {
                let mut service = Service {
                    stop: stopped.as_fd(),
                    times: TIMES,
                    render: || render(&store),
                    accept,
                };
                service.serve(listener.descriptor());
            })?;
        tracing::info!(target: "ipc", path = %path.display(), "metrics socket");
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Responder {
    /// Has the thread end, without waiting for it.
    pub(crate) fn stop(&self) {
        // The counter of an eventfd takes a 1; whatever fails here, the thread ends with us.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_le_bytes());
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a peer got no whole answer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the server stops")]
    Stopped,
    #[error("the peer took too long")]
    TooSlow,
    #[error(transparent)]
    Io(#[from] Errno),
}

/// What became of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The descriptor is ready.
    Ready,
    /// The time is over.
    Over,
}

fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Serves one peer after the other.
struct Service<'a, R, A> {
    /// Readable once the thread is to end.
    stop: BorrowedFd<'a>,
    times: Times,
    render: R,
    accept: A,
}

impl<R, A> Service<'_, R, A>
where
    R: Fn() -> String,
    A: FnMut(BorrowedFd<'_>) -> Result<OwnedFd, Errno>,
{
    /// Until the stop.
    fn serve(&mut self, listener: BorrowedFd<'_>) {
        loop {
            match self.serve_one(listener) {
                Ok(()) => {}
                Err(Lost::Stopped) => return,
                Err(error @ Lost::TooSlow) => {
                    tracing::debug!(target: "ipc", %error, "a reader of metrics was lost");
                }
                Err(Lost::Io(error)) => {
                    tracing::warn!(target: "ipc", %error, "the metrics socket is not served any more");
                    return;
                }
            }
        }
    }

    /// Waits for a peer and gives it what it asked for. An I/O error is one of the waits
    /// themselves.
    fn serve_one(&mut self, listener: BorrowedFd<'_>) -> Result<(), Lost> {
        self.wait(Some((listener, PollFlags::IN)), None)?;
        match (self.accept)(listener) {
            Ok(peer) => match self.answer(&peer) {
                Err(Lost::Io(error)) => {
                    tracing::debug!(target: "ipc", %error, "a reader of metrics was lost");
                    Ok(())
                }
                answered => answered,
            },
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(()),
            Err(error) => {
                tracing::debug!(target: "ipc", %error, "no reader of metrics");
                let again_us = SystemClock.monotonic_us() + self.times.accept_pause_us;
                self.wait(None, Some(again_us)).map(drop)
            }
        }
    }

    /// Waits for one descriptor until a time of the monotonic clock; for ever without one.
    fn wait(
        &self,
        wanted: Option<(BorrowedFd<'_>, PollFlags)>,
        until_us: Option<u64>,
    ) -> Result<Waited, Lost> {
        loop {
            let left_us = until_us.map(|us| us.saturating_sub(SystemClock.monotonic_us()));
            if left_us == Some(0) {
                return Ok(Waited::Over);
            }
            let mut polled = vec![PollFd::from_borrowed_fd(self.stop, PollFlags::IN)];
            polled.extend(wanted.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
            match poll(&mut polled, left_us.map(timespec).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
            if ready.next() == Some(true) {
                return Err(Lost::Stopped);
            }
            if ready.next() == Some(true) {
                return Ok(Waited::Ready);
            }
        }
    }

    /// Gives one peer what it asked for.
    fn answer(&self, peer: &OwnedFd) -> Result<(), Lost> {
        let mut until_us = SystemClock.monotonic_us() + self.times.exchange_max_us;
        let request = self.read_request(peer, until_us)?;
        let status = head_of(&request);
        let asked_us = SystemClock.monotonic_us();
        let text = match status {
            Some("200 OK") | None => (self.render)(),
            Some(_) => String::new(),
        };
        // That was our time, not the peer's.
        until_us += SystemClock.monotonic_us() - asked_us;
        if let Some(status) = status {
            let head = format!(
                "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n",
                text.len()
            );
            self.write(peer, head.as_bytes(), until_us)?;
        }
        self.write(peer, text.as_bytes(), until_us)
    }

    /// What a peer sends up to the end of an HTTP head; nothing of one that keeps quiet.
    fn read_request(&self, peer: &OwnedFd, until_us: u64) -> Result<Vec<u8>, Lost> {
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while request.len() < REQUEST_LEN_BYTES_MAX && !request.ends_with(b"\r\n\r\n") {
            let quiet_us = SystemClock.monotonic_us() + self.times.request_wait_us;
            let wanted = (peer.as_fd(), PollFlags::IN);
            if self.wait(Some(wanted), Some(quiet_us.min(until_us)))? == Waited::Over {
                break;
            }
            match recv(peer, &mut part, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => break,
                Ok((_, count)) => request.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(request)
    }

    fn write(&self, peer: &OwnedFd, mut bytes: &[u8], until_us: u64) -> Result<(), Lost> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !bytes.is_empty() {
            if self.wait(Some((peer.as_fd(), PollFlags::OUT)), Some(until_us))? == Waited::Over {
                return Err(Lost::TooSlow);
            }
            match send(peer, bytes, flags) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn timespec(us: u64) -> Timespec {
    let (seconds, rest_us) = (us / 1_000_000, us % 1_000_000);
    Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        // Below 10^9.
        tv_nsec: i64::try_from(rest_us * 1_000).unwrap_or(0),
    }
}

/// The status of an HTTP answer; none for a peer that speaks no HTTP.
fn head_of(request: &[u8]) -> Option<&'static str> {
    let line = request.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    let (method, path) = (words.next()?, words.next().unwrap_or_default());
    if line.is_empty() {
        return None;
    }
    Some(match (method, path) {
        (b"GET", b"/" | b"/metrics") => "200 OK",
        (b"GET", _) => "404 Not Found",
        _ => "405 Method Not Allowed",
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Duration;

    use super::*;

    /// Longest any wait of these tests may take.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Longer than any test.
    const NEVER_US: u64 = 1 << 40;

    /// A service of a text on a thread of its own.
    struct Fixture {
        stop: Arc<OwnedFd>,
        ended: mpsc::Receiver<()>,
        path: std::path::PathBuf,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new(
            times: Times,
            text_len_bytes: usize,
            accept: impl FnMut(BorrowedFd<'_>) -> Result<OwnedFd, Errno> + Send + 'static,
        ) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("m.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
            let (has_ended, ended) = mpsc::channel();
            let stopped = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut service = Service {
                    stop: stopped.as_fd(),
                    times,
                    render: || "x".repeat(text_len_bytes),
                    accept,
                };
                service.serve(listener.as_fd());
                has_ended.send(()).unwrap();
            });
            Self {
                stop,
                ended,
                path,
                _directory: directory,
            }
        }

        /// Connects a peer that reads, a little at a time, for as long as it is let.
        fn trickle(&self) -> mpsc::Sender<()> {
            let mut peer = UnixStream::connect(&self.path).unwrap();
            peer.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut part = [0; 4096];
            peer.read_exact(&mut part).unwrap();
            let (is_over, over) = mpsc::channel::<()>();
            std::thread::spawn(move || {
                let pause = Duration::from_millis(20);
                while over.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    if !matches!(peer.read(&mut part), Ok(1..)) {
                        return;
                    }
                }
            });
            is_over
        }

        fn stop(&self) {
            rustix::io::write(&*self.stop, &1_u64.to_le_bytes()).unwrap();
            self.ended.recv_timeout(DEADLINE).unwrap();
        }
    }

    /// At 4 KiB each 20 ms: more than a minute.
    const LONG_TEXT_LEN_BYTES: usize = 16 << 20;

    /// What was lost: the time began anew with every piece a peer took, so one that read slowly
    /// kept all others out.
    #[test]
    fn a_peer_that_reads_slowly_makes_room_for_the_next_when_its_time_is_over() {
        let fixture = Fixture::new(TIMES, LONG_TEXT_LEN_BYTES, accept);
        let slow = fixture.trickle();
        let mut next = UnixStream::connect(&fixture.path).unwrap();
        next.set_read_timeout(Some(DEADLINE)).unwrap();
        next.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut status = [0; 15];
        next.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.0 200 OK");
        drop(slow);
        fixture.stop();
    }

    /// What was lost: the stop of the daemon waited for a peer that read slowly.
    #[test]
    fn a_stop_waits_for_no_peer() {
        let times = Times {
            exchange_max_us: NEVER_US,
            request_wait_us: NEVER_US,
            ..TIMES
        };
        let reading = Fixture::new(times, LONG_TEXT_LEN_BYTES, accept);
        let slow = reading.trickle();
        reading.stop();
        drop(slow);
        let quiet = Fixture::new(times, 1, accept);
        let silent = UnixStream::connect(&quiet.path).unwrap();
        quiet.stop();
        drop(silent);
    }

    /// What was lost: a connection that cannot be accepted stays in the backlog, and the thread
    /// turned without a pause as long as descriptors were short.
    #[test]
    fn a_connection_that_cannot_be_accepted_is_tried_again_after_a_pause() {
        const PAUSE: Duration = Duration::from_millis(50);
        let times = Times {
            accept_pause_us: 50_000,
            ..TIMES
        };
        let (tried, tries) = mpsc::channel();
        let fixture = Fixture::new(times, 1, move |_| {
            let _ = tried.send(SystemClock.monotonic_us());
            Err(Errno::MFILE)
        });
        let peer = UnixStream::connect(&fixture.path).unwrap();
        let tries: Vec<u64> = tries.iter().take(4).collect();
        fixture.stop();
        for pair in tries.windows(2) {
            assert!(
                PAUSE <= Duration::from_micros(pair[1] - pair[0]),
                "{tries:?}"
            );
        }
        drop(peer);
    }

    #[test]
    fn only_a_peer_that_speaks_http_gets_a_head() {
        for (request, status) in [
            (&b""[..], None),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Some("200 OK")),
            (b"GET / HTTP/1.0\r\n\r\n", Some("200 OK")),
            (b"GET /other HTTP/1.0\r\n\r\n", Some("404 Not Found")),
            (
                b"POST /metrics HTTP/1.0\r\n\r\n",
                Some("405 Method Not Allowed"),
            ),
        ] {
            assert_eq!(head_of(request), status);
        }
    }
}
