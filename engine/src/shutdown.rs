//! Closing a database: admission first, then what is in flight, then the log, then the lock.
//!
//! A commit is in flight once it is in its run's critical section, where it checks the flag again:
//! passing through every section after the flag is set therefore waits for all that were admitted,
//! and sees that no other will be. Open transactions are not waited for.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::database::{Database, DatabaseInner};
use crate::errors::ShutdownError;
use crate::log_state::Log;

/// How often a shutdown looks whether the flush has come, milliseconds.
const POLL_MS: u64 = 1;

/// What a shutdown came to; kept, so that a second call answers the same.
pub(crate) type ShutdownOutcome = Result<(), ShutdownError>;

impl Database {
    /// Stops admission, waits for commits in flight, makes durable what the mode promises, and
    /// closes the log. Afterwards reads go on and writes get `DatabaseClosed`. Idempotent.
    ///
    /// # Errors
    /// What could not be finished; whatever could be synced is.
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner.shutdown()
    }

    /// The same as [`Self::shutdown`].
    ///
    /// # Errors
    /// As [`Self::shutdown`].
    pub fn close(&self) -> Result<(), ShutdownError> {
        self.shutdown()
    }
}

impl DatabaseInner {
    fn shutdown(&self) -> ShutdownOutcome {
        let mut outcome = self.shutdown.lock();
        if let Some(outcome) = &*outcome {
            return outcome.clone();
        }
        self.shared.close_admission();
        for shard in self.shared.store.shards() {
            drop(shard.commit.lock());
        }
        // A commit that was admitted may still be making the files: its log is to be closed here,
        // and no other is made behind it.
        let creation = self.log_creation.lock();
        let result = match self.log.get() {
            Some(log) => self.finish_log(log),
            None => Ok(()),
        };
        drop(creation);
        self.shared.durable.end();
        // A log that is still being written keeps the directory locked.
        if let Some(files) = &self.files
            && !matches!(result, Err(ShutdownError::Deadline { .. }))
        {
            files.unlock();
        }
        tracing::info!(target: "db", ?result, "closed");
        *outcome = Some(result.clone());
        result
    }

    fn finish_log(&self, log: &Log) -> ShutdownOutcome {
        let version_highest = self.shared.store.sequencer.last_issued();
        let clock = Arc::clone(&self.shared.clock);
        let deadline_us = clock
            .monotonic_us()
            .saturating_add(self.config.shutdown_deadline_ms.saturating_mul(1000));
        let is_manual = self.config.driving == crate::config::Driving::Manual;
        let flush = log.handle.flush_start();
        while !is_manual && matches!(log.handle.flush_poll(flush), Ok(false)) {
            if deadline_us <= clock.monotonic_us() {
                // What has been queued is still written and synced when the log is dropped.
                log.handle.close(version_highest);
                return Err(ShutdownError::Deadline {
                    pending_count: self.pending_count(),
                });
            }
            thread::park_timeout(Duration::from_millis(POLL_MS));
        }
        log.close(version_highest);
        if self.shared.is_poisoned() {
            return Err(ShutdownError::Poisoned(self.shared.poison_cause()));
        }
        Ok(())
    }

    fn pending_count(&self) -> usize {
        self.shared
            .store
            .shards()
            .iter()
            .map(|shard| shard.publication.waiting_count())
            .sum()
    }
}

impl Drop for DatabaseInner {
    /// Best effort: reports and never panics.
    fn drop(&mut self) {
        if let Err(error) = self.shutdown() {
            tracing::warn!(target: "db", %error, "database was dropped before it was finished");
        }
    }
}
