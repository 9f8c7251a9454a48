//! What other threads hand to the reactor: a list behind a short lock, and one wake-up.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::reactor::Waker;

/// A list other threads append to and the reactor takes as a whole.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    items: Mutex<Vec<T>>,
    /// Whether `items` holds something; lets the reactor look without the lock.
    has_items: AtomicBool,
    waker: Waker,
}

impl<T> Inbox<T> {
    /// An empty inbox of the reactor that `waker` wakes.
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            items: Mutex::new(Vec::new()),
            has_items: AtomicBool::new(false),
            waker,
        }
    }

    /// Appends without waking: more will follow before [`Inbox::wake`].
    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock();
        items.push(item);
        // Release; pairs with the Acquire swap in `take`.
        self.has_items.store(true, Ordering::Release);
    }

    /// Whether something waits to be taken.
    pub(crate) fn has_items(&self) -> bool {
        // Acquire; pairs with the store in `push`.
        self.has_items.load(Ordering::Acquire)
    }

    /// Wakes the reactor.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Moves everything into `into`, which must be empty; its capacity is used for what comes next.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        // Acquire; pairs with the store in `push`. An item pushed after the swap sets it again.
        if self.has_items.swap(false, Ordering::AcqRel) {
            std::mem::swap(&mut *self.items.lock(), into);
        }
    }
}
