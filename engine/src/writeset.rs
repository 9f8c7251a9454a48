//! Writeset version 1: the mutations of one commit as the log carries them. Little-endian.
//!
//! ```text
//! writeset := count u32, then count entries
//! entry    := kind u8 | entry_type u8 | payload_version u8 (= 1)
//!             | entity_ref (absent when kind = 0) | version u64 | value_len u32 | value
//! kind     := 0 control, 1 Put, 2 Delete, 3 Append
//! entity_ref := primitive id u8 | run_id 16 | body
//! body     := KV, JSON, State and the free ids 8..: length u32 + key; Event: sequence u64;
//!             Trace: 16 bytes; Run: nothing; Vector: length u32 + collection + vector id u64
//! ```
//!
//! `version` is the entity's own version; a Delete carries its tombstone's. The last entry is the
//! commit marker: kind 0, type 0x00, version = the record's txn_id, no value; a writeset without
//! it is not a committed transaction. Directly before it may stand one commit-attributes entry:
//! kind 0, type 0x03. Every length is checked, nothing may follow the marker. A crash leaves
//! either a whole record or none (the record's checksum covers these bytes), so an incomplete
//! writeset is damage or the work of another writer.
//!
//! Entries are encoded before the critical section; inside it only versions, the count and the
//! marker are filled in, and entries that turned out not to write are closed up in place.

use in_mem_model::{PrimitiveId, RunId};

use crate::expiry;

/// The kinds of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationKind {
    /// Says something about the record itself.
    Control,
    /// Sets a value.
    Put,
    /// Writes a tombstone.
    Delete,
    /// Adds to an ordered log.
    Append,
}

/// Entry types of this build, by the registry of `storage.md` 3.4.
pub mod entry_type {
    /// The marker that ends a committed transaction.
    pub const TRANSACTION_COMMIT: u8 = 0x00;
    /// Accepted and ignored; never written.
    pub const TRANSACTION_ABORT: u8 = 0x01;
    /// Accepted and ignored; never written.
    pub const SNAPSHOT_MARKER: u8 = 0x02;
    /// What a client said about a commit.
    pub const COMMIT_ATTRIBUTES: u8 = 0x03;
    /// A KV value.
    pub const KV_PUT: u8 = 0x10;
    /// A KV tombstone.
    pub const KV_DELETE: u8 = 0x11;
    /// A run begins to exist.
    pub const RUN_CREATE: u8 = 0x60;
    /// A run's metadata or status changes without ending it.
    pub const RUN_UPDATE: u8 = 0x61;
    /// A run leaves Active and Paused.
    pub const RUN_END: u8 = 0x62;
    /// A run becomes Active again.
    pub const RUN_BEGIN: u8 = 0x63;
    /// Highest of the core types.
    pub(crate) const CORE_MAX: u8 = 0x0F;
}

impl MutationKind {
    pub(crate) fn as_u8(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Put => 1,
            Self::Delete => 2,
            Self::Append => 3,
        }
    }

    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Control),
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Append),
            _ => None,
        }
    }
}

/// The payload version of every entry type; [`crate::WRITESET_FORMAT_VERSION`] to others.
pub const PAYLOAD_VERSION: u8 = 1;

const COUNT_LEN_BYTES: usize = size_of::<u32>();
const KIND_LEN_BYTES: usize = 3;
const REF_HEAD_LEN_BYTES: usize = size_of::<u8>() + size_of::<[u8; 16]>();
const KEY_LEN_LEN_BYTES: usize = size_of::<u32>();
const VERSION_LEN_BYTES: usize = size_of::<u64>();
const VALUE_LEN_LEN_BYTES: usize = size_of::<u32>();

/// The commit marker, bytes.
const MARKER_LEN_BYTES: usize = KIND_LEN_BYTES + VERSION_LEN_BYTES + VALUE_LEN_LEN_BYTES;

/// The count and the marker: what a writeset without mutations is long, bytes.
pub(crate) const EMPTY_LEN_BYTES: usize = COUNT_LEN_BYTES + MARKER_LEN_BYTES;

/// What an entry costs beside its key and value, bytes.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = KIND_LEN_BYTES
    + REF_HEAD_LEN_BYTES
    + KEY_LEN_LEN_BYTES
    + VERSION_LEN_BYTES
    + VALUE_LEN_LEN_BYTES;

/// What the commit-attributes entry costs beside its value, bytes.
pub(crate) const CONTROL_OVERHEAD_BYTES: usize = MARKER_LEN_BYTES;

/// The entity an entry is about, in the parts this build writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EntityRef<'a> {
    /// A KV key.
    Kv(&'a [u8]),
    /// The run itself.
    Run,
}

/// Where one entry lies in the buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    version_at: usize,
    end: usize,
}

impl Span {
    /// Of a step that has no entry.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Encodes one writeset into a recycled buffer.
pub(crate) struct WritesetWriter {
    bytes: Vec<u8>,
    run_id: RunId,
    /// Entries from here on were pushed inside the critical section, in whatever order.
    late_from: usize,
}

impl WritesetWriter {
    /// Begins in `bytes`, which is emptied; its capacity is kept.
    pub(crate) fn begin(mut bytes: Vec<u8>, run_id: RunId) -> Self {
        bytes.clear();
        bytes.extend_from_slice(&[0; COUNT_LEN_BYTES]);
        Self {
            bytes,
            run_id,
            late_from: usize::MAX,
        }
    }

