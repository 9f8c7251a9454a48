//! The keys of one run in order, for listings.
//!
//! A run that is never listed pays nothing. The first listing registers an empty skip list, from
//! which moment each new key goes into both structures, and fills it partition by partition; from
//! then on it is kept up and a page costs in proportion to the page. Keys are never removed:
//! deletion is a tombstone on the chain.
//!
//! Registration happens under the run's critical section, where keys are inserted: a key is either
//! in the index before the filling starts, or sees the registered list.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_skiplist::SkipSet;
use parking_lot::Mutex;

use crate::index::{Index, IndexKey, KeyRef};
use crate::limits::INDEX_PARTITION_COUNT;

/// The ordered keys of a run, if anyone has listed them.
pub(crate) struct OrderedKeys {
    keys: OnceLock<SkipSet<IndexKey>>,
    /// Release once filled; pairs with Acquire in [`Self::filled`].
    is_filled: AtomicBool,
    /// The next partition to fill. Held by the one listing that fills; the others wait for it.
    next_partition: Mutex<usize>,
}

impl OrderedKeys {
    pub(crate) fn new() -> Self {
        Self {
            keys: OnceLock::new(),
            is_filled: AtomicBool::new(false),
            next_partition: Mutex::new(0),
        }
    }

    /// A key was added to the index; the caller is in the critical section.
    pub(crate) fn key_inserted(&self, key: KeyRef<'_>) {
        if let Some(keys) = self.keys.get() {
            keys.insert(IndexKey::new(key));
        }
    }

    /// The ordered keys, once filled.
    pub(crate) fn filled(&self) -> Option<&SkipSet<IndexKey>> {
        if self.is_filled.load(Ordering::Acquire) {
            self.keys.get()
        } else {
            None
        }
    }

    /// Registers the list; the caller is in the critical section.
    pub(crate) fn register(&self) {
        self.keys.get_or_init(SkipSet::new);
    }

    /// Fills one partition more; true when the list is complete. The list must be registered.
    pub(crate) fn fill_step(&self, index: &Index) -> bool {
        let mut next = self.next_partition.lock();
        let Some(keys) = self.keys.get() else {
            return false;
        };
        if *next < INDEX_PARTITION_COUNT {
            index.for_each_key(*next, |key, _| {
                keys.insert(key.clone());
                true
            });
            *next += 1;
        }
        if *next == INDEX_PARTITION_COUNT {
            self.is_filled.store(true, Ordering::Release);
        }
        *next == INDEX_PARTITION_COUNT
    }
}
