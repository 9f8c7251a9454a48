//! The keys of one run: a hash index from key to version chain, readable without waiting.
//!
//! The map is `papaya` (lock-free reads, growth in steps) split into partitions: growing one map
//! of ten million keys would clear 16 MiB of control bytes in one operation, growing a sixteenth
//! of it stays far below 1 ms. Keys are hashed with a seed of this process, because clients choose
//! them; the partition is chosen by an unkeyed hash, where a prepared collision costs nothing but
//! the advantage of partitions. A chain's head is one atomic pointer: a read takes no lock and
//! writes no shared cache line.
//!
//! Keys are inserted and chains extended only inside the critical section of the run; reads come
//! from anywhere.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::OnceLock;

use arc_swap::ArcSwapAny;
use in_mem_model::TypeTag;
use papaya::{Equivalent, HashMap, ResizeMode};
use rustc_hash::FxHasher;
use triomphe::{Arc, ThinArc};

use crate::limits::{INDEX_PARTITION_COUNT, INDEX_RESIZE_STEP_COUNT};
use crate::ordered::OrderedKeys;
use crate::version_node::{Found, Node, Stamp, VersionNode};

/// A key as callers hold it: nothing is copied to look it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// Which keyspace of the run.
    pub tag: TypeTag,
    /// The user key's bytes.
    pub user_key: &'a [u8],
}

/// A key as the index keeps it: a link, the tag, then the user key, in one allocation that is
/// shared with the ordered keys.
#[derive(Clone)]
pub(crate) struct IndexKey(ThinArc<KeyLink, u8>);

/// What precedes the bytes of a key.
struct KeyLink {
    /// The key inserted before it, as long as nobody had listed the run.
    inserted_before: Option<IndexKey>,
}

/// The chain of one key. Without a head the key was never written.
pub(crate) struct Entry {
    head: ArcSwapAny<Option<Node>>,
}

/// What recovery has added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The version is there already, or a newer one.
    Nothing,
    /// A version of a key that is there.
    Version,
    /// A key with its first version.
    KeyAndVersion,
}

type Partition = HashMap<IndexKey, Entry, KeyHasher>;

