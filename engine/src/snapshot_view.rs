//! The store as a checkpoint sees it, and how entities are written into a section and read back.
//!
//! A section of entities with version chains (KV, Run), little-endian, sorted by run id and key,
//! until the section ends:
//!
//! ```text
//! entity  := run_id 16 | key_len u32 | key | trim_floor u64 (0 = nothing was trimmed)
//!            | version_count u32 | versions, oldest first
//! version := version u64 | commit_version u64 | timestamp u64, microseconds since the epoch
//!            | flags u8 (1 = tombstone) | expiry u64 (0 = none) | value_len u32 | value
//! ```
//!
//! `version` is the entity's own, in its flavour. Volatile versions are left out; an entity that
//! has no other is left out whole. A trim floor is the commit version of the oldest version that
//! was kept. A tombstone has no expiry.
//!
//! The walk holds no lock of the store: versions at or below the watermark are published, and
//! trimmed by nobody but the thread that takes snapshots. Of one run at a time it holds the keys, 8 bytes each, and of one
//! entity the chain.

use std::sync::Arc;

use in_mem_model::{RunId, TypeTag};
use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

use crate::index::{IndexKey, KeyRef};
use crate::limits::{
    INDEX_PARTITION_COUNT, SNAPSHOT_KEY_LEN_BYTES_MAX, SNAPSHOT_VALUE_LEN_BYTES_MAX,
};
use crate::shard::RunShard;
use crate::snapshot_bytes::{array, number_u32, number_u64, write_u32, write_u64};
use crate::store::ShardedStore;
use crate::trim::TrimPlan;
use crate::version_node::{Node, Stamp, VersionNode, VersionedRef};

const FLAG_TOMBSTONE: u8 = 1;

/// Everything that logged commits up to one version have made, while others go on committing.
pub struct SnapshotView<'a> {
    store: &'a ShardedStore,
    watermark: u64,
    /// What a compaction leaves out.
    plan: Option<&'a TrimPlan>,
}

/// One entity of a [`SnapshotView`].
#[derive(Debug, Clone, Copy)]
pub struct EntityVersions<'a> {
    /// Its run.
    pub run: RunId,
    /// Its key within run and primitive.
    pub key: &'a [u8],
    /// The lowest version that is still readable; 0 when nothing was trimmed.
    pub trim_floor: u64,
    /// Its logged versions up to the watermark, oldest first; never empty.
    pub versions: &'a [VersionedRef<'a>],
}

impl<'a> SnapshotView<'a> {
    /// The store as it is at `watermark`: every commit at or below it is published.
    pub(crate) fn new(store: &'a ShardedStore, watermark: u64) -> Self {
        Self {
            store,
            watermark,
            plan: None,
        }
    }

    /// The same without what goes by `plan`.
    pub(crate) fn trimmed_by(self, plan: Option<&'a TrimPlan>) -> Self {
        Self { plan, ..self }
    }

