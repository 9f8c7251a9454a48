//! The keys of one run in order, for listings.
//!
//! Before anyone lists a run, its keys only remember the key inserted before them. The first
//! listing registers an empty skip list, from which moment each new key goes there instead, and
//! follows those links back to the first key, a bounded number of them per step; from then on the
//! list is kept up and a page costs in proportion to the page. Keys are never removed: deletion is
//! a tombstone on the chain.
//!
//! Keys are inserted, and the list is registered, under the run's critical section: a key is
//! either reached by the links, or sees the registered list.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_skiplist::SkipSet;
use parking_lot::Mutex;

use crate::index::{IndexKey, KeyRef};
use crate::limits::FILL_STEP_KEY_COUNT_MAX;

/// The ordered keys of a run, if anyone has listed them.
pub(crate) struct OrderedKeys {
    keys: OnceLock<SkipSet<IndexKey>>,
    /// Release once filled; pairs with Acquire in [`Self::is_filled`].
    is_filled: AtomicBool,
    /// The newest key that is not in the list: its links lead to all the others. Held for one
    /// insertion or one step.
    unlisted: Mutex<Option<IndexKey>>,
}

impl OrderedKeys {
    pub(crate) fn new() -> Self {
        Self {
            keys: OnceLock::new(),
            is_filled: AtomicBool::new(false),
            unlisted: Mutex::new(None),
        }
    }

    /// Makes a key that is about to be added to the index; the caller is in the critical section.
    pub(crate) fn new_key(&self, key: KeyRef<'_>) -> IndexKey {
        if let Some(keys) = self.keys.get() {
            let key = IndexKey::new(key, None);
            keys.insert(key.clone());
            return key;
        }
        let mut unlisted = self.unlisted.lock();
        let key = IndexKey::new(key, unlisted.take());
        *unlisted = Some(key.clone());
        key
    }

    /// True once the list has every key.
    pub(crate) fn is_filled(&self) -> bool {
        // Acquire; pairs with the Release in `fill_step`.
        self.is_filled.load(Ordering::Acquire)
    }

    /// The ordered keys, once filled.
    pub(crate) fn filled(&self) -> Option<&SkipSet<IndexKey>> {
        if self.is_filled() {
            self.keys.get()
        } else {
            None
        }
    }

    /// True when a listing has begun: each new key goes into the list.
    pub(crate) fn is_registered(&self) -> bool {
        self.keys.get().is_some()
    }

    /// Registers the list; the caller is in the critical section.
    pub(crate) fn register(&self) {
        self.keys.get_or_init(SkipSet::new);
    }

    /// Puts [`FILL_STEP_KEY_COUNT_MAX`] keys more into the list, which must be registered; true
    /// when it is complete.
    pub(crate) fn fill_step(&self) -> bool {
        let Some(keys) = self.keys.get() else {
            return false;
        };
        let mut unlisted = self.unlisted.lock();
        for _ in 0..FILL_STEP_KEY_COUNT_MAX {
            let Some(key) = unlisted.take() else { break };
            *unlisted = key.inserted_before().cloned();
            keys.insert(key);
        }
        let is_complete = unlisted.is_none();
        if is_complete {
            self.is_filled.store(true, Ordering::Release);
        }
        is_complete
    }
}