/// All keys of one run.
pub(crate) struct Index {
    partitions: Box<[OnceLock<Partition>]>,
    pub(crate) ordered: OrderedKeys,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            partitions: (0..INDEX_PARTITION_COUNT)
                .map(|_| OnceLock::new())
                .collect(),
            ordered: OrderedKeys::new(),
        }
    }

    /// Calls `read` with the newest version of `key`, pending ones included.
    pub(crate) fn with_newest<R>(
        &self,
        key: KeyRef<'_>,
        read: impl FnOnce(Option<&Node>) -> R,
    ) -> R {
        self.with_entry(key, |entry| match entry {
            Some(entry) => entry.with_head(read),
            None => read(None),
        })
    }

    /// Calls `read` with the newest version of `key` at or below `bound`: for those of whose time
    /// nothing is trimmed while they look.
    #[inline]
    pub(crate) fn with_version<R>(
        &self,
        key: KeyRef<'_>,
        bound: u64,
        read: impl FnOnce(Option<&Node>) -> R,
    ) -> R {
        self.find(key, bound, |found| {
            debug_assert!(
                !matches!(found, Found::Trimmed),
                "nobody reads what was trimmed"
            );
            read(found.version())
        })
    }

    /// Calls `read` with what there is of `key` at or below `bound`.
    #[inline]
    pub(crate) fn find<R>(
        &self,
        key: KeyRef<'_>,
        bound: u64,
        read: impl FnOnce(Found<'_>) -> R,
    ) -> R {
        self.with_newest(key, |head| match head {
            Some(head) => head.at_or_below(bound, read),
            None => read(Found::Nothing),
        })
    }

    /// The versions of `key` at or below `bound`, newest first.
    pub(crate) fn chain(&self, key: KeyRef<'_>, bound: u64) -> Vec<Node> {
        let mut next = self.find(key, bound, |found| found.version().cloned());
        let mut nodes = Vec::new();
        while let Some(node) = next {
            next = (*node.older()).clone();
            nodes.push(node);
        }
        nodes
    }

    /// The lowest version of `key` that is still readable; none when nothing of it was trimmed.
    pub(crate) fn trim_floor(&self, key: KeyRef<'_>) -> Option<u64> {
        loop {
            let oldest = self.with_newest(key, |head| {
                let mut oldest = head.cloned();
                while let Some(older) = oldest.as_ref().and_then(|node| (*node.older()).clone()) {
                    oldest = Some(older);
                }
                oldest
            });
            let oldest = oldest.filter(VersionNode::is_trim_floor)?;
            // Not one that was dropped on the way to it.
            let floor = oldest.commit_version();
            if self.find(key, floor, |found| found.version().is_some()) {
                return Some(floor);
            }
        }
    }

    /// Whether `key` has an entry, written or not.
    pub(crate) fn contains_key(&self, key: KeyRef<'_>) -> bool {
        self.with_entry(key, |entry| entry.is_some())
    }

    /// Makes sure that `key` has an entry; true when it had none. Allocates; belongs before a
    /// version is assigned.
    pub(crate) fn insert_key(&self, key: KeyRef<'_>) -> bool {
        let partition = self.partition(key).get_or_init(new_partition);
        let pin = partition.pin();
        if pin.get(&key).is_some() {
            return false;
        }
        pin.insert(
            self.ordered.new_key(key),
            Entry {
                head: ArcSwapAny::new(None),
            },
        );
        true
    }

    /// Seals `node` and makes it the newest version of `key`. Allocates nothing.
    ///
    /// # Panics
    /// When the key has no entry.
    pub(crate) fn install(&self, key: KeyRef<'_>, mut node: Node, stamp: Stamp) {
        self.with_entry(key, |entry| {
            let entry = entry.expect("the key was inserted at validation");
            node.seal(stamp, entry.head.load_full());
            entry.head.store(Some(node));
        });
    }

    /// Makes `node` the newest version of `key`, unless it has one as new: what recovery does, which
    /// needs no entry first.
    pub(crate) fn apply(&self, key: KeyRef<'_>, mut node: Node, stamp: Stamp) -> Applied {
        let partition = self.partition(key).get_or_init(new_partition);
        let pin = partition.pin();
        if let Some(entry) = pin.get(&key) {
            let newest = entry.head.load_full();
            let newest_version = newest.as_ref().map(|node| node.commit_version());
            if newest_version.is_some_and(|newest| stamp.commit_version <= newest) {
                return Applied::Nothing;
            }
            node.seal(stamp, newest);
            entry.head.store(Some(node));
            return Applied::Version;
        }
        node.seal(stamp, None);
        let head = ArcSwapAny::new(Some(node));
        pin.insert(self.ordered.new_key(key), Entry { head });
        Applied::KeyAndVersion
    }

    /// Takes in a key that has no entry yet, with all its versions: what loading a snapshot does.
    pub(crate) fn load(&self, key: KeyRef<'_>, newest: Node) {
        let partition = self.partition(key).get_or_init(new_partition);
        let head = ArcSwapAny::new(Some(newest));
        let pin = partition.pin();
        let before = pin.insert(self.ordered.new_key(key), Entry { head });
        debug_assert!(before.is_none(), "a snapshot holds each key once");
    }

    /// Calls `visit` with each key of `partition` until it returns false. Keys inserted meanwhile
    /// may or may not be met.
    pub(crate) fn for_each_key(
        &self,
        partition: usize,
        mut visit: impl FnMut(&IndexKey, Option<&Node>) -> bool,
    ) {
        let Some(map) = self.partitions.get(partition).and_then(OnceLock::get) else {
            return;
        };
        let pin = map.pin();
        for (key, entry) in &pin {
            if !entry.with_head(|head| visit(key, head)) {
                return;
            }
        }
    }

    fn with_entry<R>(&self, key: KeyRef<'_>, f: impl FnOnce(Option<&Entry>) -> R) -> R {
        match self.partition(key).get() {
            Some(partition) => f(partition.pin().get(&key)),
            None => f(None),
        }
    }

    fn partition(&self, key: KeyRef<'_>) -> &OnceLock<Partition> {
        let at = partition_of(key.user_key);
        self.partitions
            .get(at)
            .expect("a partition number is below the count")
    }
}

