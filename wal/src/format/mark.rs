//! The batch mark: the first record of every batch.
//!
//! It is a record (see [`super::record`]) with `txn_id` 0, the database's uuid in place of a run,
//! timestamp 0, and this plain payload in place of a writeset:
//!
//! ```text
//! offset  size  field
//!      0     1  kind u8: 1 batch, 2 close
//!      1     2  log_block u16, bytes: where the next mark may stand
//!      3     4  batch_len u32, bytes, from the mark to the last record, without padding
//!      7     8  own_lsn u64
//!     15     8  durable_lsn u64: everything below it was durable when the batch was submitted
//!     23     8  version_floor u64
//! ```
//!
//! Valid if and only if the record is valid, the uuid is ours, `own_lsn` is where it stands,
//! `durable_lsn <= own_lsn`, the kind and the block are known, and `batch_len` covers at least the
//! mark itself. The uuid is told to no client, so client bytes are never taken for a mark. The
//! next mark stands at the first multiple of `log_block` at or behind the batch's end; between the
//! two are zeros, so a torn write never touches another batch.

use super::bytes;
use super::record::{ParseError, RECORD_OVERHEAD_BYTES, Record, RecordHead};
use crate::limits::{LOG_BLOCK_LEN_BYTES_MAX, LOG_BLOCK_LEN_BYTES_MIN};
use crate::lsn::Lsn;

const KIND_OFFSET: usize = 0;
const LOG_BLOCK_OFFSET: usize = KIND_OFFSET + size_of::<u8>();
const BATCH_LEN_OFFSET: usize = LOG_BLOCK_OFFSET + size_of::<u16>();
const OWN_LSN_OFFSET: usize = BATCH_LEN_OFFSET + size_of::<u32>();
const DURABLE_LSN_OFFSET: usize = OWN_LSN_OFFSET + size_of::<u64>();
const VERSION_FLOOR_OFFSET: usize = DURABLE_LSN_OFFSET + size_of::<u64>();
const PAYLOAD_LEN_BYTES: usize = VERSION_FLOOR_OFFSET + size_of::<u64>();

/// Length of a whole mark, bytes.
#[expect(clippy::cast_possible_truncation, reason = "72, asserted below")]
pub const MARK_LEN_BYTES: u32 = PAYLOAD_LEN_BYTES as u32 + RECORD_OVERHEAD_BYTES;

const _: () = assert!(MARK_LEN_BYTES == 72);
const _: () = assert!(MARK_LEN_BYTES <= LOG_BLOCK_LEN_BYTES_MIN);
const _: () = assert!(LOG_BLOCK_LEN_BYTES_MAX <= u16::MAX as u32);

/// The `txn_id` that tells a mark from a commit.
pub const MARK_TXN_ID: u64 = 0;

/// What a mark begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    /// A batch, possibly empty.
    Batch,
    /// The end of a log that was closed on purpose. Information only.
    Close,
}

/// A batch mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What it begins.
    pub kind: MarkKind,
    /// The log block it was written with, bytes: 512 or 4096.
    pub log_block_len_bytes: u16,
    /// Bytes from the mark's start to the end of the batch's last record.
    pub batch_len_bytes: u32,
    /// Where it stands.
    pub own_lsn: Lsn,
    /// Everything below was durable when the batch was submitted.
    pub durable_lsn: Lsn,
    /// No version above it was issued.
    pub version_floor: u64,
}

