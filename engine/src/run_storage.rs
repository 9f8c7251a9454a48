//! How runs are stored and recovered: the payload of every run entry is the whole metadata after
//! the change, one encoded Object.

use in_mem_model::{PrimitiveId, RunInfo, RunStatus, TypeTag};
use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

use crate::kv_storage::stamp_of;
use crate::registry::{PrimitiveError, PrimitiveStorageExt};
use crate::shard::{RUN_ENTITY, RunShard};
use crate::snapshot_view::{SnapshotTarget, SnapshotView};
use crate::store::ShardedStore;
use crate::version_node::{Node, VersionNode};
use crate::writeset::{MutationKind, entry_type};
use crate::writeset_reader::WalEntry;

/// The Run primitive's part of storage.
pub(crate) struct RunStorage {
    orphan_on_recovery: bool,
}

impl RunStorage {
    pub(crate) fn new(orphan_on_recovery: bool) -> Self {
        Self { orphan_on_recovery }
    }

    /// Sets what the metadata of a recovered run implies.
    fn restore(&self, store: &ShardedStore, shard: &RunShard) -> Result<(), PrimitiveError> {
        let info = shard.index.with_newest(RUN_ENTITY, |node| {
            node.map(|node| RunInfo::decode(node.value())).transpose()
        });
        let Some(info) = info.map_err(|_| index_error())? else {
            return Ok(());
        };
        let mut state = shard.commit.lock();
        state.status = Some(info.status);
        if shard.run_id.is_default() {
            return Ok(());
        }
        if let Some(name) = &info.name
            && !store.names.restore(name, shard.run_id)
        {
            return Err(index_error());
        }
        if info.status == RunStatus::Active {
            let is_orphaned = self.orphan_on_recovery || info.owner.is_some();
            shard.set_recovered(is_orphaned);
            if is_orphaned {
                state.status = Some(RunStatus::Orphaned);
            }
        }
        Ok(())
    }
}

fn index_error() -> PrimitiveError {
    PrimitiveError::IndexRebuild {
        primitive: PrimitiveId::Run.name(),
    }
}

impl PrimitiveStorageExt for RunStorage {
    fn primitive_type_id(&self) -> u8 {
        PrimitiveId::Run.number()
    }

    fn primitive_name(&self) -> &'static str {
        PrimitiveId::Run.name()
    }

    fn wal_entry_types(&self) -> &[u8] {
        &[
            entry_type::RUN_CREATE,
            entry_type::RUN_UPDATE,
            entry_type::RUN_END,
            entry_type::RUN_BEGIN,
        ]
    }

    fn apply_versioned(
        &self,
        store: &ShardedStore,
        entry: &WalEntry<'_>,
    ) -> Result<(), PrimitiveError> {
        let entry_type = entry.entry_type;
        if entry.kind != MutationKind::Put {
            return Err(PrimitiveError::InvalidOperation { entry_type });
        }
        let info = RunInfo::decode(entry.value);
        if !info.is_ok_and(|info| info.id == entry.run_id) {
            return Err(PrimitiveError::Deserialization { entry_type });
        }
        let node = Node::with_value(entry.value);
        store.apply_versioned(entry.run_id, RUN_ENTITY, node, stamp_of(entry));
        Ok(())
    }

    fn snapshot_serialize(
        &self,
        view: &SnapshotView<'_>,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError> {
        view.write_entities(TypeTag::Run, sink)
    }

    fn snapshot_deserialize(
        &self,
        target: &SnapshotTarget<'_>,
        source: &mut dyn BlockSource,
    ) -> Result<(), SnapshotError> {
        target.read_entities(TypeTag::Run, source, |run, key, version| {
            let info = RunInfo::decode(version.value);
            key.is_empty() && info.is_ok_and(|info| info.id == run)
        })
    }

    fn rebuild_indexes(&self, store: &ShardedStore) -> Result<(), PrimitiveError> {
        for shard in store.shards() {
            self.restore(store, &shard)?;
        }
        Ok(())
    }
}
