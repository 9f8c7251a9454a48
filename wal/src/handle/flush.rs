//! Explicit flush: wait for a sync that covers everything appended so far.

use super::{LogHandle, Ordering, ProgressWaiter};
use crate::lsn::Lsn;
use crate::sink::{LogStatus, PoisonCause};

/// A flush under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlushTicket {
    /// Records that a sync must cover.
    target_count: u64,
}

/// Why a flush did not happen. What was appended may or may not be durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlushError {
    /// The log has failed.
    #[error("log is poisoned")]
    Poisoned(#[source] PoisonCause),
}

impl<T> LogHandle<T> {
    /// Makes everything appended so far durable and returns the durable position.
    ///
    /// # Errors
    /// When the log failed first.
    pub fn flush(&self) -> Result<Lsn, FlushError> {
        self.flush_wait(self.flush_start())
    }

    /// Starts a flush of everything appended so far, and returns at once.
    #[must_use]
    pub fn flush_start(&self) -> FlushTicket {
        let mut queue = self.shared.queue.lock();
        let target_count = queue.appended_count;
        if self.shared.synced_count.load(Ordering::SeqCst) < target_count {
            queue.flush_target_count = queue.flush_target_count.max(target_count);
            self.shared.wake_writer(&mut queue);
        }
        FlushTicket { target_count }
    }

    /// True when the sync that `ticket` asked for has returned success.
    ///
    /// # Errors
    /// When the log failed first.
    pub fn flush_poll(&self, ticket: FlushTicket) -> Result<bool, FlushError> {
        if ticket.target_count <= self.shared.synced_count.load(Ordering::SeqCst) {
            return Ok(true);
        }
        match &self.shared.queue.lock().status {
            LogStatus::Poisoned(cause) => Err(FlushError::Poisoned(cause.clone())),
            LogStatus::Open | LogStatus::Closed => Ok(false),
        }
    }

    /// Waits on the calling thread for the sync that `ticket` asked for.
    ///
    /// # Errors
    /// When the log failed first.
    pub fn flush_wait(&self, ticket: FlushTicket) -> Result<Lsn, FlushError> {
        let shared = &*self.shared;
        let _waiter = ProgressWaiter::enter(&shared.progress_waiting_count);
        let mut queue = shared.queue.lock();
        loop {
            if ticket.target_count <= shared.synced_count.load(Ordering::SeqCst) {
                return Ok(self.durable_lsn());
            }
            // A closed log still writes and syncs what was appended, then is done or poisoned.
            if let LogStatus::Poisoned(cause) = &queue.status {
                return Err(FlushError::Poisoned(cause.clone()));
            }
            shared.wait_for_progress(&mut queue);
        }
    }
}
