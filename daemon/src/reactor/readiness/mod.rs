//! The reactor of readiness, for machines that refuse io_uring: epoll says which sockets are
//! ready, and calls that never block receive and send.
//!
//! Readiness comes once per change (edge-triggered), so a connection is registered once and costs
//! no call when it is paused. Connections with something to do stand in one queue; a turn visits
//! each of them at most once, for one receive and one send of bounded length, so none starves
//! another. Room to send is asked for only while a send waits for it: a peer that reads its
//! replies wakes nobody. With nothing to do the thread sleeps in epoll_wait.
//!
//! Events of a slot that is free by the time they are read are harmless: a slot is given away only
//! by an accept, and accepts happen only when no event is left.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use in_mem_ipc::FrameBuffer;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};

use super::{Event, Reactor, ReceiveEnd, Waker};

mod endpoint;

use endpoint::{Endpoint, Endpoints, Sending};

/// Readiness reported by one look at most; what is left is reported by the next.
const POLLED_COUNT_MAX: usize = 1024;

/// Connections accepted in one turn at most: fewer than may come before the server looks at its
/// limit again.
const TURN_ACCEPT_COUNT_MAX: u32 = 64;

/// Length of one receive, bytes: that of a buffer of the ring, so that a turn holds the thread as
/// long. A multiple of 16, so that a stream of padded frames stays aligned.
const RECEIVE_LEN_BYTES: usize = 16 << 10;

/// Largest length of one send, bytes; the rest follows in the next turn. More than a socket of
/// default size takes.
const SEND_LEN_BYTES_MAX: usize = 1 << 20;

const WAKE: Token = Token(0);
const WATCH: Token = Token(1);
const LISTENER: Token = Token(2);

/// The token of slot 0.
const FIRST_SLOT: usize = 3;

/// What is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Armed {
    Nothing,
    One,
    Many,
}

/// Bytes received for one connection, with the buffer they lie in.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled has to be made anew"]
pub(crate) struct Received {
    buffer: FrameBuffer,
    len_bytes: usize,
}

/// One reactor on epoll.
pub(crate) struct Readiness {
    poll: Poll,
    polled: mio::Events,
    endpoints: Endpoints,
    waker: Waker,
    /// A handle of our own on the listener, once it is known.
    listener: Option<OwnedFd>,
    armed: Armed,
    is_listener_ready: bool,
    /// The watched descriptor is registered.
    is_watching: bool,
    events: VecDeque<Event<Received>>,
    /// Connections with something to do, first come first.
    queue: VecDeque<u32>,
    /// How many of the queue this turn still visits.
    visit_count: usize,
    /// How many connections this turn still accepts.
    accept_count: u32,
    /// The receive buffer, while nobody reads it.
    spare: Option<FrameBuffer>,
}

