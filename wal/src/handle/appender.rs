//! The hand-off: assigning the version and appending are one short step under one lock.

use super::{Entry, LogHandle, MutexGuard, Ordering, Queue, Reservation, Shared};
use crate::sink::{LogStatus, Need};

/// A record to append.
#[derive(Debug)]
pub struct Append<T> {
    /// The commit version; higher than that of every earlier append.
    pub txn_id: u64,
    /// The run it belongs to.
    pub run_id: [u8; 16],
    /// Commit time, microseconds since the epoch.
    pub timestamp_us: u64,
    /// The plain writeset, at most as long as reserved. Recycled after it was encoded.
    pub writeset: Vec<u8>,
    /// What must be reached before the token comes back.
    pub need: Need,
    /// Comes back exactly once through the sink.
    pub token: T,
}

/// Holds the hand-off lock: keep it for the few steps from the version to the append, and make no
/// call that could block.
#[must_use = "the lock is released when this is dropped"]
pub struct Appender<'a, T> {
    shared: &'a Shared<T>,
    queue: MutexGuard<'a, Queue<T>>,
}

/// Why nothing can be appended. No version must be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log has failed; see [`LogHandle::status`].
    #[error("log is poisoned")]
    Poisoned,
    /// The log is closed.
    #[error("log is closed")]
    Closed,
}

impl<T> LogHandle<T> {
    /// Takes the hand-off lock. While the result lives the log cannot become closed or poisoned,
    /// so an append cannot fail.
    ///
    /// # Errors
    /// When the log takes no more records.
    pub fn appender(&self) -> Result<Appender<'_, T>, AppendError> {
        let queue = self.shared.queue.lock();
        match queue.status {
            LogStatus::Open => Ok(Appender {
                shared: &self.shared,
                queue,
            }),
            LogStatus::Closed => Err(AppendError::Closed),
            LogStatus::Poisoned(_) => Err(AppendError::Poisoned),
        }
    }
}

impl<T> Appender<'_, T> {
    /// The version of the last append, or the last one recovery found.
    #[must_use]
    pub fn last_txn_id(&self) -> u64 {
        self.queue.last_txn_id
    }

    /// Appends a record: allocates nothing, fails never.
    ///
    /// # Panics
    /// When the version does not rise, or the writeset is longer than was reserved.
    pub fn append(&mut self, reservation: Reservation<'_, T>, append: Append<T>) {
        assert!(
            self.queue.last_txn_id < append.txn_id,
            "commit versions rise"
        );
        assert!(
            reservation.is_of(self.shared),
            "a reservation belongs to one log"
        );
        assert!(
            append.writeset.len() <= reservation.writeset_len_bytes_max(),
            "a writeset fits its reservation"
        );
        assert!(
            self.queue.entries.len() < self.queue.entries.capacity(),
            "a reservation keeps a place in the queue"
        );
        self.queue.last_txn_id = append.txn_id;
        self.queue.appended_count += 1;
        if append.need != Need::Synced {
            // Relaxed: a limit that may be off by those in flight.
            self.shared
                .buffered_pending_count
                .fetch_add(1, Ordering::Relaxed);
        }
        self.queue.entries.push_back(Entry {
            txn_id: append.txn_id,
            run_id: append.run_id,
            timestamp_us: append.timestamp_us,
            writeset: append.writeset,
            need: append.need,
            token: append.token,
            cost_bytes: reservation.consume(),
        });
        self.shared.wake_for_append(&mut self.queue);
    }
}
