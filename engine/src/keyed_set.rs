//! A set of user keys with a value each, in insertion order, that keeps its memory when cleared.
//!
//! Keys lie one behind the other in one buffer; the look-up is by a keyed hash, because clients
//! choose the keys.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use rustc_hash::FxBuildHasher;

use crate::index::KeyHasher;
use crate::limits::{KEPT_ENTRY_COUNT_MAX, KEPT_KEY_LEN_BYTES_MAX};

/// Keys in insertion order, each with a value.
pub(crate) struct KeyedSet<T> {
    bytes: Vec<u8>,
    entries: Vec<Entry<T>>,
    /// The newest entry of a hash. The hash is keyed already.
    newest: HashMap<u64, usize, FxBuildHasher>,
    /// Places of the entries in order of their keys, as far as [`Self::sort`] knows them.
    sorted: Vec<usize>,
}

struct Entry<T> {
    key: Range<usize>,
    /// The entry before it with the same hash.
    older: Option<usize>,
    value: T,
}

impl<T> Default for KeyedSet<T> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Vec::new(),
            newest: HashMap::default(),
            sorted: Vec::new(),
        }
    }
}

impl<T> KeyedSet<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What its keys take, bytes.
    pub(crate) fn key_len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Puts the entries in order of their keys, for [`Self::entries_from`]: those added since the last
    /// time among the others, which a stable sort does in few steps.
    pub(crate) fn sort(&mut self) {
        if self.sorted.len() == self.entries.len() {
            return;
        }
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.extend(sorted.len()..self.entries.len());
        sorted.sort_by_key(|&place| self.at(place).map(|(key, _)| key));
        self.sorted = sorted;
    }

    /// The entries whose keys are not below `first`, in order. After [`Self::sort`].
    pub(crate) fn entries_from(&self, first: &[u8]) -> impl Iterator<Item = (&[u8], &T)> {
        let is_below = |place: &usize| self.at(*place).is_some_and(|(key, _)| key < first);
        let at = self.sorted.partition_point(is_below);
        let places = self.sorted.get(at..).unwrap_or(&[]);
        places.iter().filter_map(|&place| self.at(place))
    }

    /// Entries it can hold without allocating.
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Empties the set and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.newest.clear();
        self.sorted.clear();
    }

    /// Of an empty set: gives back the memory that few transactions need.
    pub(crate) fn trim(&mut self) {
        self.bytes.shrink_to(KEPT_KEY_LEN_BYTES_MAX);
        self.entries.shrink_to(KEPT_ENTRY_COUNT_MAX);
        self.sorted.shrink_to(KEPT_ENTRY_COUNT_MAX);
        if KEPT_ENTRY_COUNT_MAX < self.newest.capacity() / 2 {
            self.newest.shrink_to(KEPT_ENTRY_COUNT_MAX);
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        self.find(key)
            .and_then(|at| self.entries.get(at))
            .map(|entry| &entry.value)
    }

    /// The place and the value of a key.
    pub(crate) fn entry_mut(&mut self, key: &[u8]) -> Option<(usize, &mut T)> {
        let at = self.find(key)?;
        let entry = self.entries.get_mut(at)?;
        Some((at, &mut entry.value))
    }

    /// Removes the key that was added last.
    pub(crate) fn remove_newest(&mut self) {
        let Some(entry) = self.entries.pop() else {
            return;
        };
        if self.entries.len() < self.sorted.len() {
            self.sorted.clear();
        }
        let key = self.bytes.get(entry.key.clone()).unwrap_or(&[]);
        let hash = KeyHasher.hash_one(key);
        match entry.older {
            Some(older) => self.newest.insert(hash, older),
            None => self.newest.remove(&hash),
        };
        self.bytes.truncate(entry.key.start);
    }

    /// Adds a key that is not in the set.
    pub(crate) fn insert(&mut self, key: &[u8], value: T) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let older = self
            .newest
            .insert(KeyHasher.hash_one(key), self.entries.len());
        self.entries.push(Entry {
            key: start..self.bytes.len(),
            older,
            value,
        });
    }

    /// The key and value at `index`, in insertion order.
    pub(crate) fn at(&self, index: usize) -> Option<(&[u8], &T)> {
        let entry = self.entries.get(index)?;
        Some((self.bytes.get(entry.key.clone())?, &entry.value))
    }

    pub(crate) fn value_at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.entries.get_mut(index).map(|entry| &mut entry.value)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut next = self.newest.get(&KeyHasher.hash_one(key)).copied();
        while let Some(at) = next {
            let entry = self.entries.get(at)?;
            if self.bytes.get(entry.key.clone()) == Some(key) {
                return Some(at);
            }
            next = entry.older;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_insertion_order_and_memory_survives_a_clear() {
        let mut set = KeyedSet::default();
        for index in 0..100_u32 {
            set.insert(format!("key {index}").as_bytes(), index);
        }
        assert_eq!(set.get(b"key 42"), Some(&42));
        assert_eq!(set.get(b"key"), None);
        assert_eq!(set.at(7), Some((b"key 7".as_slice(), &7)));
        let capacity = set.capacity();
        set.clear();
        assert_eq!((set.get(b"key 42"), set.len()), (None, 0));
        assert_eq!(set.capacity(), capacity);
    }

    #[test]
    fn the_order_of_the_keys_follows_what_is_added_and_removed() {
        let mut set = KeyedSet::default();
        let keys = |set: &mut KeyedSet<u32>, first: &[u8]| -> Vec<Vec<u8>> {
            set.sort();
            set.entries_from(first)
                .map(|(key, _)| key.to_vec())
                .collect()
        };
        set.insert(b"m", 1);
        set.insert(b"c", 2);
        assert_eq!(keys(&mut set, b""), [b"c", b"m"]);
        set.insert(b"d", 3);
        assert_eq!(keys(&mut set, b"d"), [b"d", b"m"]);
        set.remove_newest();
        set.insert(b"a", 4);
        assert_eq!(keys(&mut set, b""), [b"a", b"c", b"m"]);
        set.clear();
        set.insert(b"z", 5);
        assert_eq!(keys(&mut set, b""), [b"z"]);
    }
}
