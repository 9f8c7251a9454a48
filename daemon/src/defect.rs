//! Where the tests have a request panic: nothing outside them.

#[cfg(test)]
use std::sync::atomic::{AtomicU8, Ordering};

/// A place where a request can strike a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// In a handler, before anything was committed.
    InHandler = 1,
    /// In a handler, when its commit has been handed over.
    AfterSubmit,
    /// On a worker, outside every handler.
    OnWorker,
    /// On a worker, while a request is translated.
    InTranslation,
}

/// The place of the next defect.
#[derive(Debug, Default)]
pub(crate) struct Defects {
    #[cfg(test)]
    next: AtomicU8,
}

impl Defects {
    /// Has the next request that comes to a place panic there, once.
    #[cfg(test)]
    pub(crate) fn plant(&self, defect: Defect) {
        self.next.store(defect as u8, Ordering::SeqCst);
    }

    /// A request has come to a place.
    #[cfg(test)]
    pub(crate) fn strike(&self, defect: Defect) {
        let planted =
            self.next
                .compare_exchange(defect as u8, 0, Ordering::SeqCst, Ordering::SeqCst);
        assert!(planted.is_err(), "a planted defect: {defect:?}");
    }

    /// A request has come to a place: nothing is planted outside the tests.
    #[cfg(not(test))]
    #[inline]
    pub(crate) const fn strike(&self, _defect: Defect) {}
}
