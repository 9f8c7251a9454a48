//! One version of one entity: a header and the value's bytes in a single allocation, linked to
//! the version before it.
//!
//! A node is built and filled before the critical section of its commit, sealed inside it (commit
//! version, timestamp, link). Once it hangs on a chain, its version never changes; its link is cut at
//! most once, when the versions behind it are trimmed. Readers copy bytes out and hold each version
//! on their way by a guard of its own, so that a chain may be cut under them. Chains are dropped in a
//! loop, so that an entity with a million versions cannot exhaust the stack.
//!
//! A chain is trimmed at its old end only. The oldest version that is kept says so, before the link
//! behind it is cut: its number is the trim floor of the entity, and whoever reaches the end of the
//! chain learns whether the entity began there or its history was trimmed.

use std::mem::{self, ManuallyDrop};
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwapAny, Guard};
use triomphe::{Arc, ThinArc};

/// What precedes the value's bytes.
pub(crate) struct VersionHeader {
    /// The commit that made this version; 0 until sealed.
    commit_version: u64,
    /// Time of that commit, microseconds since the epoch.
    timestamp_us: u64,
    /// The version before it. Never dropped in place: dropping such a pointer asks every thread
    /// whether it reads it, also when it is none.
    older: ManuallyDrop<ArcSwapAny<Option<Node>>>,
    /// The versions behind this one were trimmed, or are about to be.
    is_trim_floor: AtomicBool,
    /// Bytes of the value in use: a node taken from a reserve may be longer than its value.
    value_len_bytes: u32,
    is_tombstone: bool,
    /// When it expires stands behind the value, u64, little-endian.
    expires: bool,
    /// Its commit was never logged: after a restart the version before it is the newest again.
    is_volatile: bool,
}

/// A counted reference to one version.
pub(crate) type Node = ThinArc<VersionHeader, u8>;

/// A version of an entity, borrowed from its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionedRef<'a> {
    /// The encoded value; empty for a tombstone.
    pub value: &'a [u8],
    /// The commit that made this version.
    pub commit_version: u64,
    /// Time of that commit, microseconds since the epoch.
    pub timestamp_us: u64,
    /// True when this version says "deleted".
    pub is_tombstone: bool,
    /// When the entry expires, microseconds since the epoch, if it does.
    pub expires_at_us: Option<u64>,
}

/// What can be done with a [`Node`].
pub(crate) trait VersionNode: Sized {
    /// An unsealed version that holds a copy of `value`.
    fn with_value(value: &[u8]) -> Self;

    /// The same, of an entry that expires.
    fn with_expiry(value: &[u8], expires_at_us: u64) -> Self;

    /// An unsealed tombstone.
    fn tombstone() -> Self;

    /// An unsealed version with room for `capacity` bytes, all zero.
    fn with_capacity(capacity: usize) -> Self;

    /// Copies `value` into an unsealed version; false when it does not fit.
    fn fill(&mut self, value: &[u8]) -> bool;

    /// Fixes everything that depends on the commit and links the version before it.
    ///
    /// # Panics
    /// When the node is shared or sealed already.
    fn seal(&mut self, stamp: Stamp, older: Option<Self>);

    /// The commit that made this version; 0 while unsealed.
    fn commit_version(&self) -> u64;

    /// Time of that commit, microseconds since the epoch.
    fn timestamp_us(&self) -> u64;

    /// True when this version says "deleted".
    fn is_tombstone(&self) -> bool;

    /// True when its commit was never logged.
    fn is_volatile(&self) -> bool;

    /// When the entry expires, microseconds since the epoch, if it does.
    fn expires_at_us(&self) -> Option<u64>;

    /// Sets when an entry expires that was made with an expiry, and is not sealed yet.
    fn set_expiry(&mut self, expires_at_us: u64);

    /// True when there is a value at this time: neither deleted nor expired.
    fn is_live(&self, now_us: u64) -> bool;