impl Readiness {
    /// Builds the reactor of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no epoll or eventfd.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new()?;
        let descriptor = waker.descriptor().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&descriptor), WAKE, Interest::READABLE)?;
        Ok(Self {
            poll,
            polled: mio::Events::with_capacity(POLLED_COUNT_MAX),
            endpoints: Endpoints::default(),
            waker,
            listener: None,
            armed: Armed::Nothing,
            is_listener_ready: false,
            is_watching: false,
            events: VecDeque::new(),
            queue: VecDeque::new(),
            visit_count: 0,
            accept_count: 0,
            spare: None,
        })
    }

    /// Takes a handle on the listener, makes it non-blocking and registers it.
    fn register_listener(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(listener)?;
        rustix::fs::fcntl_setfl(listener, flags | OFlags::NONBLOCK)?;
        let own = listener.try_clone_to_owned()?;
        let descriptor = own.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&descriptor), LISTENER, Interest::READABLE)?;
        self.listener = Some(own);
        Ok(())
    }

    fn may_accept(&self) -> bool {
        self.armed != Armed::Nothing && self.is_listener_ready
    }

    fn end_accept(&mut self, error: Option<io::Error>) {
        self.armed = Armed::Nothing;
        self.events.push_back(Event::AcceptEnded { error });
    }

    fn accept_next(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let accepted = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
            .map_err(io::Error::from)
            .and_then(|descriptor| self.insert(descriptor));
        match accepted.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(slot) => {
                self.events.push_back(Event::Accepted { slot });
                if self.armed == Armed::One {
                    self.end_accept(None);
                }
            }
            Err((Some(Errno::AGAIN), _)) => self.is_listener_ready = false,
            // The peer has left the backlog, or a signal came: the next try tells.
            Err((Some(Errno::INTR | Errno::CONNABORTED), _)) => {}
            Err((_, error)) => self.end_accept(Some(error)),
        }
    }

    /// Registers a connection; it is closed if that fails.
    fn insert(&mut self, descriptor: OwnedFd) -> io::Result<u32> {
        let slot = self.endpoints.next_slot();
        let raw = descriptor.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&raw), token_of(slot), Interest::READABLE)?;
        self.endpoints.insert(Endpoint::new(descriptor));
        Ok(slot)
    }

    /// Puts a connection that has something to do into the queue, once.
    fn enqueue(&mut self, slot: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(slot)
            && endpoint.has_work()
            && !endpoint.is_queued
        {
            endpoint.is_queued = true;
            self.queue.push_back(slot);
        }
    }

    /// One send and one receive of a connection, as far as it wants them.
    fn visit(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        endpoint.is_queued = false;
        if endpoint.can_send() {
            self.send_next(slot);
        }
        if self.endpoints.get(slot).is_some_and(Endpoint::can_receive) {
            self.receive_next(slot);
        }
        self.enqueue(slot);
    }

    fn receive_next(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        let mut buffer = self.spare.take().unwrap_or_else(|| {
            let mut buffer = FrameBuffer::new();
            buffer.resize(RECEIVE_LEN_BYTES, 0);
            buffer
        });
        // No control buffer: descriptors passed by a peer are dropped by the kernel.
        let received = rustix::net::recv(
            &endpoint.descriptor,
            buffer.as_mut_slice(),
            RecvFlags::DONTWAIT,
        );
        let is_ended = match received {
            Ok((_, 0)) => true,
            Ok((_, len_bytes)) => {
                let received = Received { buffer, len_bytes };
                self.events.push_back(Event::Received { slot, received });
                return;
            }
            Err(Errno::AGAIN) => {
                endpoint.is_readable = false;
                false
            }
            Err(Errno::INTR) => false,
            Err(_) => true,
        };
        self.spare = Some(buffer);
        if is_ended {
            endpoint.is_receiving = false;
            let reason = ReceiveEnd::Disconnected;
            self.events.push_back(Event::ReceiveEnded { slot, reason });
        }
    }

    /// Gives the socket what it takes at once. A short count says that it is full.
    fn send_next(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        let Some(sending) = &mut endpoint.sending else {
            return;
        };
        let rest = sending.bytes.get(sending.sent_len_bytes..);
        let rest = rest.unwrap_or_default();
        let piece = rest.get(..SEND_LEN_BYTES_MAX).unwrap_or(rest);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let is_full = match rustix::net::send(&endpoint.descriptor, piece, flags) {
            Ok(count) => {
                let is_short = count < piece.len();
                sending.sent_len_bytes += count;
                if sending.sent_len_bytes == sending.bytes.len() {
                    return self.finish_send(slot, Ok(()));
                }
                is_short
            }
            Err(Errno::AGAIN) => true,
            Err(Errno::INTR) => false,
            Err(errno) => return self.finish_send(slot, Err(errno.into())),
        };
        if is_full && let Err(error) = self.wait_for_room(slot) {
            self.finish_send(slot, Err(error));
        }
    }

    /// Has the kernel say when there is room to send; at once if there is already.
    fn wait_for_room(&mut self, slot: u32) -> io::Result<()> {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return Ok(());
        };
        endpoint.is_writable = false;
        let raw = endpoint.descriptor.as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .reregister(&mut SourceFd(&raw), token_of(slot), both)
    }

    fn finish_send(&mut self, slot: u32, result: io::Result<()>) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        if let Some(Sending { bytes, .. }) = endpoint.sending.take() {
            self.events.push_back(Event::Sent {
                slot,
                bytes,
                result,
            });
        }
    }

    /// Notes what the last look reported.
    fn note_polled(&mut self) {
        let polled = std::mem::replace(&mut self.polled, mio::Events::with_capacity(0));
        for event in &polled {
            match event.token() {
                WAKE => {
                    // The counter is not read: a write reports again, and it never overflows.
                    self.waker.acknowledge();
                    self.events.push_back(Event::Woken);
                }
                WATCH => self.events.push_back(Event::Readable),
                LISTENER => self.is_listener_ready = true,
                Token(token) => self.note_connection(token, event),
            }
        }
        self.polled = polled;
    }

    fn note_connection(&mut self, token: usize, event: &mio::event::Event) {
        let Some(slot) = token
            .checked_sub(FIRST_SLOT)
            .and_then(|slot| u32::try_from(slot).ok())
        else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        // An end is found by the next call, in whichever direction that is. A peer that has only
        // shut down its sending half may still read: that is no room to send.
        let is_over = event.is_error() || event.is_write_closed();
        endpoint.is_readable |= event.is_readable() || event.is_read_closed() || is_over;
        if (event.is_writable() || is_over) && !endpoint.is_writable {
            endpoint.is_writable = true;
            let raw = endpoint.descriptor.as_raw_fd();
            // Fails for want of memory at worst: then a peer that reads wakes us for nothing.
            let _ = self.poll.registry().reregister(
                &mut SourceFd(&raw),
                token_of(slot),
                Interest::READABLE,
            );
        }
        self.enqueue(slot);
    }
}

