//! Giving up calls from another thread.
//!
//! A [`Canceller`] is handed to the builder of a client and kept by whoever may interrupt it: a
//! signal, a deadline, a closing window. Promises that a call under way ends at once with the
//! error `cancelled`, whose outcome says whether a write may have happened, and that calls made
//! from then on are refused with nothing sent until [`Canceller::reset`]. A call under way can be
//! given up only by ending its connection, so an open transaction of it is rolled back; a
//! connection that is at rest is left alone. It refuses to know what is asked.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Gives up the calls of one client. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Canceller {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when `is_cancelled` becomes true.
    cancelled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// The socket of the call under way. Its owner is the connection, which closes it.
    socket: Option<Weak<UnixStream>>,
}

impl Canceller {
    /// A canceller that has cancelled nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up the call under way and refuses those to come. Does not wait.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        let socket = state.socket.as_ref().and_then(Weak::upgrade);
        drop(state);
        self.shared.cancelled.notify_all();
        if let Some(socket) = socket {
            // A socket whose other end is gone needs no shutdown.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Lets calls be made again.
    pub fn reset(&self) {
        self.lock().is_cancelled = false;
    }

    /// Whether calls are refused.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    /// Names the socket of the call that begins; `None` if it may not begin.
    pub(crate) fn begin(&self, socket: &Arc<UnixStream>) -> Option<UnderWay<'_>> {
        let mut state = self.lock();
        if state.is_cancelled {
            return None;
        }
        state.socket = Some(Arc::downgrade(socket));
        Some(UnderWay { canceller: self })
    }

    /// Waits, unless cancelled or until then.
    pub(crate) fn pause(&self, time: Duration) {
        let state = self.lock();
        let waited = self
            .shared
            .cancelled
            .wait_timeout_while(state, time, |state| !state.is_cancelled);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// No field is ever half changed, so a panic elsewhere while it was locked changes nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; dropped when it is over.
pub(crate) struct UnderWay<'a> {
    canceller: &'a Canceller,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.canceller.lock().socket = None;
    }
}
