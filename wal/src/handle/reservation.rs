//! Reserving room in the log before a commit takes its version.

use super::{LogHandle, Ordering, ProgressWaiter, Shared};
use crate::format::record;
use crate::room::Refusal;
use crate::sink::LogStatus;

/// Room in the log for one record, given back when dropped unused. Dropping it unused takes the
/// hand-off lock, so never do that while the same thread holds an [`super::Appender`].
#[must_use = "the room is given back when this is dropped"]
pub struct Reservation<'a, T> {
    shared: &'a Shared<T>,
    cost_bytes: u64,
    writeset_len_bytes_max: usize,
}

impl<T> Reservation<'_, T> {
    /// The longest writeset it covers, bytes.
    #[must_use]
    pub fn writeset_len_bytes_max(&self) -> usize {
        self.writeset_len_bytes_max
    }

    /// Passes the room on to the queue: from here on the log thread gives it back.
    pub(super) fn consume(self) -> u64 {
        let cost_bytes = self.cost_bytes;
        std::mem::forget(self);
        cost_bytes
    }

    pub(super) fn is_of(&self, shared: &Shared<T>) -> bool {
        std::ptr::eq(self.shared, shared)
    }
}

impl<T> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        self.shared.room.give_back(1, self.cost_bytes);
        if self.shared.room.has_refused() {
            // The log thread announces the room, so that the sink is called on its thread only.
            self.shared.poke_writer();
        }
    }
}

/// Why no room was reserved. Nothing was left behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The queue is full, too many Buffered records wait for a sync, or the next segment is being
    /// prepared. Try again after [`crate::Sink::space_freed`].
    #[error("log is busy")]
    Busy,
    /// The next segment could not be prepared, as a rule because the disk is full; see
    /// [`crate::spares::Spares::last_error`]. Trying again makes the background try again.
    #[error("no space for the log")]
    NoSpace,
    /// The record would exceed the cap.
    #[error("record of {len_bytes} bytes exceeds the cap of {len_bytes_max}")]
    TooLarge {
        /// Worst-case length of the record, bytes.
        len_bytes: u64,
        /// The cap, bytes.
        len_bytes_max: u64,
    },
    /// The log has failed; see [`LogHandle::status`].
    #[error("log is poisoned")]
    Poisoned,
    /// The log is closed.
    #[error("log is closed")]
    Closed,
}

impl<T> LogHandle<T> {
    /// Reserves room for one record whose plain writeset is at most `writeset_len_bytes` long.
    /// Never waits and takes no lock unless it is refused.
    ///
    /// # Errors
    /// See [`ReserveError`].
    pub fn reserve(&self, writeset_len_bytes: usize) -> Result<Reservation<'_, T>, ReserveError> {
        self.shared.reserve(writeset_len_bytes)
    }

    /// Like [`Self::reserve`], but waits on the calling thread while the log is busy.
    ///
    /// # Errors
    /// Every [`ReserveError`] except `Busy`.
    pub fn reserve_wait(
        &self,
        writeset_len_bytes: usize,
    ) -> Result<Reservation<'_, T>, ReserveError> {
        let first = self.shared.reserve(writeset_len_bytes);
        if !matches!(first, Err(ReserveError::Busy)) {
            return first;
        }
        let shared = &*self.shared;
        let _waiter = ProgressWaiter::enter(&shared.progress_waiting_count);
        let mut queue = shared.queue.lock();
        loop {
            match &queue.status {
                LogStatus::Open => {}
                LogStatus::Closed => return Err(ReserveError::Closed),
                LogStatus::Poisoned(_) => return Err(ReserveError::Poisoned),
            }
            match shared.try_reserve(writeset_len_bytes) {
                Err(ReserveError::Busy) => shared.wait_for_progress(&mut queue),
                other => return other,
            }
        }
    }
}

impl<T> Shared<T> {
    fn reserve(&self, writeset_len_bytes: usize) -> Result<Reservation<'_, T>, ReserveError> {
        let refused = match self.try_reserve(writeset_len_bytes) {
            Ok(reservation) => return Ok(reservation),
            Err(error) => error,
        };
        // Only a refusal pays for the lock; an admitted record meets the state in `appender`.
        match self.queue.lock().status {
            LogStatus::Open => Err(refused),
            LogStatus::Closed => Err(ReserveError::Closed),
            LogStatus::Poisoned(_) => Err(ReserveError::Poisoned),
        }
    }

    /// Takes no lock except that of the spares, and that only when there is no room.
    fn try_reserve(&self, writeset_len_bytes: usize) -> Result<Reservation<'_, T>, ReserveError> {
        let stored = self.codec.max_encoded_len(writeset_len_bytes) as u64;
        let len_bytes = stored.saturating_add(u64::from(record::RECORD_OVERHEAD_BYTES));
        let len_bytes_max = u64::from(self.config.record_len_bytes_max);
        if len_bytes_max < len_bytes {
            return Err(ReserveError::TooLarge {
                len_bytes,
                len_bytes_max,
            });
        }
        let cost_bytes = self.cost_bytes(stored);
        let pending = self.buffered_pending_count.load(Ordering::Relaxed);
        let pending_max =
            crate::limits::BUFFERED_BACKLOG_FACTOR * u64::from(self.config.buffered_sync_count);
        if pending_max <= pending {
            // Marks the refusal, so that the end of the next sync is announced.
            self.room.note_refusal();
            if pending_max <= self.buffered_pending_count.load(Ordering::SeqCst) {
                return Err(ReserveError::Busy);
            }
        }
        match self.room.take(cost_bytes) {
            Ok(()) => Ok(Reservation {
                shared: self,
                cost_bytes,
                writeset_len_bytes_max: writeset_len_bytes,
            }),
            // Closed or poisoned: the caller looks at the status.
            Err(Refusal::Ended) => Err(ReserveError::Closed),
            Err(Refusal::Queue) => Err(ReserveError::Busy),
            Err(Refusal::Space) if self.spares.ask(cost_bytes) => Err(ReserveError::NoSpace),
            Err(Refusal::Space) => Err(ReserveError::Busy),
        }
    }
}
