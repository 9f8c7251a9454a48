//! The reactor of completions: every system call a connection needs goes through one io_uring.
//!
//! Owns the ring, the provided receive buffers, the descriptors of all connections and every
//! buffer the kernel may touch. Promises that a buffer or descriptor given to the kernel stays
//! alive until its completion is reaped, also when the ring is dropped (operations are cancelled
//! and reaped first; what cannot be reaped is leaked, never freed).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use in_mem_ipc::FrameBuffer;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::fs::OFlags;
use rustix::net::Shutdown;

use super::{Event, Reactor, ReceiveEnd, Waker};

mod endpoint;
mod mapping;
mod receive_buffers;
mod refusal;
mod setup;
#[cfg(test)]
mod tests;

pub(crate) use receive_buffers::Received;
pub(crate) use refusal::SetupError;
pub(crate) use setup::RingStep;

use endpoint::{Endpoint, Endpoints, Sending};
use receive_buffers::{BUFFER_GROUP, ReceiveBuffers};
use setup::QueueSizes;

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
    events: VecDeque<Event<Received>>,
    /// Operations the kernel holds, multishot ones counted once.
    in_flight_count: usize,
    step: RingStep,
    is_restricted: bool,
    /// The listener was made to block, so that no kernel answers EAGAIN instead of waiting.
    is_listener_blocking: bool,
    _thread_bound: std::marker::PhantomData<*const ()>,
}

impl Ring {
    /// Builds the ring of the calling thread, arms its wake-up and enters it once, so that every
    /// call it needs is known to be allowed.
    ///
    /// # Errors
    /// [`SetupError`], whose text says what to change.
    pub(crate) fn new() -> Result<Self, SetupError> {
        Self::with_queues(QueueSizes::DEFAULT)
    }

    fn with_queues(sizes: QueueSizes) -> Result<Self, SetupError> {
        let failed = |call| move |source| SetupError { call, source };
        let (uring, step) = setup::build(sizes)?;
        let buffers =
            ReceiveBuffers::register(&uring.submitter()).map_err(failed("io_uring_register"))?;
        let is_restricted = setup::enable(&uring)?;
        let waker = Waker::new().map_err(failed("eventfd"))?;
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
            is_listener_blocking: false,
            _thread_bound: std::marker::PhantomData,
        };
        ring.arm_wake();
        match ring
            .uring
            .submit()
            .map_err(|error| (error.raw_os_error(), error))
        {
            // What was interrupted is submitted by the first turn.
            Ok(_) | Err((Some(libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(ring),
            Err((_, error)) => Err(failed("io_uring_enter")(error)),
        }
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
}

impl Reactor for Ring {
    type Received = Received;

    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn accept(&mut self, listener: BorrowedFd<'_>, is_multishot: bool) {
        if !self.is_listener_blocking {
            // A socket passed by a service manager may come from a reactor of the other kind.
            if let Ok(flags) = rustix::fs::fcntl_getfl(listener) {
                let _ = rustix::fs::fcntl_setfl(listener, flags - OFlags::NONBLOCK);
            }
            self.is_listener_blocking = true;
        }
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

    fn cancel_accept(&mut self) {
        let entry = opcode::AsyncCancel::new(OpKind::Accept.tag(0)).build();
        self.push(entry.user_data(OpKind::CancelAccept.tag(0)));
    }

    fn watch(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mask = u32::from(libc::POLLIN.unsigned_abs());
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), mask).build();
        self.push(entry.user_data(OpKind::Watch.tag(0)));
        Ok(())
    }

    #[cfg(test)]
    fn adopt(&mut self, descriptor: OwnedFd) -> u32 {
        self.endpoints.insert(Endpoint::new(descriptor))
    }

    fn descriptor(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        self.endpoints
            .get(slot)
            .map(|endpoint| endpoint.descriptor.as_fd())
    }

    fn receive(&mut self, slot: u32) {
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

    fn pause(&mut self, slot: u32) {
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

    fn send(&mut self, slot: u32, bytes: FrameBuffer) {
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

    fn is_sending(&self, slot: u32) -> bool {
        self.endpoints
            .get(slot)
            .is_some_and(|endpoint| endpoint.sending.is_some())
    }

    fn close(&mut self, slot: u32) {
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

    fn bytes<'r>(&'r self, received: &'r Received) -> &'r [u8] {
        self.buffers.bytes(received)
    }

    fn recycle(&mut self, received: Received) {
        self.buffers.recycle(received);
    }

    fn turn(&mut self, timeout_us: Option<u64>) -> io::Result<()> {
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

    fn next_event(&mut self) -> Option<Event<Received>> {
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
}

impl Ring {
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
