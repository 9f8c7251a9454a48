//! A SHA-256 over everything logged that a reader can see, at one commit version, while others go
//! on committing.
//!
//! ```text
//! digest := SHA-256( "INMEM_STATE" | version u8 (= 1) | parts, by ascending primitive id )
//! part   := primitive id u8 | len u64 | SHA-256 of the section
//! ```
//!
//! A section is what the primitive writes into a snapshot at that version, before the codec: every
//! retained version with its number, its time and its bytes, tombstones, trim floors, and the whole
//! metadata of runs, sorted by run id and key. A primitive that holds nothing has no part, so that a
//! build with more primitives gives the same number. Integers are little-endian.
//!
//! So two databases have the same digest if and only if every read of logged data, of now and of
//! every retained version, answers the same in both. It does not depend on which part came from a
//! snapshot and which from the log, on the order of runs in memory, on the codec, or on the highest
//! version issued. Not inside: volatile versions, which no restart brings back; what is derived
//! (names, statuses of runs nobody owns any more); and the answers kept for exactly-once requests.
//! Those are no reader's, they are bounded and forgotten by rules that volatile requests take part
//! in, and a copy that lacked one would refuse a repeat, never execute it twice.

use std::io;
use std::ops::ControlFlow;

use in_mem_model::TypeTag;
use in_mem_model::keys::is_system_key;
use in_mem_snapshot::{BlockSink, SnapshotError};
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::registry::PrimitiveRegistry;
use crate::snapshot_view::SnapshotView;
use crate::store::ShardedStore;

const MAGIC: &[u8; 11] = b"INMEM_STATE";

/// The version of the digest this build computes. 1: as drawn above.
const DIGEST_VERSION: u8 = 1;

/// Bytes hashed before something else has its turn.
const STEP_LEN_BYTES: usize = 1 << 20;

/// The logged state of a database at one commit version, in 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// Every logged commit at or below it is inside, none above it. Not part of the hash: a
    /// reopened database goes on at a higher version with the same state.
    pub watermark: u64,
    /// SHA-256, as the module draws it.
    pub sha256: [u8; 32],
}

impl StateDigest {
    /// The hash in lower-case hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.sha256.iter().fold(String::new(), |mut text, byte| {
            for nibble in [byte >> 4, byte & 0x0F] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
            }
            text
        })
    }
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// Commits at or below the version are not all published yet.
    #[error("commits are published up to version {watermark}, not up to {version}")]
    NotPublished {
        /// The version asked for.
        version: u64,
        /// How far every commit is published.
        watermark: u64,
    },
    /// A primitive could not say what it holds.
    #[error("a primitive could not be read")]
    Primitive(#[source] SnapshotError),
}

/// How much logged state there is at one commit version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Runs with metadata or entities, count.
    pub runs: u64,
    /// Entities whose newest version is no tombstone, metadata and policies of runs not counted.
    pub entities: u64,
    /// Retained versions of all entities, tombstones and metadata of runs included.
    pub versions: u64,
    /// Tombstones among them.
    pub tombstones: u64,
}

/// Takes a section in and keeps its hash and its length.
struct HashSink<'a> {
    hash: Sha256,
    len_bytes: u64,
    /// Bytes until `between` is called again.
    left_len_bytes: usize,
    between: &'a mut dyn FnMut() -> ControlFlow<()>,
}

impl BlockSink for HashSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.hash.update(bytes);
        self.len_bytes += bytes.len() as u64;
        if let Some(left) = self.left_len_bytes.checked_sub(bytes.len()) {
            self.left_len_bytes = left;
            return Ok(());
        }
        self.left_len_bytes = STEP_LEN_BYTES;
        match (self.between)() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Io {
                path: "digest".to_owned(),
                source: io::ErrorKind::Interrupted.into(),
            }),
        }
    }
}

/// The digest of a store at a version: every commit at or below it is published.
pub(crate) fn digest_of(
    store: &ShardedStore,
    registry: &PrimitiveRegistry,
    watermark: u64,
) -> Result<StateDigest, SnapshotError> {
    digest_between(
        store,
        registry,
        watermark,
        &mut || ControlFlow::Continue(()),
    )
}

/// The same, with something to be done every now and then; it may say that nobody wants the digest
/// any more, which is an error then.
pub(crate) fn digest_between(
    store: &ShardedStore,
    registry: &PrimitiveRegistry,
    watermark: u64,
    between: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<StateDigest, SnapshotError> {
    let view = SnapshotView::new(store, watermark);
    let mut whole = Sha256::new();
    whole.update(MAGIC);
    whole.update([DIGEST_VERSION]);
    for primitive in registry.all() {
        let mut sink = HashSink {
            hash: Sha256::new(),
            len_bytes: 0,
            left_len_bytes: STEP_LEN_BYTES,
            between: &mut *between,
        };
        primitive.snapshot_serialize(&view, &mut sink)?;
        if sink.len_bytes != 0 {
            whole.update([primitive.primitive_type_id()]);
            whole.update(sink.len_bytes.to_le_bytes());
            whole.update(sink.hash.finalize());
        }
    }
    Ok(StateDigest {
        watermark,
        sha256: whole.finalize().into(),
    })
}

/// The counts of a store at a version: every commit at or below it is published.
pub(crate) fn counts_of(store: &ShardedStore, watermark: u64) -> StateCounts {
    let view = SnapshotView::new(store, watermark);
    let mut counts = StateCounts::default();
    let mut runs = std::collections::BTreeSet::new();
    for tag in TypeTag::ALL {
        let counted = view.for_each_entity(tag, |entity| {
            runs.insert(entity.run);
            let is_live = entity.versions.last().is_some_and(|it| !it.is_tombstone);
            let is_users = tag != TypeTag::Run && !is_system_key(entity.key);
            counts.entities += u64::from(is_live && is_users);
            counts.versions += entity.versions.len() as u64;
            let tombstones = entity.versions.iter().filter(|it| it.is_tombstone);
            counts.tombstones += tombstones.count() as u64;
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = counted;
    }
    counts.runs = runs.len() as u64;
    counts
}

impl Database {
    /// The digest of everything logged, at the highest version such that every commit at or below
    /// it is published: all that were answered before the call are inside. Reads and writes go on;
    /// the calling thread walks every retained version, at about the speed of a checkpoint, and
    /// holds the keys of one run at a time; a compaction that is about to trim waits for it. Equal digests mean equal state, also of a copy, after a
    /// checkpoint, after a restart. Nothing logged, as in an `InMemory` database, is one digest too.
    ///
    /// # Errors
    /// When a primitive of one's own cannot be read.
    pub fn digest(&self) -> Result<StateDigest, DigestError> {
        self.digest_at(self.global_watermark())
    }

    /// The same at an earlier commit version: what [`Self::digest`] would have said when it was the
    /// last one published, as long as nothing of that time has been trimmed since.
    ///
    /// # Errors
    /// When commits at or below the version are not all published.
    pub fn digest_at(&self, version: u64) -> Result<StateDigest, DigestError> {
        let watermark = self.global_watermark();
        if watermark < version {
            return Err(DigestError::NotPublished { version, watermark });
        }
        let _chains = self.store().chains.read();
        digest_of(self.store(), &self.inner.registry, version).map_err(DigestError::Primitive)
    }

    /// Counts of what [`Self::digest`] is over, at the same cost.
    #[must_use]
    pub fn state_counts(&self) -> StateCounts {
        let _chains = self.store().chains.read();
        counts_of(self.store(), self.global_watermark())
    }
}