    /// The encoded value; empty for a tombstone.
    fn value(&self) -> &[u8];

    /// The version before this one, held against being trimmed.
    fn older(&self) -> Older;

    /// True when this is the oldest version that was kept: those behind it are gone, or going.
    fn is_trim_floor(&self) -> bool;

    /// What comes before a chain from which a snapshot had left out trimmed versions.
    fn set_trim_floor(&self);

    /// Drops every version behind this one and counts them, one at a time: `dropped` is told the
    /// length of each value, bytes. Whoever reads one of them keeps that one alone.
    fn cut(&self, dropped: impl FnMut(usize));

    /// Calls `read` with the newest version at or below `bound`, this one included.
    fn at_or_below<R>(&self, bound: u64, read: impl FnOnce(Found<'_>) -> R) -> R;

    /// Borrows this version.
    fn versioned(&self) -> VersionedRef<'_>;
}

/// A version on the way along a chain, if there is one.
pub(crate) type Older = Guard<Option<Node>>;

/// What a chain has at or below a bound.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    /// The newest version at or below it.
    Version(&'a Node),
    /// None: the entity began later, or never.
    Nothing,
    /// It was there, or may have been, and has been trimmed.
    Trimmed,
}

impl<'a> Found<'a> {
    /// The version, for a reader of whose time nothing is ever trimmed.
    pub(crate) fn version(self) -> Option<&'a Node> {
        match self {
            Self::Version(node) => Some(node),
            Self::Nothing | Self::Trimmed => None,
        }
    }
}

/// What a commit gives to each version it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) commit_version: u64,
    pub(crate) timestamp_us: u64,
    /// The commit is not logged.
    pub(crate) is_volatile: bool,
}

impl VersionNode for Node {
    fn with_value(value: &[u8]) -> Self {
        Self::from_header_and_slice(VersionHeader::new(value.len(), false), value)
    }

    fn with_expiry(value: &[u8], expires_at_us: u64) -> Self {
        let mut header = VersionHeader::new(value.len(), false);
        header.expires = true;
        let expiry = expires_at_us.to_le_bytes();
        // The type of a chain does not know its length: the expiry comes behind the value.
        let bytes = (0..value.len() + expiry.len()).map(|at| match value.get(at) {
            Some(byte) => *byte,
            None => expiry.get(at - value.len()).copied().unwrap_or(0),
        });
        Self::from_header_and_iter(header, bytes)
    }

    fn tombstone() -> Self {
        Self::from_header_and_slice(VersionHeader::new(0, true), &[])
    }

    fn with_capacity(capacity: usize) -> Self {
        let zeros = std::iter::repeat_n(0_u8, capacity);
        Self::from_header_and_iter(VersionHeader::new(0, false), zeros)
    }

    fn fill(&mut self, value: &[u8]) -> bool {
        self.with_arc_mut(|arc| {
            let Some(node) = Arc::get_mut(arc) else {
                return false;
            };
            let Some(target) = node.slice_mut().get_mut(..value.len()) else {
                return false;
            };
            target.copy_from_slice(value);
            let header = node.header_mut();
            header.value_len_bytes = len_u32(value.len());
            header.is_tombstone = false;
            header.expires = false;
            true
        })
    }

    fn seal(&mut self, stamp: Stamp, older: Option<Self>) {
        self.with_arc_mut(|arc| {
            let node = Arc::get_mut(arc).expect("an unsealed version has one owner");
            let header = node.header_mut();
            assert!(header.commit_version == 0, "a version is sealed once");
            header.commit_version = stamp.commit_version;
            header.timestamp_us = stamp.timestamp_us;
            header.is_volatile = stamp.is_volatile;
            // What was there is none, and is not dropped.
            header.older = ManuallyDrop::new(ArcSwapAny::new(older));
        });
    }

    fn commit_version(&self) -> u64 {
        self.header.header.commit_version
    }

