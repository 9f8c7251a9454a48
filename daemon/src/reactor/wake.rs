//! The way other threads interrupt a reactor's wait: one eventfd, written at most once between
//! two looks of the reactor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one reactor. Cheap to clone and to call from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    /// Set while a wake-up is on its way, so that a burst of completions costs one system call.
    is_signalled: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inner: Arc::new(Inner {
                descriptor,
                is_signalled: AtomicBool::new(false),
            }),
        })
    }

    /// Makes the reactor's current or next wait return. What the caller stored before this call
    /// is seen by the reactor when it looks.
    pub(crate) fn wake(&self) {
        // AcqRel; pairs with the swap in `acknowledge`: either the reactor has not looked yet and
        // will see what was stored before, or the flag was clear and the descriptor is written.
        if self.inner.is_signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        // An eventfd write of one fails only when the counter would overflow, which the flag
        // rules out; a signalled counter wakes just the same.
        let _ = rustix::io::write(&self.inner.descriptor, &1u64.to_le_bytes());
    }

    /// The reactor is about to look: later stores need a new wake-up.
    pub(super) fn acknowledge(&self) {
        // AcqRel; pairs with the swap in `wake`.
        self.inner.is_signalled.swap(false, Ordering::AcqRel);
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner.descriptor.as_fd()
    }
}
