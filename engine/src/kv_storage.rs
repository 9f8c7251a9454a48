//! How KV is stored and recovered. What a Put holds is drawn in `expiry.rs`.

use in_mem_model::{PrimitiveId, TypeTag, ValueRef};
use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

use crate::expiry;
use crate::index::KeyRef;
use crate::registry::{PrimitiveError, PrimitiveStorageExt};
use crate::snapshot_view::{SnapshotTarget, SnapshotView};
use crate::store::ShardedStore;
use crate::version_node::{Node, Stamp, VersionNode};
use crate::writeset::{MutationKind, entry_type};
use crate::writeset_reader::WalEntry;

/// The KV primitive's part of storage: a Put holds the encoded value, a Delete nothing.
pub(crate) struct KvStorage;

impl PrimitiveStorageExt for KvStorage {
    fn primitive_type_id(&self) -> u8 {
        PrimitiveId::Kv.number()
    }

    fn primitive_name(&self) -> &'static str {
        PrimitiveId::Kv.name()
    }

    fn wal_entry_types(&self) -> &[u8] {
        &[entry_type::KV_PUT, entry_type::KV_DELETE]
    }

    fn apply_versioned(
        &self,
        store: &ShardedStore,
        entry: &WalEntry<'_>,
    ) -> Result<(), PrimitiveError> {
        let entry_type = entry.entry_type;
        let damaged = PrimitiveError::Deserialization { entry_type };
        let node = match (entry_type, entry.kind) {
            (entry_type::KV_PUT, MutationKind::Put) => {
                let (expires_at_us, value) = expiry::split(entry.value).ok_or(damaged)?;
                if ValueRef::new(value).is_err() {
                    return Err(PrimitiveError::Deserialization { entry_type });
                }
                match expires_at_us {
                    Some(expires_at_us) => Node::with_expiry(value, expires_at_us),
                    None => Node::with_value(value),
                }
            }
            (entry_type::KV_DELETE, MutationKind::Delete) => Node::tombstone(),
            _ => return Err(PrimitiveError::InvalidOperation { entry_type }),
        };
        store.apply_versioned(entry.run_id, KeyRef::kv(entry.body), node, stamp_of(entry));
        Ok(())
    }

    fn snapshot_serialize(
        &self,
        view: &SnapshotView<'_>,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError> {
        view.write_entities(TypeTag::Kv, sink)
    }

    fn snapshot_deserialize(
        &self,
        target: &SnapshotTarget<'_>,
        source: &mut dyn BlockSource,
    ) -> Result<(), SnapshotError> {
        target.read_entities(TypeTag::Kv, source, |_, _, version| {
            version.is_tombstone || ValueRef::new(version.value).is_ok()
        })
    }
}

/// What an entry's record gives to the version it makes.
pub(crate) fn stamp_of(entry: &WalEntry<'_>) -> Stamp {
    Stamp {
        commit_version: entry.commit_version,
        timestamp_us: entry.timestamp_us,
        is_volatile: false,
    }
}