    fn timestamp_us(&self) -> u64 {
        self.header.header.timestamp_us
    }

    fn is_tombstone(&self) -> bool {
        self.header.header.is_tombstone
    }

    fn is_volatile(&self) -> bool {
        self.header.header.is_volatile
    }

    fn expires_at_us(&self) -> Option<u64> {
        if !self.header.header.expires {
            return None;
        }
        let expiry = self.slice.get(self.value().len()..)?.first_chunk()?;
        Some(u64::from_le_bytes(*expiry))
    }

    fn set_expiry(&mut self, expires_at_us: u64) {
        let at = self.value().len();
        self.with_arc_mut(|arc| {
            let node = Arc::get_mut(arc).expect("an unsealed version has one owner");
            debug_assert!(node.header_mut().expires, "made with an expiry");
            if let Some(expiry) = node.slice_mut().get_mut(at..at + size_of::<u64>()) {
                expiry.copy_from_slice(&expires_at_us.to_le_bytes());
            }
        });
    }

    #[inline]
    fn is_live(&self, now_us: u64) -> bool {
        !self.is_tombstone() && self.expires_at_us().is_none_or(|at_us| now_us < at_us)
    }

    fn value(&self) -> &[u8] {
        let len = usize::try_from(self.header.header.value_len_bytes).unwrap_or(usize::MAX);
        self.slice.get(..len).unwrap_or(&[])
    }

    fn older(&self) -> Older {
        self.header.header.older.load()
    }

    fn is_trim_floor(&self) -> bool {
        // Acquire; pairs with `set_trim_floor`: who saw the cut link sees this.
        self.header.header.is_trim_floor.load(Ordering::Acquire)
    }

    fn set_trim_floor(&self) {
        let floor = &self.header.header.is_trim_floor;
        floor.store(true, Ordering::Release);
    }

    fn cut(&self, mut dropped: impl FnMut(usize)) {
        self.set_trim_floor();
        let mut next = self.header.header.older.swap(None);
        while let Some(node) = next {
            // A reader that stands on it must not take it for the first one.
            node.set_trim_floor();
            next = node.header.header.older.swap(None);
            dropped(node.value().len());
        }
    }

    fn at_or_below<R>(&self, bound: u64, read: impl FnOnce(Found<'_>) -> R) -> R {
        if self.commit_version() <= bound {
            return read(Found::Version(self));
        }
        // The link first: where it was cut, the mark had been made before.
        let mut next = self.older();
        let mut is_trim_floor = self.is_trim_floor();
        loop {
            let older = match &*next {
                Some(node) if node.commit_version() <= bound => {
                    return read(Found::Version(node));
                }
                Some(node) => {
                    let older = node.older();
                    is_trim_floor = node.is_trim_floor();
                    older
                }
                None if is_trim_floor => return read(Found::Trimmed),
                None => return read(Found::Nothing),
            };
            next = older;
        }
    }

    fn versioned(&self) -> VersionedRef<'_> {
        VersionedRef {
            value: self.value(),
            commit_version: self.commit_version(),
            timestamp_us: self.timestamp_us(),
            is_tombstone: self.is_tombstone(),
            expires_at_us: self.expires_at_us(),
        }
    }
}

impl VersionHeader {
    fn new(value_len: usize, is_tombstone: bool) -> Self {
        Self {
            commit_version: 0,
            timestamp_us: 0,
            older: ManuallyDrop::new(ArcSwapAny::new(None)),
            is_trim_floor: AtomicBool::new(false),
            value_len_bytes: len_u32(value_len),
            is_tombstone,
            expires: false,
            is_volatile: false,
        }
    }
}

impl VersionHeader {
    /// Takes the link of a version that has one owner.
    fn take_older(&mut self) -> Option<Node> {
        if self.older.load().is_none() {
            return None;
        }
        let none = ManuallyDrop::new(ArcSwapAny::new(None));
        ManuallyDrop::into_inner(mem::replace(&mut self.older, none)).into_inner()
    }
}

