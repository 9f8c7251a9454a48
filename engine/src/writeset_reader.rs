//! Reads a writeset back. The bytes may come from a damaged or foreign file: every length is
//! compared with what remains, and nothing is believed. The format is drawn in `writeset.rs`.

use in_mem_model::RunId;

use crate::attributes::{Attributes, read_attributes};
use crate::once::OnceRequest;
use crate::registry::PrimitiveRegistry;
use crate::writeset::{MutationKind, PAYLOAD_VERSION, entry_type};

/// One mutation of a record, for the primitive that owns its entry type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalEntry<'a> {
    /// What it does.
    pub kind: MutationKind,
    /// Which of the owner's entry types.
    pub entry_type: u8,
    /// The run of the record.
    pub run_id: RunId,
    /// The entity within the run: a key, a sequence, an id, by primitive; without its length.
    pub body: &'a [u8],
    /// The entity's own version.
    pub version: u64,
    /// The payload.
    pub value: &'a [u8],
    /// The record's commit version.
    pub commit_version: u64,
    /// The record's time, microseconds since the epoch.
    pub timestamp_us: u64,
}

/// What the record says beside its writeset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHead {
    pub(crate) run_id: RunId,
    pub(crate) commit_version: u64,
    pub(crate) timestamp_us: u64,
}

/// Why a writeset cannot be read. Nothing of its record may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WritesetError {
    /// It ends inside an entry.
    #[error("writeset ends at {offset} bytes inside an entry")]
    InsufficientData {
        /// Where, bytes from the writeset's start.
        offset: usize,
    },
    /// An unknown kind, payload version, or a control entry out of place.
    #[error("invalid tag {tag} at {offset} bytes")]
    InvalidTag {
        /// The byte.
        tag: u8,
        /// Where, bytes from the writeset's start.
        offset: usize,
    },
    /// The entity is not of the record's run, or of another primitive than its entry type.
    #[error("invalid entity reference at {offset} bytes")]
    InvalidEntityRef {
        /// Where, bytes from the writeset's start.
        offset: usize,
    },
    /// No primitive of this build knows the entry type.
    #[error("unknown entry type {entry_type:#04x}")]
    UnknownEntryType {
        /// The entry type.
        entry_type: u8,
    },
    /// The commit marker is missing, or of another commit: the transaction never committed.
    #[error("commit marker is missing")]
    MissingCommit,
    /// Bytes follow the last entry.
    #[error("{count} bytes follow the commit marker")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// What becomes of a mutation whose entry type no primitive of this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The whole record is refused.
    Refused,
    /// It is passed over. For reading only: the record is applied without it.
    Skipped,
}

/// The mutations of one record, in order.
#[derive(Debug, Default)]
pub(crate) struct Mutations<'a> {
    pub(crate) entries: Vec<WalEntry<'a>>,
    /// Mutations of unknown types that were passed over.
    pub(crate) skipped_count: u64,
    /// The exactly-once request that made the commit, and its encoded result.
    pub(crate) once: Option<(OnceRequest, &'a [u8])>,
}

/// Reads the mutations of one record, all or nothing.
pub(crate) fn read_writeset<'a>(
    bytes: &'a [u8],
    head: RecordHead,
    registry: &PrimitiveRegistry,
    unknown: Unknown,
) -> Result<Mutations<'a>, WritesetError> {
    let mut reader = Reader {
        bytes,
        at: 0,
        unknown,
    };
    let count = reader.u32()?;
    let mut mutations = Mutations::default();
    let mut is_committed = false;
    let mut has_attributes = false;
    for _ in 0..count {
        if is_committed {
            return Err(WritesetError::TrailingBytes {
                count: reader.remaining(),
            });
        }
        let offset = reader.at;
        match reader.entry(head, registry)? {
            ReadEntry::Marker => is_committed = true,
            // The attributes stand once, directly before the marker.
            _ if has_attributes => {
                let tag = entry_type::COMMIT_ATTRIBUTES;
                return Err(WritesetError::InvalidTag { tag, offset });
            }
            ReadEntry::Attributes(attributes) => {
                has_attributes = true;
                mutations.once = attributes.once();
            }
            ReadEntry::Mutation(entry) => mutations.entries.push(entry),
            ReadEntry::Unknown => mutations.skipped_count += 1,
            ReadEntry::Ignored => {}
        }
    }
    if !is_committed {
        return Err(WritesetError::MissingCommit);
    }
    match reader.remaining() {
        0 => Ok(mutations),
        count => Err(WritesetError::TrailingBytes { count }),
    }
}

