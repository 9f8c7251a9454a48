//! How much memory the data takes, by its own account, and the limit on it.
//!
//! Counted are keys and versions as they are installed, each with what it costs beside its bytes;
//! versions are kept, so the count only grows until the database is opened again. Not counted are
//! what is in flight, the log's buffers, ordered listings, and what the allocator rounds up. Nothing
//! is counted without a limit: the counter is one word that every commit would write.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::errors::CommitError;
use crate::limits::{KEY_COST_BYTES, VERSION_COST_BYTES};

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

    /// What is counted, bytes; 0 without a limit.
    pub(crate) fn used_len_bytes(&self) -> u64 {
        self.used_len_bytes.load(Ordering::Relaxed)
    }

    /// A key was inserted.
    #[inline]
    pub(crate) fn add_key(&self, len_bytes: usize) {
        self.add(KEY_COST_BYTES + len_bytes as u64);
    }

    /// A version was installed.
    #[inline]
    pub(crate) fn add_version(&self, len_bytes: usize) {
        self.add(VERSION_COST_BYTES + len_bytes as u64);
    }

    /// Relaxed throughout: a number that may be off by the commits in flight.
    #[inline]
    fn add(&self, len_bytes: u64) {
        if self.len_bytes_max.load(Ordering::Relaxed) != 0 {
            self.used_len_bytes.fetch_add(len_bytes, Ordering::Relaxed);
        }
    }

    /// Refuses a commit of so many steps and bytes that could grow the data beyond the limit.
    #[inline]
    pub(crate) fn check(&self, step_count: usize, len_bytes: usize) -> Result<(), CommitError> {
        let len_bytes_max = self.len_bytes_max.load(Ordering::Relaxed);
        if len_bytes_max == 0 {
            return Ok(());
        }
        let used_len_bytes = self.used_len_bytes();
        let costs = step_count as u64 * (KEY_COST_BYTES + VERSION_COST_BYTES);
        if used_len_bytes + costs + len_bytes as u64 <= len_bytes_max {
            return Ok(());
        }
        Err(CommitError::MemoryFull {
            used_len_bytes,
            len_bytes_max,
        })
    }
}