impl Drop for VersionHeader {
    /// Unlinks the chain one version at a time. A version that someone else still holds ends the
    /// loop: its last owner goes on from there.
    fn drop(&mut self) {
        let mut next = self.take_older();
        while let Some(mut node) = next {
            next = node.with_arc_mut(|arc| {
                Arc::get_mut(arc).and_then(|node| node.header_mut().take_older())
            });
        }
    }
}

/// Values are at most 32 MiB; the limit is checked before a node is built.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a value is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(versions: std::ops::RangeInclusive<u64>) -> Node {
        let mut head: Option<Node> = None;
        for version in versions {
            let mut node = Node::with_value(&version.to_le_bytes());
            let stamp = Stamp {
                commit_version: version,
                timestamp_us: version * 10,
                is_volatile: false,
            };
            node.seal(stamp, head);
            head = Some(node);
        }
        head.unwrap()
    }

    fn found(head: &Node, bound: u64) -> Result<Option<u64>, ()> {
        head.at_or_below(bound, |found| match found {
            Found::Version(node) => {
                assert_eq!(node.value(), node.commit_version().to_le_bytes());
                Ok(Some(node.commit_version()))
            }
            Found::Nothing => Ok(None),
            Found::Trimmed => Err(()),
        })
    }

    #[test]
    fn a_reader_gets_the_newest_version_at_or_below_its_bound() {
        let head = chain(5..=9);
        assert_eq!(found(&head, 100), Ok(Some(9)));
        assert_eq!(found(&head, 7), Ok(Some(7)));
        assert_eq!(found(&head, 4), Ok(None));
    }

    #[test]
    fn below_the_floor_of_a_cut_chain_nothing_is_found_and_no_neighbour_either() {
        let head = chain(5..=9);
        let mut dropped = Vec::new();
        let at_seven = head.at_or_below(7, |found| found.version().cloned());
        at_seven.unwrap().cut(|len_bytes| dropped.push(len_bytes));
        assert_eq!(dropped, [8, 8]);
        assert_eq!(found(&head, 100), Ok(Some(9)));
        assert_eq!(found(&head, 7), Ok(Some(7)));
        assert_eq!(found(&head, 6), Err(()));
        assert_eq!(found(&head, 1), Err(()));
    }

    #[test]
    fn who_stands_on_a_version_that_is_dropped_keeps_it_and_takes_it_for_no_beginning() {
        let head = chain(1..=9);
        let standing = head.at_or_below(5, |found| found.version().cloned());
        let standing = standing.unwrap();
        head.cut(|_| {});
        assert_eq!(standing.value(), 5_u64.to_le_bytes());
        assert!(standing.older().is_none());
        assert_eq!(found(&standing, 3), Err(()));
    }

    #[test]
    fn readers_of_a_chain_that_is_cut_under_them_get_their_version_or_are_told() {
        for _ in 0..200 {
            let head = chain(1..=200);
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    (1..=200)
                        .filter(|bound| match found(&head, *bound) {
                            Ok(version) => {
                                assert_eq!(version, Some(*bound));
                                true
                            }
                            Err(()) => false,
                        })
                        .count()
                });
                let kept = head.at_or_below(100, |found| found.version().cloned());
                kept.unwrap().cut(|_| {});
                assert!(101 <= reader.join().unwrap());
            });
        }
    }

    #[test]
    fn a_chain_of_a_million_versions_drops_without_recursion() {
        drop(chain(1..=1_000_000));
    }

    #[test]
    fn a_reserved_node_takes_any_value_that_fits_and_refuses_a_longer_one() {
        let mut node = Node::with_capacity(8);
        assert!(!node.fill(&[1; 9]));
        assert!(node.fill(&[1; 3]));
        assert_eq!(node.value(), [1; 3]);
    }
}
