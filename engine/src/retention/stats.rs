//! What a policy would let go of a run: counted, and left where it is.

use std::sync::Arc;

use in_mem_model::keys::is_system_key;
use in_mem_model::{PrimitiveId, RetentionMoment, RetentionPolicy, RunId, TypeTag, VersionAge};

use super::{PolicyError, policy_at};
use crate::index::{IndexKey, KeyRef};
use crate::limits::INDEX_PARTITION_COUNT;
use crate::pins::Pin;
use crate::runs::Runs;
use crate::shard::RunShard;
use crate::version_node::{Node, VersionNode};

/// How much history a run has, and what of it a policy lets go: a compaction whose watermark is
/// the one here, at this moment, removes exactly that, views that still see it apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionStats {
    /// The policy that was asked about.
    pub policy: RetentionPolicy,
    /// The highest commit version counted: the newest one published.
    pub watermark: u64,
    /// The moment for policies that look at ages, microseconds since the epoch.
    pub now_us: u64,
    /// Entities with at least one version, deleted ones included; not the metadata of the run and
    /// its policy, of which nothing ever goes.
    pub entity_count: u64,
    /// Their versions.
    pub version_count: u64,
    /// Tombstones among those.
    pub tombstone_count: u64,
    /// Bytes of the values of all versions, without what keeping them costs beside.
    pub value_len_bytes: u64,
    /// Versions the policy lets go.
    pub removable_count: u64,
    /// Bytes of their values.
    pub removable_len_bytes: u64,
}

impl Runs<'_> {
    /// Counts the history of a run, and what of it the policy in force lets go. Walks every version
    /// of the run on the calling thread, while reads and writes go on; what it has not met yet may
    /// be newer, but nothing above the watermark is counted.
    ///
    /// # Errors
    /// As [`Self::get_retention_policy`].
    pub fn retention_stats(&self, run: RunId) -> Result<RetentionStats, PolicyError> {
        self.retention_preview(run, None)
    }

    /// The same under another policy, as if it were in force; none for the one that is. Changes
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::get_retention_policy`].
    pub fn retention_preview(
        &self,
        run: RunId,
        policy: Option<RetentionPolicy>,
    ) -> Result<RetentionStats, PolicyError> {
        let pin = Pin::new(self.database.run(run)?.shard);
        let watermark = pin.shard().visible();
        let policy = match policy {
            Some(policy) => policy,
            None => policy_at(
                pin.shard(),
                watermark,
                &self.database.default_retention_policy(),
            )?,
        };
        let now_us = self.database.inner.shared.clock.wall_us();
        let mut walk = Walk {
            shard: pin.shard(),
            moment: RetentionMoment { watermark, now_us },
            stats: RetentionStats {
                policy,
                watermark,
                now_us,
                entity_count: 0,
                version_count: 0,
                tombstone_count: 0,
                value_len_bytes: 0,
                removable_count: 0,
                removable_len_bytes: 0,
            },
        };
        for partition in 0..INDEX_PARTITION_COUNT {
            walk.count_partition(partition);
        }
        Ok(walk.stats)
    }
}

/// A count on its way.
struct Walk<'a> {
    shard: &'a Arc<RunShard>,
    moment: RetentionMoment,
    stats: RetentionStats,
}

impl Walk<'_> {
    /// Counts a part of the keys. Holds those, 8 bytes each, and the chain of one of them.
    fn count_partition(&mut self, partition: usize) {
        let mut keys: Vec<IndexKey> = Vec::new();
        self.shard.index.for_each_key(partition, |key, _| {
            keys.push(key.clone());
            true
        });
        for key in &keys {
            let tag = TypeTag::from_number(key.tag_byte()).filter(|tag| *tag != TypeTag::Run);
            let user_key = key.user_key();
            if let Some(tag) = tag.filter(|_| !is_system_key(user_key)) {
                let nodes = self
                    .shard
                    .index
                    .chain(KeyRef { tag, user_key }, self.moment.watermark);
                self.count_entity(tag.primitive(), &nodes);
            }
        }
    }

    /// Counts one entity, its versions newest first.
    fn count_entity(&mut self, primitive: PrimitiveId, nodes: &[Node]) {
        let ages = nodes.iter().map(|node| VersionAge {
            commit_version: node.commit_version(),
            timestamp_us: node.timestamp_us(),
            is_volatile: node.is_volatile(),
        });
        let stats = &mut self.stats;
        let earliest = stats
            .policy
            .earliest_retained_version(ages, self.moment, primitive);
        let Some(earliest) = earliest else { return };
        stats.entity_count += 1;
        for node in nodes {
            let len_bytes = node.value().len() as u64;
            stats.version_count += 1;
            stats.tombstone_count += u64::from(node.is_tombstone());
            stats.value_len_bytes += len_bytes;
            if node.commit_version() < earliest {
                stats.removable_count += 1;
                stats.removable_len_bytes += len_bytes;
            }
        }
    }
}