impl Entry {
    fn with_head<R>(&self, read: impl FnOnce(Option<&Node>) -> R) -> R {
        read(self.head.load().as_ref())
    }
}

impl<'a> KeyRef<'a> {
    /// A KV key.
    #[must_use]
    pub fn kv(user_key: &'a [u8]) -> Self {
        Self {
            tag: TypeTag::Kv,
            user_key,
        }
    }
}

impl IndexKey {
    pub(crate) fn new(key: KeyRef<'_>, inserted_before: Option<Self>) -> Self {
        let link = KeyLink { inserted_before };
        // The type of a chain does not know its length: the tag comes as the byte at 0.
        let bytes = (0..1 + key.user_key.len()).map(|at| match at.checked_sub(1) {
            Some(at) => key.user_key.get(at).copied().unwrap_or(0),
            None => key.tag.number(),
        });
        Self(ThinArc::from_header_and_iter(link, bytes))
    }

    pub(crate) fn tag_byte(&self) -> u8 {
        self.bytes().first().copied().unwrap_or(0)
    }

    pub(crate) fn user_key(&self) -> &[u8] {
        self.bytes().get(1..).unwrap_or(&[])
    }

    /// The key inserted before it, if it was made before the run was listed.
    pub(crate) fn inserted_before(&self) -> Option<&Self> {
        self.0.header.header.inserted_before.as_ref()
    }

    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    /// The key as callers hold it.
    pub(crate) fn key_ref(&self) -> Option<KeyRef<'_>> {
        let tag = TypeTag::from_number(self.tag_byte())?;
        Some(KeyRef {
            tag,
            user_key: self.user_key(),
        })
    }
}

impl Drop for KeyLink {
    /// Unlinks one key at a time, so that ten million keys do not exhaust the stack. A key that
    /// someone else still holds ends the loop: its last owner goes on from there.
    fn drop(&mut self) {
        let mut next = self.inserted_before.take();
        while let Some(mut key) = next {
            next = key.0.with_arc_mut(|arc| {
                Arc::get_mut(arc).and_then(|key| key.header_mut().inserted_before.take())
            });
        }
    }
}

impl PartialEq for IndexKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for IndexKey {}

impl PartialOrd for IndexKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for IndexKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl Hash for IndexKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.tag_byte());
        state.write(self.user_key());
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.tag.number());
        state.write(self.user_key);
    }
}

impl Equivalent<IndexKey> for KeyRef<'_> {
    fn equivalent(&self, key: &IndexKey) -> bool {
        key.tag_byte() == self.tag.number() && key.user_key() == self.user_key
    }
}

/// Hashes client-chosen bytes with the seed of this process.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyHasher;

impl BuildHasher for KeyHasher {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        static SEED: OnceLock<ahash::RandomState> = OnceLock::new();
        SEED.get_or_init(ahash::RandomState::new).build_hasher()
    }
}

fn new_partition() -> Partition {
    HashMap::builder()
        .hasher(KeyHasher)
        .resize_mode(ResizeMode::Incremental(INDEX_RESIZE_STEP_COUNT))
        .build()
}

/// Mixes the length, the first 8 and the last 16 bytes: enough to spread keys that share a prefix
/// or a suffix, at a cost that does not depend on the length.
fn partition_of(user_key: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write_usize(user_key.len());
    hasher.write(
        user_key
            .first_chunk::<8>()
            .map_or(user_key, |first| first.as_slice()),
    );
    hasher.write(
        user_key
            .last_chunk::<16>()
            .map_or(user_key, |last| last.as_slice()),
    );
    let high = hasher.finish() >> 32;
    usize::try_from(high).unwrap_or(0) % INDEX_PARTITION_COUNT
}
