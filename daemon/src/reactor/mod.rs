//! Moving bytes: connections in, received bytes up, replies down, behind one seam.
//!
//! [`Reactor`] is what the server asks for. [`Ring`] does it by completions of one io_uring;
//! [`Readiness`], where io_uring is refused, by non-blocking calls on the sockets epoll reports.
//! The server is compiled once for each, so nothing is dispatched at run time. Both promise the
//! same order of events, tested by the same tests. Knows nothing of frames, sessions or requests.
//! A reactor belongs to one thread; [`Waker`] is its only other door.
//!
//! This folder is the only place in the daemon with `unsafe`: in the ring, and for inherited
//! descriptors.

#![expect(
    unsafe_code,
    reason = "submissions carry raw pointers; see the invariants of the ring"
)]

use std::io;
use std::os::fd::BorrowedFd;
#[cfg(test)]
use std::os::fd::OwnedFd;

use in_mem_ipc::FrameBuffer;

mod event;
mod inherited;
mod readiness;
mod ring;
mod wake;

#[cfg(test)]
mod tests;

pub(crate) use event::{Event, ReceiveEnd};
pub(crate) use inherited::{take as take_inherited, write_and_close};
pub(crate) use readiness::Readiness;
pub(crate) use ring::{Ring, SetupError};
pub(crate) use wake::Waker;

/// The connections of one thread: commands here, events back, in turns.
///
/// A slot names a connection from [`Event::Accepted`] to [`Event::Closed`]. Commands on a slot
/// that is free do nothing.
pub(crate) trait Reactor {
    /// A claim on received bytes, given back by [`Reactor::recycle`].
    type Received;

    /// How it works, in one word for logs and answers.
    fn name(&self) -> &'static str;

    /// Interrupts the wait of [`Reactor::turn`] from any thread.
    #[must_use]
    fn waker(&self) -> Waker;

    /// Arms an accept: one that goes on until cancelled or refused, or one for a single
    /// connection. There is one listener, which must stay open until [`Event::AcceptEnded`]; its
    /// mode (blocking or not) is set as this reactor needs it.
    fn accept(&mut self, listener: BorrowedFd<'_>, is_multishot: bool);

    /// Asks for the end of the armed accept; [`Event::AcceptEnded`] follows.
    fn cancel_accept(&mut self);

    /// Reports once, by [`Event::Readable`], that the one watched descriptor became readable. It
    /// must stay open as long as the reactor.
    ///
    /// # Errors
    /// When the kernel cannot watch it.
    fn watch(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()>;

    /// Takes over a connection that was made elsewhere.
    #[cfg(test)]
    fn adopt(&mut self, descriptor: OwnedFd) -> u32;

    /// The descriptor of a connection.
    #[must_use]
    fn descriptor(&self, slot: u32) -> Option<BorrowedFd<'_>>;

    /// Starts receiving for a connection, unless it already does or is closing.
    fn receive(&mut self, slot: u32);

    /// Asks for the end of the receive; [`Event::ReceiveEnded`] follows. Bytes may still arrive
    /// before it.
    fn pause(&mut self, slot: u32);

    /// Sends all bytes; [`Event::Sent`] gives the buffer back. One send per connection at a time.
    fn send(&mut self, slot: u32, bytes: FrameBuffer);

    /// Whether a send of this connection is in flight.
    #[must_use]
    fn is_sending(&self, slot: u32) -> bool;

    /// Shuts a connection down in both directions; [`Event::Closed`] follows once the kernel holds
    /// nothing of it. Bytes whose send has not completed may be lost.
    fn close(&mut self, slot: u32);

    /// The bytes of a received buffer; 16-byte aligned.
    #[must_use]
    fn bytes<'r>(&'r self, received: &'r Self::Received) -> &'r [u8];

    /// Gives a received buffer back.
    fn recycle(&mut self, received: Self::Received);

    /// Begins what was asked for and waits until something happens, at most `timeout_us`. Returns
    /// at once while events are left.
    ///
    /// # Errors
    /// Only those that make the reactor useless; interruptions and full queues are handled.
    fn turn(&mut self, timeout_us: Option<u64>) -> io::Result<()>;

    /// The next thing that happened, if any is left of this turn.
    fn next_event(&mut self) -> Option<Event<Self::Received>>;
}