    /// The highest commit version inside.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Calls `visit` with every entity of a keyspace, in the order of run ids and keys.
    ///
    /// # Errors
    /// The first one of `visit`.
    pub fn for_each_entity<E>(
        &self,
        tag: TypeTag,
        mut visit: impl FnMut(EntityVersions<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for shard in self.store.shards() {
            let mut keys: Vec<IndexKey> = Vec::new();
            for partition in 0..INDEX_PARTITION_COUNT {
                shard.index.for_each_key(partition, |key, _| {
                    if key.tag_byte() == tag.number() {
                        keys.push(key.clone());
                    }
                    true
                });
            }
            keys.sort_unstable();
            for key in keys {
                let user_key = key.user_key();
                let key_ref = KeyRef { tag, user_key };
                let (mut nodes, is_cut) = self.kept(&shard, key_ref);
                nodes.retain(|node| !node.is_volatile());
                let trim_floor = match nodes.last() {
                    Some(oldest) if is_cut => oldest.commit_version(),
                    _ => 0,
                };
                let versions: Vec<_> = nodes.iter().rev().map(VersionNode::versioned).collect();
                if !versions.is_empty() {
                    visit(EntityVersions {
                        run: shard.run_id,
                        key: user_key,
                        trim_floor,
                        versions: &versions,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The versions of a key up to the watermark that stay, newest first, and whether there were
    /// older ones.
    fn kept(&self, shard: &RunShard, key: KeyRef<'_>) -> (Vec<Node>, bool) {
        let mut nodes = shard.index.chain(key, self.watermark);
        let was_cut = nodes.last().is_some_and(VersionNode::is_trim_floor);
        let Some((plan, trim)) = self
            .plan
            .and_then(|plan| Some((plan, plan.of_run(shard.run_id)?)))
        else {
            return (nodes, was_cut);
        };
        let count = nodes.len();
        if plan.counts_pending {
            nodes = shard.index.chain(key, u64::MAX);
            nodes.truncate(trim.counting_pending().kept_count(key, &nodes));
            nodes.retain(|node| node.commit_version() <= self.watermark);
        } else {
            nodes.truncate(trim.kept_count(key, &nodes));
        }
        let is_cut = was_cut || nodes.len() < count;
        (nodes, is_cut)
    }

    /// Writes every entity of a keyspace whose versions are commit versions.
    ///
    /// # Errors
    /// When the sink says no.
    pub fn write_entities(
        &self,
        tag: TypeTag,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError> {
        self.for_each_entity(tag, |entity| {
            sink.write(entity.run.as_bytes())?;
            write_u32(sink, entity.key.len())?;
            sink.write(entity.key)?;
            write_u64(sink, entity.trim_floor)?;
            write_u32(sink, entity.versions.len())?;
            for version in entity.versions {
                write_u64(sink, version.commit_version)?;
                write_u64(sink, version.commit_version)?;
                write_u64(sink, version.timestamp_us)?;
                sink.write(&[if version.is_tombstone {
                    FLAG_TOMBSTONE
                } else {
                    0
                }])?;
                write_u64(sink, version.expires_at_us.unwrap_or(0))?;
                write_u32(sink, version.value.len())?;
                sink.write(version.value)?;
            }
            Ok(())
        })
    }
}

/// An empty store that a snapshot is loaded into, before anyone reads.
pub struct SnapshotTarget<'a> {
    store: &'a ShardedStore,
    watermark: u64,
}

impl<'a> SnapshotTarget<'a> {
    pub(crate) fn new(store: &'a ShardedStore, watermark: u64) -> Self {
        Self { store, watermark }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &'a ShardedStore {
        self.store
    }

    /// The highest commit version inside.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Reads what [`SnapshotView::write_entities`] wrote, up to the end of the section. A version
    /// for which `is_sound` says no is refused.
    ///
    /// # Errors
    /// When the section is damaged, or holds what no snapshot of this build does.
    pub fn read_entities(
        &self,
        tag: TypeTag,
        source: &mut dyn BlockSource,
        is_sound: impl Fn(RunId, &[u8], &VersionedRef<'_>) -> bool,
    ) -> Result<(), SnapshotError> {
        let mut before: Option<(RunId, Vec<u8>)> = None;
        let mut shard: Option<Arc<RunShard>> = None;
        let mut value = Vec::new();
        while !source.is_at_end()? {
            let run = RunId(array(source)?);
            let mut key = Vec::new();
            read_bytes(
                source,
                &mut key,
                SNAPSHOT_KEY_LEN_BYTES_MAX,
                "length of a key",
            )?;
            let entity = (run, key);
            if before.as_ref().is_some_and(|before| entity <= *before) {
                return Err(source.meaningless("order of entities"));
            }
            let trim_floor = number_u64(source)?;
            let mut chain: Option<Node> = None;
            let version_count = number_u32(source)?;
            if version_count == 0 {
                return Err(source.meaningless("count of versions"));
            }
            for _ in 0..version_count {
                let version = self.read_version(source, &mut value)?;
                let newest = chain.as_ref().map_or(0, VersionNode::commit_version);
                let is_in_order = newest < version.commit_version;
                if !is_in_order || !is_sound(run, &entity.1, &version) {
                    return Err(source.meaningless("version of an entity"));
                }
                let stamp = Stamp {
                    commit_version: version.commit_version,
                    timestamp_us: version.timestamp_us,
                    is_volatile: false,
                };
                let mut node = match (version.is_tombstone, version.expires_at_us) {
                    (true, _) => Node::tombstone(),
                    (false, None) => Node::with_value(version.value),
                    (false, Some(at_us)) => Node::with_expiry(version.value, at_us),
                };
                if chain.is_none() && trim_floor != 0 {
                    if trim_floor != stamp.commit_version {
                        return Err(source.meaningless("trim floor"));
                    }
                    node.set_trim_floor();
                }
                node.seal(stamp, chain.take());
                chain = Some(node);
            }
            let shard = match &mut shard {
                Some(shard) if shard.run_id == run => shard,
                other => other.insert(self.store.shard_or_new(run)),
            };
            let user_key = entity.1.as_slice();
            if let Some(newest) = chain {
                self.store
                    .load_entity(shard, KeyRef { tag, user_key }, newest);
            }
            before = Some(entity);
        }
        Ok(())
    }

    fn read_version<'v>(
        &self,
        source: &mut dyn BlockSource,
        value: &'v mut Vec<u8>,
    ) -> Result<VersionedRef<'v>, SnapshotError> {
        let own_version = number_u64(source)?;
        let commit_version = number_u64(source)?;
        let timestamp_us = number_u64(source)?;
        let [flags] = array(source)?;
        let expires_at_us = Some(number_u64(source)?).filter(|at_us| *at_us != 0);
        let len_max = SNAPSHOT_VALUE_LEN_BYTES_MAX;
        read_bytes(source, value, len_max, "length of a value")?;
        let is_tombstone = flags == FLAG_TOMBSTONE;
        let is_known = flags & !FLAG_TOMBSTONE == 0;
        let is_inside = own_version == commit_version && commit_version <= self.watermark;
        if is_tombstone && expires_at_us.is_some() {
            return Err(source.meaningless("expiry"));
        }
        if !is_known || !is_inside || (is_tombstone && !value.is_empty()) {
            return Err(source.meaningless("version of an entity"));
        }
        Ok(VersionedRef {
            value,
            commit_version,
            timestamp_us,
            is_tombstone,
            expires_at_us,
        })
    }
}

/// Reads a length and as many bytes; the length is compared with its bound first.
fn read_bytes(
    source: &mut dyn BlockSource,
    bytes: &mut Vec<u8>,
    len_max: usize,
    what: &'static str,
) -> Result<(), SnapshotError> {
    let len = usize::try_from(number_u32(source)?).unwrap_or(usize::MAX);
    if len_max < len {
        return Err(source.meaningless(what));
    }
    bytes.clear();
    bytes.resize(len, 0);
    source.read(bytes)
}
