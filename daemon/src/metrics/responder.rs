//! A second socket that gives the metrics to whoever connects: for scrapers that may not use the
//! store.
//!
//! One thread, one peer at a time, bounded waits, nothing shared with the reactor but the numbers.
//! A peer that sends `GET` gets an HTTP/1.0 answer, as Prometheus and curl expect; one that sends
//! nothing gets the bare text. The file's mode and group decide who may connect.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};

use super::report::render;
use crate::config::Observe;
use crate::socket::{Listener, SocketError};
use crate::store::Store;

/// How long a peer may take to send its request before it gets the bare text.
const REQUEST_WAIT: Duration = Duration::from_millis(250);

/// How long a peer may take to read the answer.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Most of a request that is looked at, bytes.
const REQUEST_LEN_BYTES_MAX: usize = 8 << 10;

/// The responder. Ends when dropped, at most one answer later.
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
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(io::Error::from)?);
        let (store, stopped) = (Arc::clone(store), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("inmem-metrics".to_owned())
            .spawn(move || serve(&listener, &stopped, &store))?;
        tracing::info!(target: "ipc", path = %path.display(), "metrics socket");
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // The counter of an eventfd takes a 1; whatever fails here, the thread ends with us.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_le_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &Listener, stop: &OwnedFd, store: &Store) {
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(listener.descriptor(), PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(target: "ipc", %error, "the metrics socket is not served any more");
                return;
            }
        }
        if ready.last().is_some_and(|stop| !stop.revents().is_empty()) {
            return;
        }
        if ready.first().is_none_or(|peer| peer.revents().is_empty()) {
            continue;
        }
        match accept_with(listener.descriptor().as_fd(), SocketFlags::CLOEXEC) {
            Ok(peer) => {
                if let Err(error) = answer(&mut UnixStream::from(peer), store) {
                    tracing::debug!(target: "ipc", %error, "a reader of metrics was lost");
                }
            }
            Err(error) => tracing::debug!(target: "ipc", %error, "no reader of metrics"),
        }
    }
}

/// Gives one peer what it asked for.
fn answer(peer: &mut UnixStream, store: &Store) -> io::Result<()> {
    peer.set_read_timeout(Some(REQUEST_WAIT))?;
    peer.set_write_timeout(Some(ANSWER_WAIT))?;
    let request = read_request(peer)?;
    let text = match head_of(&request) {
        Some("200 OK") | None => render(store),
        Some(_) => String::new(),
    };
    if let Some(status) = head_of(&request) {
        let head = format!(
            "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        peer.write_all(head.as_bytes())?;
    }
    peer.write_all(text.as_bytes())
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

/// What a peer sends up to the end of an HTTP head; nothing of one that keeps quiet.
fn read_request(peer: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while request.len() < REQUEST_LEN_BYTES_MAX && !request.ends_with(b"\r\n\r\n") {
        match peer.read(&mut part) {
            Ok(0) => break,
            Ok(count) => request.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

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
