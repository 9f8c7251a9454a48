//! The extension point of storage: each primitive brings its entry types and applies its own
//! entries. Recovery knows primitives only through this registry.

use std::sync::Arc;

use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

use crate::snapshot_view::{SnapshotTarget, SnapshotView};
use crate::store::ShardedStore;
use crate::writeset::entry_type::CORE_MAX;
use crate::writeset_reader::WalEntry;

/// What a primitive must be able to do to be stored and recovered.
pub trait PrimitiveStorageExt: Send + Sync {
    /// Its frozen id: 1 KV, 2 JSON, 3 Event, 4 State, 5 Trace, 6 Run, 7 Vector, 8 to 255 free.
    fn primitive_type_id(&self) -> u8;

    /// Its name, for logs.
    fn primitive_name(&self) -> &'static str;

    /// The entry types it owns, all inside its range.
    fn wal_entry_types(&self) -> &[u8];

    /// Applies one entry of a committed record with the versions and the time stored in it.
    /// Deterministic, and idempotent: applying it again changes nothing.
    ///
    /// # Errors
    /// When the entry cannot be of this primitive's making; the log is damaged.
    fn apply_versioned(
        &self,
        store: &ShardedStore,
        entry: &WalEntry<'_>,
    ) -> Result<(), PrimitiveError>;

    /// Writes everything that logged commits up to the view's watermark have made: every retained
    /// version, tombstones included, and nothing that is derived. Equal content gives equal bytes.
    ///
    /// # Errors
    /// When the sink says no, or the content cannot be written; the checkpoint fails then.
    fn snapshot_serialize(
        &self,
        view: &SnapshotView<'_>,
        sink: &mut dyn BlockSink,
    ) -> Result<(), SnapshotError>;

    /// Reads what [`Self::snapshot_serialize`] wrote, up to the end of the section, into an empty
    /// store.
    ///
    /// # Errors
    /// When the section is damaged or holds what this primitive does not write.
    fn snapshot_deserialize(
        &self,
        target: &SnapshotTarget<'_>,
        source: &mut dyn BlockSource,
    ) -> Result<(), SnapshotError>;

    /// Rebuilds what is derived from the entries, once all are applied.
    ///
    /// # Errors
    /// When the recovered state contradicts itself.
    fn rebuild_indexes(&self, store: &ShardedStore) -> Result<(), PrimitiveError> {
        let _ = store;
        Ok(())
    }
}

/// Why an entry cannot be applied or an index not be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrimitiveError {
    /// The payload is not what the entry type holds.
    #[error("payload of entry type {entry_type:#04x} cannot be decoded")]
    Deserialization {
        /// The entry type.
        entry_type: u8,
    },
    /// The primitive does not own the entry type.
    #[error("entry type {entry_type:#04x} is not of this primitive")]
    UnknownEntryType {
        /// The entry type.
        entry_type: u8,
    },
    /// The kind does not fit the entry type.
    #[error("entry type {entry_type:#04x} does not allow this kind of mutation")]
    InvalidOperation {
        /// The entry type.
        entry_type: u8,
    },
    /// Two recovered entities claim one place in an index.
    #[error("index of {primitive} cannot be rebuilt")]
    IndexRebuild {
        /// Whose index.
        primitive: &'static str,
    },
}

/// Why a primitive was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The id is taken, or reserved for the snapshot's own section.
    #[error("primitive id {id} is taken")]
    RepeatedId {
        /// The id.
        id: u8,
    },
    /// An entry type is owned already.
    #[error("entry type {entry_type:#04x} is taken")]
    OverlappingEntryType {
        /// The entry type.
        entry_type: u8,
    },
    /// An entry type lies outside the range of its owner.
    #[error("entry type {entry_type:#04x} is outside the range of primitive {id}")]
    OutOfRange {
        /// The id.
        id: u8,
        /// The entry type.
        entry_type: u8,
    },
}

/// The primitives of a database, by ascending id.
#[derive(Default, Clone)]
pub struct PrimitiveRegistry {
    primitives: Vec<Arc<dyn PrimitiveStorageExt>>,
}

impl PrimitiveRegistry {
    /// A registry without primitives.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a primitive.
    ///
    /// # Errors
    /// When its id or an entry type is taken, or an entry type is outside its range. The registry
    /// stays as it was.
    pub fn register(
        &mut self,
        primitive: Arc<dyn PrimitiveStorageExt>,
    ) -> Result<(), RegisterError> {
        let id = primitive.primitive_type_id();
        if id == 0 || self.get(id).is_some() {
            return Err(RegisterError::RepeatedId { id });
        }
        for &entry_type in primitive.wal_entry_types() {
            if self.knows_entry_type(entry_type) {
                return Err(RegisterError::OverlappingEntryType { entry_type });
            }
            if range_owner(entry_type).is_none_or(|owner| owner.is_some_and(|owner| owner != id)) {
                return Err(RegisterError::OutOfRange { id, entry_type });
            }
            // The free range belongs to the free ids alone.
            if range_owner(entry_type) == Some(None) && id <= LAST_OWN_ID {
                return Err(RegisterError::OutOfRange { id, entry_type });
            }
        }
        self.primitives.push(primitive);
        self.primitives
            .sort_by_key(|primitive| primitive.primitive_type_id());
        Ok(())
    }

    /// The primitive of an id.
    #[must_use]
    pub fn get(&self, id: u8) -> Option<&dyn PrimitiveStorageExt> {
        self.all()
            .find(|primitive| primitive.primitive_type_id() == id)
    }

    /// The primitive that owns an entry type.
    #[must_use]
    pub fn for_entry_type(&self, entry_type: u8) -> Option<&dyn PrimitiveStorageExt> {
        self.all()
            .find(|primitive| primitive.wal_entry_types().contains(&entry_type))
    }

    /// All primitives, by ascending id.
    pub fn all(&self) -> impl Iterator<Item = &dyn PrimitiveStorageExt> {
        self.primitives.iter().map(|primitive| &**primitive)
    }

    /// Their ids, ascending.
    pub fn type_ids(&self) -> impl Iterator<Item = u8> {
        self.all().map(PrimitiveStorageExt::primitive_type_id)
    }

    /// True when some primitive owns the entry type.
    #[must_use]
    pub fn knows_entry_type(&self, entry_type: u8) -> bool {
        self.for_entry_type(entry_type).is_some()
    }
}

/// The highest frozen primitive id.
const LAST_OWN_ID: u8 = 7;

/// Entry types from here on belong to the free ids.
const FREE_RANGE_FIRST: u8 = 0x80;

/// Entry types from here on are internal.
const INTERNAL_RANGE_FIRST: u8 = 0xF0;

/// Who may own an entry type: nobody (`None`), any free id (`Some(None)`), or one primitive.
fn range_owner(entry_type: u8) -> Option<Option<u8>> {
    match entry_type {
        0..=CORE_MAX | INTERNAL_RANGE_FIRST.. => None,
        FREE_RANGE_FIRST.. => Some(None),
        _ => Some(Some(entry_type >> 4)),
    }
}