impl Mark {
    /// Where the batch ends, as an offset into the segment.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        u64::from(self.own_lsn.offset()) + u64::from(self.batch_len_bytes)
    }

    /// The mark's bytes.
    #[must_use]
    pub fn encode(&self, database_uuid: [u8; 16]) -> [u8; MARK_LEN_BYTES as usize] {
        let kind: u8 = match self.kind {
            MarkKind::Batch => 1,
            MarkKind::Close => 2,
        };
        let mut payload = [0; PAYLOAD_LEN_BYTES];
        bytes::put(&mut payload, KIND_OFFSET, &[kind]);
        bytes::put(
            &mut payload,
            LOG_BLOCK_OFFSET,
            &self.log_block_len_bytes.to_le_bytes(),
        );
        bytes::put(
            &mut payload,
            BATCH_LEN_OFFSET,
            &self.batch_len_bytes.to_le_bytes(),
        );
        bytes::put(
            &mut payload,
            OWN_LSN_OFFSET,
            &self.own_lsn.to_u64().to_le_bytes(),
        );
        bytes::put(
            &mut payload,
            DURABLE_LSN_OFFSET,
            &self.durable_lsn.to_u64().to_le_bytes(),
        );
        bytes::put(
            &mut payload,
            VERSION_FLOOR_OFFSET,
            &self.version_floor.to_le_bytes(),
        );
        let head = RecordHead {
            txn_id: MARK_TXN_ID,
            run_id: database_uuid,
            timestamp_us: 0,
        };
        let mut mark = [0; MARK_LEN_BYTES as usize];
        let mut target = FixedBuf {
            bytes: &mut mark,
            len: 0,
        };
        head.encode_into(&payload, &mut target);
        mark
    }

    /// The mark at the start of `file`, which is at `at` in the log of `database_uuid`.
    ///
    /// # Errors
    /// Only for a valid record of an unknown version; anything else that is no valid mark is
    /// `None`.
    pub fn read(file: &[u8], at: Lsn, database_uuid: [u8; 16]) -> Result<Option<Self>, ParseError> {
        // The uuid first: it settles nearly every block of client bytes without a checksum.
        if bytes::array_at::<16>(file, UUID_OFFSET) != Some(database_uuid) {
            return Ok(None);
        }
        let record = match Record::parse(file, MARK_LEN_BYTES) {
            Ok((record, _)) => record,
            Err(error @ ParseError::UnsupportedVersion { .. }) => return Err(error),
            Err(_) => return Ok(None),
        };
        if record.head.txn_id != MARK_TXN_ID {
            return Ok(None);
        }
        Ok(Self::decode(record.writeset).filter(|mark| mark.is_at(at)))
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() != PAYLOAD_LEN_BYTES {
            return None;
        }
        let kind = match payload.get(KIND_OFFSET)? {
            1 => MarkKind::Batch,
            2 => MarkKind::Close,
            _ => return None,
        };
        Some(Self {
            kind,
            log_block_len_bytes: bytes::u16_at(payload, LOG_BLOCK_OFFSET)?,
            batch_len_bytes: bytes::u32_at(payload, BATCH_LEN_OFFSET)?,
            own_lsn: Lsn::from_u64(bytes::u64_at(payload, OWN_LSN_OFFSET)?),
            durable_lsn: Lsn::from_u64(bytes::u64_at(payload, DURABLE_LSN_OFFSET)?),
            version_floor: bytes::u64_at(payload, VERSION_FLOOR_OFFSET)?,
        })
    }

    fn is_at(&self, at: Lsn) -> bool {
        let block = u32::from(self.log_block_len_bytes);
        self.own_lsn == at
            && self.durable_lsn <= at
            && (block == LOG_BLOCK_LEN_BYTES_MIN || block == LOG_BLOCK_LEN_BYTES_MAX)
            && MARK_LEN_BYTES <= self.batch_len_bytes
    }
}

const UUID_OFFSET: usize = size_of::<u32>() + size_of::<u8>() + size_of::<u64>();

/// A fixed array being filled.
struct FixedBuf<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl super::record::Extendable for FixedBuf<'_> {
    fn extend(&mut self, field: &[u8]) {
        bytes::put(self.bytes, self.len, field);
        self.len += field.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = [0xAB; 16];

    fn mark() -> Mark {
        Mark {
            kind: MarkKind::Batch,
            log_block_len_bytes: 512,
            batch_len_bytes: 300,
            own_lsn: Lsn::new(2, 8192),
            durable_lsn: Lsn::new(2, 7000),
            version_floor: 77,
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = mark().encode(UUID);
        assert_eq!(bytes[..4], 68_u32.to_le_bytes());
        assert_eq!(bytes[4], 1);
        assert_eq!(bytes[5..13], [0; 8]);
        assert_eq!(bytes[13..29], UUID);
        assert_eq!(bytes[29..37], [0; 8]);
        assert_eq!(bytes[37], 1);
        assert_eq!(bytes[38..40], 512_u16.to_le_bytes());
        assert_eq!(bytes[40..44], 300_u32.to_le_bytes());
        assert_eq!(bytes[44..52], ((2_u64 << 32) + 8192).to_le_bytes());
        assert_eq!(bytes[52..60], ((2_u64 << 32) + 7000).to_le_bytes());
        assert_eq!(bytes[60..68], 77_u64.to_le_bytes());
        assert_eq!(bytes[68..], crc32fast::hash(&bytes[4..68]).to_le_bytes());
        assert_eq!(Mark::read(&bytes, mark().own_lsn, UUID), Ok(Some(mark())));
    }

    #[test]
    fn a_mark_elsewhere_or_of_another_database_is_none() {
        let bytes = mark().encode(UUID);
        assert_eq!(Mark::read(&bytes, Lsn::new(2, 8704), UUID), Ok(None));
        assert_eq!(Mark::read(&bytes, Lsn::new(3, 8192), UUID), Ok(None));
        assert_eq!(Mark::read(&bytes, mark().own_lsn, [1; 16]), Ok(None));
    }

    #[test]
    fn nonsense_behind_a_right_checksum_is_none() {
        let bad = [
            Mark {
                log_block_len_bytes: 0,
                ..mark()
            },
            Mark {
                log_block_len_bytes: 1024,
                ..mark()
            },
            Mark {
                batch_len_bytes: 71,
                ..mark()
            },
            Mark {
                durable_lsn: Lsn::new(2, 8193),
                ..mark()
            },
        ];
        for mark in bad {
            assert_eq!(
                Mark::read(&mark.encode(UUID), mark.own_lsn, UUID),
                Ok(None),
                "{mark:?}"
            );
        }
    }

    #[test]
    fn every_flipped_byte_makes_it_none() {
        for at in 0..MARK_LEN_BYTES as usize {
            for with in [0x01, 0x80, 0xFF] {
                let mut bytes = mark().encode(UUID);
                bytes[at] ^= with;
                assert_eq!(
                    Mark::read(&bytes, mark().own_lsn, UUID),
                    Ok(None),
                    "{at} {with}"
                );
            }
        }
    }
}
