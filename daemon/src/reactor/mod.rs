//! The reactor's ring: every system call a connection needs, as completions of one io_uring.
//!
//! Owns the ring, the provided receive buffers, the descriptors of all connections and every
//! buffer the kernel may touch. Promises that a buffer or descriptor given to the kernel stays
//! alive until its completion is reaped, also when the ring is dropped (operations are cancelled
//! and reaped first; what cannot be reaped is leaked, never freed). Knows nothing of frames,
//! sessions or requests. One ring belongs to one thread; [`Waker`] is its only other door.
//!
//! This folder is the only place in the daemon with `unsafe`.

#![expect(
    unsafe_code,
    reason = "submissions carry raw pointers; see the invariants above"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use in_mem_ipc::FrameBuffer;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::net::Shutdown;

mod endpoint;
mod event;
mod inherited;
mod mapping;
mod receive_buffers;
mod setup;
mod wake;

#[cfg(test)]
mod tests;

pub(crate) use event::{Event, ReceiveEnd};
pub(crate) use inherited::{take as take_inherited, write_and_close};
pub(crate) use receive_buffers::Received;
pub(crate) use setup::{RingStep, SetupError};
pub(crate) use wake::Waker;

use endpoint::{Endpoint, Endpoints, Sending};
use receive_buffers::{BUFFER_GROUP, ReceiveBuffers};

/// Largest length of one send operation, bytes; the rest follows in the next.
const SEND_LEN_BYTES_MAX: usize = 16 << 20;

/// How long dropping the ring waits for cancelled operations before it leaks their buffers.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// What an operation was, carried in its user data above the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpKind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    CancelReceive = 4,
    Wake = 5,
    Watch = 6,
    CancelAccept = 7,
}

impl OpKind {
    const SHIFT: u32 = 32;

    fn tag(self, slot: u32) -> u64 {
        ((self as u64) << Self::SHIFT) | u64::from(slot)
    }

    fn of(user_data: u64) -> Option<Self> {
        [
            Self::Accept,
            Self::Receive,
            Self::Send,
            Self::CancelReceive,
            Self::Wake,
            Self::Watch,
            Self::CancelAccept,
        ]
        .into_iter()
        .find(|kind| *kind as u64 == user_data >> Self::SHIFT)
    }
}

/// One reactor's io_uring. Not `Send`: the kernel ties it to the thread that made it.
pub(crate) struct Ring {
    uring: IoUring,
    buffers: ReceiveBuffers,
    endpoints: Endpoints,
    waker: Waker,
    /// What a read of the eventfd writes to. Boxed: it must not move while the read is in flight.
    wake_count: Box<u64>,
    completions: VecDeque<cqueue::Entry>,
    /// Follow-up events of a completion that yields more than one.
    events: VecDeque<Event>,
    /// Operations the kernel holds, multishot ones counted once.
    in_flight_count: usize,
    step: RingStep,
    is_restricted: bool,
    _thread_bound: std::marker::PhantomData<*const ()>,
}

impl Ring {
    /// Builds the ring of the calling thread and arms its wake-up.
    ///
    /// # Errors
    /// [`SetupError`], whose text says what to change.
    pub(crate) fn new() -> Result<Self, SetupError> {
        let (uring, step) = setup::build()?;
        let buffers =
            ReceiveBuffers::register(&uring.submitter()).map_err(|source| SetupError {
                call: "io_uring_register",
                source,
            })?;
        let is_restricted = setup::enable(&uring)?;
        let waker = Waker::new().map_err(|source| SetupError {
            call: "eventfd",
            source,
        })?;
        let mut ring = Self {
            uring,
            buffers,
            endpoints: Endpoints::default(),
            waker,
            wake_count: Box::new(0),
            completions: VecDeque::new(),
            events: VecDeque::new(),
            in_flight_count: 0,
            step,
            is_restricted,
            _thread_bound: std::marker::PhantomData,
        };
        ring.arm_wake();
        Ok(ring)
    }

    /// Which flags the kernel took.
    #[must_use]
    pub(crate) fn step(&self) -> RingStep {
        self.step
    }

    /// Whether the ring refuses operations the reactor does not use.
    #[must_use]
    pub(crate) fn is_restricted(&self) -> bool {
        self.is_restricted
    }

