//! One version of one entity: a header and the value's bytes in a single allocation, linked to
//! the version before it.
//!
//! A node is built and filled before the critical section of its commit, sealed inside it (commit
//! version, timestamp, link), and never changes once it hangs on a chain. Readers walk a chain by
//! reference and copy bytes out; they never touch a reference count of a node. Chains are dropped
//! in a loop, so that an entity with a million versions cannot exhaust the stack.

use std::mem;

use triomphe::{Arc, ThinArc};

/// What precedes the value's bytes.
pub(crate) struct VersionHeader {
    /// The commit that made this version; 0 until sealed.
    commit_version: u64,
    /// Time of that commit, microseconds since the epoch.
    timestamp_us: u64,
    /// The version before it.
    older: Option<Node>,
    /// Bytes of the value in use: a node taken from a reserve may be longer than its value.
    value_len_bytes: u32,
    is_tombstone: bool,
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
}

/// What can be done with a [`Node`].
pub(crate) trait VersionNode: Sized {
    /// An unsealed version that holds a copy of `value`.
    fn with_value(value: &[u8]) -> Self;

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

    /// The encoded value; empty for a tombstone.
    fn value(&self) -> &[u8];

    /// The version before this one.
    fn older(&self) -> Option<&Self>;

    /// The newest version at or below `bound`, this one included.
    fn at_or_below(&self, bound: u64) -> Option<&Self>;

    /// Borrows this version.
    fn versioned(&self) -> VersionedRef<'_>;
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
            header.older = older;
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

    fn value(&self) -> &[u8] {
        let len = usize::try_from(self.header.header.value_len_bytes).unwrap_or(usize::MAX);
        self.slice.get(..len).unwrap_or(&[])
    }

    fn older(&self) -> Option<&Self> {
        self.header.header.older.as_ref()
    }

    fn at_or_below(&self, bound: u64) -> Option<&Self> {
        let mut node = self;
        while bound < node.commit_version() {
            node = node.older()?;
        }
        Some(node)
    }

    fn versioned(&self) -> VersionedRef<'_> {
        VersionedRef {
            value: self.value(),
            commit_version: self.commit_version(),
            timestamp_us: self.timestamp_us(),
            is_tombstone: self.is_tombstone(),
        }
    }
}

impl VersionHeader {
    fn new(value_len: usize, is_tombstone: bool) -> Self {
        Self {
            commit_version: 0,
            timestamp_us: 0,
            older: None,
            value_len_bytes: len_u32(value_len),
            is_tombstone,
            is_volatile: false,
        }
    }
}

impl Drop for VersionHeader {
    /// Unlinks the chain one version at a time. A version that someone else still holds ends the
    /// loop: its last owner goes on from there.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut node) = next {
            next = node.with_arc_mut(|arc| {
                Arc::get_mut(arc).and_then(|node| mem::take(&mut node.header_mut().older))
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

    #[test]
    fn a_reader_gets_the_newest_version_at_or_below_its_bound() {
        let head = chain(5..=9);
        assert_eq!(
            head.at_or_below(100).map(VersionNode::commit_version),
            Some(9)
        );
        assert_eq!(
            head.at_or_below(7).map(VersionNode::commit_version),
            Some(7)
        );
        assert!(head.at_or_below(4).is_none());
        assert_eq!(
            head.at_or_below(7).map(|node| node.value().to_vec()),
            Some(7_u64.to_le_bytes().to_vec())
        );
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