    /// Makes room for `len_bytes` more and the marker, so that nothing below allocates.
    pub(crate) fn reserve(&mut self, len_bytes: usize) {
        self.bytes.reserve(len_bytes + MARKER_LEN_BYTES);
    }

    /// Bytes so far, and those of the marker to come.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len() + MARKER_LEN_BYTES
    }

    /// Appends one entry without its version.
    ///
    /// # Panics
    /// When a key or value exceeds 4 GiB; limits are checked before.
    pub(crate) fn push(
        &mut self,
        kind: MutationKind,
        entry_type: u8,
        entity: EntityRef<'_>,
        value: &[u8],
    ) -> Span {
        self.push_parts(kind, entry_type, entity, &[], value)
    }

    /// Appends the Put of an entry that expires, without its version.
    pub(crate) fn push_expiring(&mut self, key: &[u8], value: &[u8], expires_at_us: u64) -> Span {
        let head = expiry::head(expires_at_us);
        let kind = MutationKind::Put;
        self.push_parts(kind, entry_type::KV_PUT, EntityRef::Kv(key), &head, value)
    }

    /// Says anew when the entry of [`Self::push_expiring`] expires.
    pub(crate) fn set_expiry(&mut self, span: Span, expires_at_us: u64) {
        let head = expiry::head(expires_at_us);
        let at = span.version_at + VERSION_LEN_BYTES + VALUE_LEN_LEN_BYTES;
        if let Some(target) = self.bytes.get_mut(at..at + head.len()) {
            target.copy_from_slice(&head);
        }
    }

    /// The head and the value make the payload.
    fn push_parts(
        &mut self,
        kind: MutationKind,
        entry_type: u8,
        entity: EntityRef<'_>,
        head: &[u8],
        value: &[u8],
    ) -> Span {
        let start = self.bytes.len();
        self.bytes
            .extend_from_slice(&[kind.as_u8(), entry_type, PAYLOAD_VERSION]);
        match entity {
            EntityRef::Kv(key) => {
                self.bytes.push(PrimitiveId::Kv.number());
                self.bytes.extend_from_slice(self.run_id.as_bytes());
                self.bytes
                    .extend_from_slice(&len_u32(key.len()).to_le_bytes());
                self.bytes.extend_from_slice(key);
            }
            EntityRef::Run => {
                self.bytes.push(PrimitiveId::Run.number());
                self.bytes.extend_from_slice(self.run_id.as_bytes());
            }
        }
        let version_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; VERSION_LEN_BYTES]);
        self.bytes
            .extend_from_slice(&len_u32(head.len() + value.len()).to_le_bytes());
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(value);
        Span {
            start,
            version_at,
            end: self.bytes.len(),
        }
    }

    /// Appends the commit-attributes entry, without its version: the last one, inside the critical
    /// section. `write` appends its value.
    pub(crate) fn push_attributes(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[
            MutationKind::Control.as_u8(),
            entry_type::COMMIT_ATTRIBUTES,
            PAYLOAD_VERSION,
        ]);
        let version_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; VERSION_LEN_BYTES]);
        let value_len_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; VALUE_LEN_LEN_BYTES]);
        let value_at = self.bytes.len();
        write(&mut self.bytes);
        let value_len = len_u32(self.bytes.len() - value_at).to_le_bytes();
        if let Some(target) = self.bytes.get_mut(value_len_at..value_at) {
            target.copy_from_slice(&value_len);
        }
        Span {
            start,
            version_at,
            end: self.bytes.len(),
        }
    }

    /// All entries whose value is known before the critical section have been pushed.
    pub(crate) fn static_entries_end(&mut self) {
        self.late_from = self.bytes.len();
    }

    /// Closes the gaps of entries that do not write, fills in the versions, the count and the
    /// marker. `spans` are in the order they were pushed before the critical section, and
    /// then those pushed inside it; each with whether its entry stays. Allocates nothing after
    /// [`Self::reserve`].
    pub(crate) fn finish(
        mut self,
        commit_version: u64,
        spans: impl Iterator<Item = (Span, bool)> + Clone,
    ) -> Vec<u8> {
        let mut end = COUNT_LEN_BYTES;
        let mut count = 1_u32;
        let late_from = self.late_from;
        let early = spans.clone().filter(|(span, _)| span.start < late_from);
        let late = spans.filter(|(span, _)| late_from <= span.start);
        for (span, stays) in early.chain(late) {
            if !stays || span.is_empty() {
                continue;
            }
            debug_assert!(end <= span.start, "entries are closed up towards the front");
            if let Some(version) = self
                .bytes
                .get_mut(span.version_at..span.version_at + VERSION_LEN_BYTES)
            {
                version.copy_from_slice(&commit_version.to_le_bytes());
            }
            if end != span.start {
                self.bytes.copy_within(span.start..span.end, end);
            }
            end += span.end - span.start;
            count += 1;
        }
        self.bytes.truncate(end);
        self.bytes.extend_from_slice(&[
            MutationKind::Control.as_u8(),
            entry_type::TRANSACTION_COMMIT,
            PAYLOAD_VERSION,
        ]);
        self.bytes.extend_from_slice(&commit_version.to_le_bytes());
        self.bytes.extend_from_slice(&[0; VALUE_LEN_LEN_BYTES]);
        if let Some(target) = self.bytes.get_mut(..COUNT_LEN_BYTES) {
            target.copy_from_slice(&count.to_le_bytes());
        }
        self.bytes
    }

    /// Gives the buffer back unused.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("keys and values are shorter than 4 GiB")
}