    /// Interrupts the wait of [`Ring::turn`] from any thread.
    #[must_use]
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Arms an accept: one that goes on until cancelled or refused, or one for a single
    /// connection. The listener must stay open until [`Event::AcceptEnded`].
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, is_multishot: bool) {
        let fd = Fd(listener.as_raw_fd());
        let flags = libc::SOCK_CLOEXEC;
        let entry = if is_multishot {
            opcode::AcceptMulti::new(fd).flags(flags).build()
        } else {
            let no_address = std::ptr::null_mut();
            opcode::Accept::new(fd, no_address, no_address.cast())
                .flags(flags)
                .build()
        };
        self.push(entry.user_data(OpKind::Accept.tag(0)));
    }

    /// Asks for the end of the armed accept; [`Event::AcceptEnded`] follows.
    pub(crate) fn cancel_accept(&mut self) {
        let entry = opcode::AsyncCancel::new(OpKind::Accept.tag(0)).build();
        self.push(entry.user_data(OpKind::CancelAccept.tag(0)));
    }

    /// Reports once, by [`Event::Readable`], that a descriptor became readable. It must stay open
    /// until then.
    pub(crate) fn watch(&mut self, descriptor: BorrowedFd<'_>) {
        let mask = u32::from(libc::POLLIN.unsigned_abs());
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), mask).build();
        self.push(entry.user_data(OpKind::Watch.tag(0)));
    }

    /// Takes over a connection that was made elsewhere.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, descriptor: OwnedFd) -> u32 {
        self.endpoints.insert(Endpoint::new(descriptor))
    }

    /// The descriptor of a connection.
    #[must_use]
    pub(crate) fn descriptor(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.endpoints
            .get(slot)
            .map(|endpoint| endpoint.descriptor.as_fd())
    }

    /// Starts receiving for a connection, unless it already does or is closing.
    pub(crate) fn receive(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        if endpoint.is_receiving || endpoint.is_closing {
            return;
        }
        endpoint.is_receiving = true;
        let fd = Fd(endpoint.descriptor.as_raw_fd());
        // No control buffer: descriptors passed by a peer are dropped by the kernel.
        let entry = opcode::RecvMulti::new(fd, BUFFER_GROUP).build();
        self.push(entry.user_data(OpKind::Receive.tag(slot)));
    }

    /// Asks for the end of the receive; [`Event::ReceiveEnded`] follows. Bytes may still arrive
    /// before it.
    pub(crate) fn pause(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        if !endpoint.is_receiving || endpoint.is_cancelling || endpoint.is_closing {
            return;
        }
        endpoint.is_cancelling = true;
        let entry = opcode::AsyncCancel::new(OpKind::Receive.tag(slot)).build();
        self.push(entry.user_data(OpKind::CancelReceive.tag(slot)));
    }

    /// Sends all bytes; [`Event::Sent`] gives the buffer back. One send per connection at a time.
    pub(crate) fn send(&mut self, slot: u32, bytes: FrameBuffer) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        assert!(
            endpoint.sending.is_none(),
            "one send per connection at a time"
        );
        if bytes.is_empty() || endpoint.is_closing {
            let result = Err(io::Error::from(io::ErrorKind::NotConnected));
            let result = if bytes.is_empty() { Ok(()) } else { result };
            self.events.push_back(Event::Sent {
                slot,
                bytes,
                result,
            });
            return;
        }
        endpoint.sending = Some(Sending {
            bytes,
            sent_len_bytes: 0,
        });
        self.submit_send(slot);
    }

    /// Whether a send of this connection is in flight.
    #[must_use]
    pub(crate) fn is_sending(&self, slot: u32) -> bool {
        self.endpoints
            .get(slot)
            .is_some_and(|endpoint| endpoint.sending.is_some())
    }

    /// Shuts a connection down in both directions; [`Event::Closed`] follows once the kernel holds
    /// nothing of it. Bytes whose send has not completed may be lost.
    pub(crate) fn close(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        if endpoint.is_closing {
            return;
        }
        endpoint.is_closing = true;
        // Ends the receive and the send in flight, if any. Fails only when the peer is gone.
        let _ = rustix::net::shutdown(&endpoint.descriptor, Shutdown::Both);
        self.free_when_quiet(slot);
    }

    /// The bytes of a received buffer; 16-byte aligned.
    #[must_use]
    pub(crate) fn bytes(&self, received: &Received) -> &[u8] {
        self.buffers.bytes(received)
    }

    /// Gives a received buffer back to the kernel.
    pub(crate) fn recycle(&mut self, received: Received) {
        self.buffers.recycle(received);
    }

    /// Gives the kernel everything queued and waits for at least one completion, at most
    /// `timeout_us`. Returns at once while events are left.
    ///
    /// # Errors
    /// Only those that make the ring useless; interruptions and a full queue are handled.
    pub(crate) fn turn(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
        let is_idle = self.completions.is_empty() && self.events.is_empty();
        let want = usize::from(is_idle);
        let submitter = self.uring.submitter();
        let result = match timeout_us {
            Some(timeout_us) if is_idle => {
                let wait = Timespec::from(Duration::from_micros(timeout_us));
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&wait))
            }
            _ => submitter.submit_and_wait(want),
        };
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => {}
            // A signal, a deadline, or a completion queue to be emptied first.
            Err((
                Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY | libc::ENOMEM),
                _,
            )) => {}
            Err((_, error)) => return Err(error),
        }
        self.completions.extend(self.uring.completion());
        Ok(())
    }

    /// The next thing that happened, if any is left of this turn.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let completion = self.completions.pop_front()?;
            if !cqueue::more(completion.flags()) {
                self.in_flight_count = self.in_flight_count.saturating_sub(1);
            }
            let slot = u32::try_from(completion.user_data() & u64::from(u32::MAX)).unwrap_or(0);
            match OpKind::of(completion.user_data()) {
                Some(OpKind::Accept) => self.on_accept(&completion),
                Some(OpKind::Receive) => self.on_receive(slot, &completion),
                Some(OpKind::Send) => self.on_send(slot, completion.result()),
                Some(OpKind::CancelReceive) => self.on_cancelled(slot),
                Some(OpKind::Wake) => {
                    self.waker.acknowledge();
                    self.arm_wake();
                    self.events.push_back(Event::Woken);
                }
                Some(OpKind::Watch) => self.events.push_back(Event::Readable),
                Some(OpKind::CancelAccept) | None => {}
            }
        }
    }

    fn on_accept(&mut self, completion: &cqueue::Entry) {
        if let Some(descriptor) = descriptor_of(completion.result()) {
            let slot = self.endpoints.insert(Endpoint::new(descriptor));
            self.events.push_back(Event::Accepted { slot });
        }
        if !cqueue::more(completion.flags()) {
            let error = match completion.result() {
                0.. => None,
                negative if -negative == libc::ECANCELED => None,
                negative => Some(io::Error::from_raw_os_error(-negative)),
            };
            self.events.push_back(Event::AcceptEnded { error });
        }
    }

    fn on_receive(&mut self, slot: u32, completion: &cqueue::Entry) {
        let result = completion.result();
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let received = self
                .buffers
                .take(buffer, u32::try_from(result).unwrap_or(0));
            let is_open = self
                .endpoints
                .get(slot)
                .is_some_and(|endpoint| !endpoint.is_closing);
            if result > 0 && is_open {
                self.events.push_back(Event::Received { slot, received });
            } else {
                self.recycle(received);
            }
        }
        if cqueue::more(completion.flags()) {
            return;
        }
        let reason = match result {
            // Bytes without more to come: the kernel wants the receive armed anew.
            1.. => ReceiveEnd::Again,
            0 => ReceiveEnd::Disconnected,
            error => match -error {
                libc::ENOBUFS | libc::EINTR | libc::EAGAIN => ReceiveEnd::Again,
                libc::ECANCELED => ReceiveEnd::Paused,
                _ => ReceiveEnd::Disconnected,
            },
        };
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        endpoint.is_receiving = false;
        if endpoint.is_closing {
            self.free_when_quiet(slot);
        } else {
            self.events.push_back(Event::ReceiveEnded { slot, reason });
        }
    }

    fn on_send(&mut self, slot: u32, result: i32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        let Some(mut sending) = endpoint.sending.take() else {
            return;
        };
        let outcome = match usize::try_from(result) {
            Ok(count) => {
                sending.sent_len_bytes += count;
                if sending.sent_len_bytes < sending.bytes.len() && !endpoint.is_closing {
                    endpoint.sending = Some(sending);
                    return self.submit_send(slot);
                }
                Ok(())
            }
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) && !endpoint.is_closing => {
                endpoint.sending = Some(sending);
                return self.submit_send(slot);
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        if endpoint.is_closing {
            self.free_when_quiet(slot);
        } else {
            self.events.push_back(Event::Sent {
                slot,
                bytes: sending.bytes,
                result: outcome,
            });
        }
    }

    fn on_cancelled(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        endpoint.is_cancelling = false;
        if endpoint.is_closing {
            self.free_when_quiet(slot);
        }
    }

    fn free_when_quiet(&mut self, slot: u32) {
        if self.endpoints.get(slot).is_some_and(Endpoint::is_quiet) {
            self.endpoints.remove(slot);
            self.events.push_back(Event::Closed);
        }
    }

    fn submit_send(&mut self, slot: u32) {
        let Some(endpoint) = self.endpoints.get(slot) else {
            return;
        };
        let Some(sending) = &endpoint.sending else {
            return;
        };
        let rest = sending
            .bytes
            .get(sending.sent_len_bytes..)
            .unwrap_or_default();
        let len_bytes = u32::try_from(rest.len().min(SEND_LEN_BYTES_MAX)).unwrap_or(0);
        let entry = opcode::Send::new(
            Fd(endpoint.descriptor.as_raw_fd()),
            rest.as_ptr(),
            len_bytes,
        )
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build();
        self.push(entry.user_data(OpKind::Send.tag(slot)));
    }

    fn arm_wake(&mut self) {
        let fd = Fd(self.waker.descriptor().as_raw_fd());
        let target = std::ptr::from_mut::<u64>(&mut *self.wake_count).cast::<u8>();
        let entry = opcode::Read::new(fd, target, 8).build();
        self.push(entry.user_data(OpKind::Wake.tag(0)));
    }

    /// Queues one entry, handing the queue to the kernel when it is full.
    fn push(&mut self, entry: squeue::Entry) {
        self.in_flight_count += 1;
        loop {
            // SAFETY: every pointer in an entry is either into a send buffer owned by its endpoint
            // or the boxed wake counter; both stay until the completion is reaped (see `Drop`).
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full. A refusal for lack of completion space empties that first; the
            // kernel's own overflow list keeps what does not fit.
            if self.uring.submit().is_err() {
                self.completions.extend(self.uring.completion());
            }
        }
    }

    /// Reaps until the kernel holds nothing, or gives up after [`CANCEL_WAIT`].
    fn drain(&mut self) -> bool {
        let wait = Timespec::from(CANCEL_WAIT);
        let _ = self.uring.submit();
        let cancel = CancelBuilder::any();
        let _ = self
            .uring
            .submitter()
            .register_sync_cancel(Some(wait), cancel);
        loop {
            self.completions.extend(self.uring.completion());
            for completion in self.completions.drain(..) {
                if !cqueue::more(completion.flags()) {
                    self.in_flight_count = self.in_flight_count.saturating_sub(1);
                }
                if OpKind::of(completion.user_data()) == Some(OpKind::Accept) {
                    drop(descriptor_of(completion.result()));
                }
            }
            if self.in_flight_count == 0 {
                return true;
            }
            let args = SubmitArgs::new().timespec(&wait);
            if self.uring.submitter().submit_with_args(1, &args).is_err() {
                return false;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.drain() {
            // The kernel may still write here: leaking is the only safe end.
            std::mem::forget(self.endpoints.take_sends());
            std::mem::forget(std::mem::take(&mut self.wake_count));
            self.buffers.leak();
        }
    }
}

/// The descriptor an accept returned.
fn descriptor_of(result: RawFd) -> Option<OwnedFd> {
    // SAFETY: a non-negative result of an accept is a descriptor the kernel just made for us; each
    // completion is looked at once.
    (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) })
}