impl Reactor for Readiness {
    type Received = Received;

    fn name(&self) -> &'static str {
        "readiness"
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn accept(&mut self, listener: BorrowedFd<'_>, is_multishot: bool) {
        if self.listener.is_none()
            && let Err(error) = self.register_listener(listener)
        {
            return self.end_accept(Some(error));
        }
        self.armed = if is_multishot {
            Armed::Many
        } else {
            Armed::One
        };
    }

    fn cancel_accept(&mut self) {
        if self.armed != Armed::Nothing {
            self.end_accept(None);
        }
    }

    fn watch(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let raw = descriptor.as_raw_fd();
        let registry = self.poll.registry();
        if self.is_watching {
            // Reports at once what came meanwhile.
            return registry.reregister(&mut SourceFd(&raw), WATCH, Interest::READABLE);
        }
        registry.register(&mut SourceFd(&raw), WATCH, Interest::READABLE)?;
        self.is_watching = true;
        Ok(())
    }

    #[cfg(test)]
    fn adopt(&mut self, descriptor: OwnedFd) -> u32 {
        self.insert(descriptor).expect("registers")
    }

    fn descriptor(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.endpoints
            .get(slot)
            .map(|endpoint| endpoint.descriptor.as_fd())
    }

    fn receive(&mut self, slot: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(slot)
            && !endpoint.is_receiving
        {
            endpoint.is_receiving = true;
            self.enqueue(slot);
        }
    }

    fn pause(&mut self, slot: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(slot)
            && endpoint.is_receiving
        {
            endpoint.is_receiving = false;
            let reason = ReceiveEnd::Paused;
            self.events.push_back(Event::ReceiveEnded { slot, reason });
        }
    }