enum ReadEntry<'a> {
    Mutation(WalEntry<'a>),
    Marker,
    Attributes(Attributes<'a>),
    Unknown,
    Ignored,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    unknown: Unknown,
}

impl<'a> Reader<'a> {
    fn entry(
        &mut self,
        head: RecordHead,
        registry: &PrimitiveRegistry,
    ) -> Result<ReadEntry<'a>, WritesetError> {
        let offset = self.at;
        let kind_byte = self.u8()?;
        let kind = MutationKind::from_u8(kind_byte).ok_or(WritesetError::InvalidTag {
            tag: kind_byte,
            offset,
        })?;
        let entry_type = self.u8()?;
        let payload_version = self.u8()?;
        let owner = registry.for_entry_type(entry_type);
        if kind != MutationKind::Control && owner.is_none() && self.unknown == Unknown::Skipped {
            return self.skip_mutation();
        }
        if payload_version != PAYLOAD_VERSION {
            return Err(WritesetError::InvalidTag {
                tag: payload_version,
                offset,
            });
        }
        if kind == MutationKind::Control {
            return self.control(entry_type, head);
        }
        let owner = owner.ok_or(WritesetError::UnknownEntryType { entry_type })?;
        let ref_offset = self.at;
        let primitive_id = self.u8()?;
        let run_bytes = self.take(16)?;
        if primitive_id != owner.primitive_type_id() || run_bytes != head.run_id.as_bytes() {
            return Err(WritesetError::InvalidEntityRef { offset: ref_offset });
        }
        let body = self.body(primitive_id)?;
        let version = self.u64()?;
        let value = self.prefixed()?;
        Ok(ReadEntry::Mutation(WalEntry {
            kind,
            entry_type,
            run_id: head.run_id,
            body,
            version,
            value,
            commit_version: head.commit_version,
            timestamp_us: head.timestamp_us,
        }))
    }

    /// Passes over a mutation that nobody here understands.
    fn skip_mutation(&mut self) -> Result<ReadEntry<'a>, WritesetError> {
        let primitive_id = self.u8()?;
        self.take(16)?;
        self.body(primitive_id)?;
        self.u64()?;
        self.prefixed()?;
        Ok(ReadEntry::Unknown)
    }

    fn control(&mut self, kind: u8, head: RecordHead) -> Result<ReadEntry<'a>, WritesetError> {
        let version = self.u64()?;
        let value_offset = self.at + size_of::<u32>();
        let value = self.prefixed()?;
        match kind {
            entry_type::TRANSACTION_COMMIT => {
                if version == head.commit_version && value.is_empty() {
                    Ok(ReadEntry::Marker)
                } else {
                    Err(WritesetError::MissingCommit)
                }
            }
            entry_type::TRANSACTION_ABORT | entry_type::SNAPSHOT_MARKER => Ok(ReadEntry::Ignored),
            entry_type::COMMIT_ATTRIBUTES => {
                let attributes = read_attributes(value, value_offset)?;
                Ok(ReadEntry::Attributes(attributes))
            }
            _ if self.unknown == Unknown::Skipped => Ok(ReadEntry::Unknown),
            entry_type => Err(WritesetError::UnknownEntryType { entry_type }),
        }
    }

    fn body(&mut self, primitive_id: u8) -> Result<&'a [u8], WritesetError> {
        match primitive_id {
            3 => self.take(size_of::<u64>()),
            5 => self.take(16),
            6 => Ok(&[]),
            7 => {
                let start = self.at;
                self.prefixed()?;
                self.u64()?;
                Ok(self.bytes.get(start..self.at).unwrap_or(&[]))
            }
            _ => self.prefixed(),
        }
    }

    fn prefixed(&mut self) -> Result<&'a [u8], WritesetError> {
        let len = self.u32()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn u8(&mut self) -> Result<u8, WritesetError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, WritesetError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WritesetError> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WritesetError> {
        let taken = self.take(N)?;
        taken
            .first_chunk()
            .copied()
            .ok_or(WritesetError::InsufficientData { offset: self.at })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WritesetError> {
        let offset = self.at;
        let end = offset
            .checked_add(len)
            .ok_or(WritesetError::InsufficientData { offset })?;
        let taken = self
            .bytes
            .get(offset..end)
            .ok_or(WritesetError::InsufficientData { offset })?;
        self.at = end;
        Ok(taken)
    }

    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }
}
