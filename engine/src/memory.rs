//! How much memory the data takes, by its own account, and the limit on it.
//!
//! Counted, each with what it costs beside its bytes:
//!
//! ```text
//! keys and versions      as they are installed: data, deletions, metadata of runs
//! runs                   once each, with their first metadata
//! exactly-once results   of each run, as they come and go
//! open transactions      what they have read and are about to write, until they end
//! ```
//!
//! Versions are kept, so their part only grows until the database is opened again. Not counted are
//! what is in flight, the log's buffers, ordered listings, contexts at rest, and what the allocator
//! rounds up. Nothing is counted without a limit: the counter is one word that every commit would
//! write.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::errors::CommitError;
use crate::index::KeyRef;
use crate::limits::{KEY_COST_BYTES, RUN_COST_BYTES, VERSION_COST_BYTES};
use crate::shard::RUN_ENTITY;

/// The account of one database.
#[derive(Default)]
pub(crate) struct MemoryUse {
    /// 0: no limit, nothing is counted.
    len_bytes_max: AtomicU64,
    used_len_bytes: AtomicU64,
}

impl MemoryUse {
    /// Sets the limit, before anything is counted; 0 for none.
    pub(crate) fn limit(&self, len_bytes_max: u64) {
        self.len_bytes_max.store(len_bytes_max, Ordering::Relaxed);
    }

    /// False: nothing is counted and nothing refused.
    #[inline]
    pub(crate) fn is_limited(&self) -> bool {
        self.len_bytes_max.load(Ordering::Relaxed) != 0
    }

    /// What is counted, bytes; 0 without a limit.
    pub(crate) fn used_len_bytes(&self) -> u64 {
        self.used_len_bytes.load(Ordering::Relaxed)
    }

    /// A key was inserted; with its metadata a run.
    #[inline]
    pub(crate) fn add_key(&self, key: KeyRef<'_>) {
        self.add(key_cost(key));
    }

    /// A version was installed.
    #[inline]
    pub(crate) fn add_version(&self, len_bytes: usize) {
        self.add(VERSION_COST_BYTES + len_bytes as u64);
    }

    /// What took `before` bytes takes `after` now.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        self.add(after.saturating_sub(before) as u64);
        self.remove(before.saturating_sub(after) as u64);
    }

    /// Relaxed throughout: a number that may be off by the commits in flight.
    #[inline]
    pub(crate) fn add(&self, len_bytes: u64) {
        if self.is_limited() && len_bytes != 0 {
            self.used_len_bytes.fetch_add(len_bytes, Ordering::Relaxed);
        }
    }

    /// Something that was counted is gone.
    pub(crate) fn remove(&self, len_bytes: u64) {
        if self.is_limited() && len_bytes != 0 {
            let before = self.used_len_bytes.fetch_sub(len_bytes, Ordering::Relaxed);
            debug_assert!(len_bytes <= before, "what goes was counted");
        }
    }

    /// Refuses what would take `needed` bytes more than the limit. Of what is used, `held` bytes
    /// are the caller's own and go when it is done.
    #[inline]
    pub(crate) fn check(
        &self,
        needed_len_bytes: u64,
        held_len_bytes: u64,
    ) -> Result<(), CommitError> {
        let len_bytes_max = self.len_bytes_max.load(Ordering::Relaxed);
        if len_bytes_max == 0 {
            return Ok(());
        }
        let used_len_bytes = self.used_len_bytes();
        let others = used_len_bytes.saturating_sub(held_len_bytes);
        if others.saturating_add(needed_len_bytes) <= len_bytes_max {
            return Ok(());
        }
        Err(CommitError::MemoryFull {
            used_len_bytes,
            len_bytes_max,
        })
    }
}

/// What a key takes, bytes.
pub(crate) fn key_cost(key: KeyRef<'_>) -> u64 {
    let run = if key == RUN_ENTITY { RUN_COST_BYTES } else { 0 };
    KEY_COST_BYTES + key.user_key.len() as u64 + run
}