    fn send(&mut self, slot: u32, bytes: FrameBuffer) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        assert!(
            endpoint.sending.is_none(),
            "one send per connection at a time"
        );
        let is_empty = bytes.is_empty();
        endpoint.sending = Some(Sending {
            bytes,
            sent_len_bytes: 0,
        });
        if is_empty {
            self.finish_send(slot, Ok(()));
        } else if endpoint.is_writable {
            self.send_next(slot);
            self.enqueue(slot);
        }
    }

    fn is_sending(&self, slot: u32) -> bool {
        self.endpoints
            .get(slot)
            .is_some_and(|endpoint| endpoint.sending.is_some())
    }

    fn close(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.remove(slot) else {
            return;
        };
        // Fails only when the peer is gone.
        let _ = rustix::net::shutdown(&endpoint.descriptor, Shutdown::Both);
        let raw = endpoint.descriptor.as_raw_fd();
        // Closing takes it out of epoll too, as long as nobody else has the socket.
        let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
        drop(endpoint);
        self.events.push_back(Event::Closed);
    }

    fn bytes<'r>(&'r self, received: &'r Received) -> &'r [u8] {
        let bytes = received.buffer.get(..received.len_bytes);
        bytes.unwrap_or_default()
    }

    fn recycle(&mut self, received: Received) {
        self.spare = Some(received.buffer);
    }

    fn turn(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        let is_idle = self.events.is_empty() && self.queue.is_empty() && !self.may_accept();
        let timeout = match is_idle {
            true => timeout_us.map(Duration::from_micros),
            false => Some(Duration::ZERO),
        };
        match self.poll.poll(&mut self.polled, timeout) {
            Ok(()) => self.note_polled(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.visit_count = self.queue.len();
        self.accept_count = TURN_ACCEPT_COUNT_MAX;
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event<Received>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.accept_count > 0 && self.may_accept() {
                self.accept_count -= 1;
                self.accept_next();
            } else if self.visit_count > 0 {
                self.visit_count -= 1;
                let slot = self.queue.pop_front()?;
                self.visit(slot);
            } else {
                return None;
            }
        }
    }
}

fn token_of(slot: u32) -> Token {
    Token(slot as usize + FIRST_SLOT)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::tests::{adopted, wait_for};
    use super::*;

    #[test]
    fn a_full_socket_is_read_once_before_the_next_one_has_its_turn() {
        let mut reactor = Readiness::new().unwrap();
        let (full, mut full_peer) = adopted(&mut reactor);
        let (quiet, mut quiet_peer) = adopted(&mut reactor);
        full_peer.set_nonblocking(true).unwrap();
        while full_peer.write(&[7; 4096]).is_ok() {}
        quiet_peer.write_all(&[1]).unwrap();
        reactor.receive(full);
        reactor.receive(quiet);
        let mut read_len_bytes = 0;
        wait_for(&mut reactor, |reactor, event| match event {
            Event::Received { slot, received } => {
                read_len_bytes += received.len_bytes;
                reactor.recycle(received);
                (slot == quiet).then_some(())
            }
            _ => None,
        });
        assert!(read_len_bytes <= RECEIVE_LEN_BYTES + 1, "{read_len_bytes}");
    }

    /// What was lost: the end of what the peer sends was taken for room to send, so the thread
    /// turned without a pause until the peer read its replies.
    #[test]
    fn a_peer_that_has_shut_down_its_sending_half_and_does_not_read_wakes_nobody() {
        let mut reactor = Readiness::new().unwrap();
        let (slot, mut peer) = adopted(&mut reactor);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut bytes = FrameBuffer::new();
        bytes.resize(8 << 20, 7);
        reactor.send(slot, bytes);
        let mut last_report = 0;
        for turn in 1..=100 {
            reactor.turn(Some(0)).unwrap();
            if !reactor.polled.is_empty() {
                last_report = turn;
            }
            assert!(reactor.next_event().is_none());
        }
        assert!(last_report < 10, "still woken in turn {last_report}");
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 8 << 20];
            peer.read_exact(&mut got).unwrap();
            peer
        });
        wait_for(&mut reactor, |_, event| match event {
            Event::Sent { result, .. } => Some(result.unwrap()),
            _ => None,
        });
        reactor.receive(slot);
        wait_for(&mut reactor, |_, event| {
            matches!(event, Event::ReceiveEnded { .. }).then_some(())
        });
        drop(reader.join().unwrap());
    }
}
