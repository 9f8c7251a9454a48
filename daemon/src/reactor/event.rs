//! What a turn of a reactor reports, in the terms of connections.

use std::io;

use in_mem_ipc::FrameBuffer;

#[cfg(doc)]
use super::{Reactor, Waker};

/// Something that happened since the last turn.
#[derive(Debug)]
pub(crate) enum Event<Received> {
    /// A connection was accepted and got this slot.
    Accepted {
        /// Names the connection until [`Event::Closed`].
        slot: u32,
    },
    /// No accept is armed any longer; an error says why, none means it was cancelled or done.
    AcceptEnded {
        /// For example `EMFILE`.
        error: Option<io::Error>,
    },
    /// Bytes arrived. Must be given back with [`Reactor::recycle`].
    Received {
        /// The connection.
        slot: u32,
        /// The bytes, read through [`Reactor::bytes`].
        received: Received,
    },
    /// No receive is armed any longer.
    ReceiveEnded {
        /// The connection.
        slot: u32,
        /// Why.
        reason: ReceiveEnd,
    },
    /// All bytes of a send were taken by the peer's socket, or it failed.
    Sent {
        /// The connection.
        slot: u32,
        /// The buffer, for reuse.
        bytes: FrameBuffer,
        /// An error means the connection is lost.
        result: io::Result<()>,
    },
    /// A slot is free: no operation names it any longer and its descriptor is closed.
    Closed,
    /// Another thread called [`Waker::wake`].
    Woken,
    /// The watched descriptor became readable.
    Readable,
}

/// Why a receive ended.
#[derive(Debug)]
pub(crate) enum ReceiveEnd {
    /// The peer closed its side, or the connection is lost.
    Disconnected,
    /// It was paused.
    Paused,
    /// The kernel ended it for a reason that asks for arming it again (no buffer was free).
    Again,
}
