//! One record of the log.
//!
//! ```text
//! offset  size  field
//!      0     4  length u32 = bytes after this field = 37 + W
//!      4     1  format_version u8 = 1
//!      5     8  txn_id u64 = commit version; 0 = batch mark
//!     13    16  run_id
//!     29     8  commit_timestamp u64, microseconds since the epoch
//!     37     W  writeset, codec-encoded
//!   37+W     4  CRC-32/ISO-HDLC over bytes 4 .. 37+W
//! ```
//!
//! Valid if and only if `37 <= length`, all of it is there, and the CRC is right. The length is
//! outside the CRC because it says where the CRC is; a wrong one moves the CRC and fails it. A
//! crash can leave any part of a record that was not synced.

use super::bytes;

/// Versions of the record format. 1: as drawn above.
pub const FORMAT_VERSION: u8 = 1;

const LENGTH_OFFSET: usize = 0;
const VERSION_OFFSET: usize = LENGTH_OFFSET + size_of::<u32>();
const TXN_ID_OFFSET: usize = VERSION_OFFSET + size_of::<u8>();
const RUN_ID_OFFSET: usize = TXN_ID_OFFSET + size_of::<u64>();
const TIMESTAMP_OFFSET: usize = RUN_ID_OFFSET + 16;
const WRITESET_OFFSET: usize = TIMESTAMP_OFFSET + size_of::<u64>();
const CRC_LEN_BYTES: usize = size_of::<u32>();

/// Bytes of a record beside its writeset.
#[expect(clippy::cast_possible_truncation, reason = "41, asserted below")]
pub const RECORD_OVERHEAD_BYTES: u32 = (WRITESET_OFFSET + CRC_LEN_BYTES) as u32;

/// The least value of the length field.
#[expect(clippy::cast_possible_truncation, reason = "4")]
pub const LENGTH_MIN: u32 = RECORD_OVERHEAD_BYTES - size_of::<u32>() as u32;

const _: () = assert!(RECORD_OVERHEAD_BYTES == 41);
const _: () = assert!(LENGTH_MIN == 37);

/// The fields in front of the writeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// Commit version; 0 for a batch mark.
    pub txn_id: u64,
    /// The run; the database's uuid for a batch mark.
    pub run_id: [u8; 16],
    /// Microseconds since the epoch; 0 for a batch mark.
    pub timestamp_us: u64,
}

/// A record as it lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The fields in front of the writeset.
    pub head: RecordHead,
    /// The stored writeset.
    pub writeset: &'a [u8],
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The record announces more bytes than there are.
    #[error("record needs {needed_len_bytes} bytes, {there_len_bytes} are there")]
    InsufficientData {
        /// Bytes announced, framing included.
        needed_len_bytes: u64,
        /// Bytes there.
        there_len_bytes: u64,
    },
    /// The length is below the minimum or above the cap.
    #[error("record length {length} is out of range")]
    InvalidFormat {
        /// The length field.
        length: u32,
    },
    /// The bytes changed, or were never all written.
    #[error("record checksum is {got:08x}, stored is {expected:08x}")]
    ChecksumMismatch {
        /// The stored checksum.
        expected: u32,
        /// That of the bytes.
        got: u32,
    },
    /// A valid record of a version this build does not know.
    #[error("record version {version} is unknown")]
    UnsupportedVersion {
        /// The version found.
        version: u8,
    },
}

/// How a record is checked; the product always compares the checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParseLimits {
    pub(crate) record_len_bytes_max: u32,
    pub(crate) crc_is_checked: bool,
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`, which end where the batch ends. Returns it with
    /// the number of bytes it takes.
    ///
    /// # Errors
    /// See [`ParseError`]; the length is compared with `record_len_bytes_max` and with what is
    /// there before anything else is looked at.
    pub fn parse(bytes: &'a [u8], record_len_bytes_max: u32) -> Result<(Self, usize), ParseError> {
        Self::parse_with(
            bytes,
            ParseLimits {
                record_len_bytes_max,
                crc_is_checked: true,
            },
        )
    }

    pub(crate) fn parse_with(
        file: &'a [u8],
        limits: ParseLimits,
    ) -> Result<(Self, usize), ParseError> {
        let there = ParseError::InsufficientData {
            needed_len_bytes: u64::from(RECORD_OVERHEAD_BYTES),
            there_len_bytes: file.len() as u64,
        };
        let length = bytes::u32_at(file, LENGTH_OFFSET).ok_or(there)?;
        let len_bytes = u64::from(length) + size_of::<u32>() as u64;
        if length < LENGTH_MIN || u64::from(limits.record_len_bytes_max) < len_bytes {
            return Err(ParseError::InvalidFormat { length });
        }
        let short = ParseError::InsufficientData {
            needed_len_bytes: len_bytes,
            there_len_bytes: file.len() as u64,
        };
        let consumed = usize::try_from(len_bytes).map_err(|_| short)?;
        let whole = file.get(..consumed).ok_or(short)?;
        let crc_offset = consumed - CRC_LEN_BYTES;
        let expected = bytes::u32_at(whole, crc_offset).ok_or(short)?;
        let covered = whole.get(VERSION_OFFSET..crc_offset).ok_or(short)?;
        if limits.crc_is_checked {
            let got = crc32fast::hash(covered);
            if got != expected {
                return Err(ParseError::ChecksumMismatch { expected, got });
            }
        }
        let version = covered.first().copied().ok_or(short)?;
        if version != FORMAT_VERSION {
            return Err(ParseError::UnsupportedVersion { version });
        }
        let head = RecordHead {
            txn_id: bytes::u64_at(whole, TXN_ID_OFFSET).ok_or(short)?,
            run_id: bytes::array_at(whole, RUN_ID_OFFSET).ok_or(short)?,
            timestamp_us: bytes::u64_at(whole, TIMESTAMP_OFFSET).ok_or(short)?,
        };
        let writeset = whole.get(WRITESET_OFFSET..crc_offset).ok_or(short)?;
        Ok((Self { head, writeset }, consumed))
    }
}

impl RecordHead {
    /// Appends the whole record to `target`, a buffer with `extend_from_slice`.
    ///
    /// # Panics
    /// When the writeset exceeds 4 GiB; records are bounded far below.
    pub fn encode_into(&self, writeset: &[u8], target: &mut impl Extendable) {
        let length = u32::try_from(writeset.len()).expect("a writeset is below its cap");
        let length = length
            .checked_add(LENGTH_MIN)
            .expect("a record is below its cap");
        let mut fixed = [0; WRITESET_OFFSET];
        bytes::put(&mut fixed, LENGTH_OFFSET, &length.to_le_bytes());
        bytes::put(&mut fixed, VERSION_OFFSET, &[FORMAT_VERSION]);
        bytes::put(&mut fixed, TXN_ID_OFFSET, &self.txn_id.to_le_bytes());
        bytes::put(&mut fixed, RUN_ID_OFFSET, &self.run_id);
        bytes::put(
            &mut fixed,
            TIMESTAMP_OFFSET,
            &self.timestamp_us.to_le_bytes(),
        );
        let mut crc = crc32fast::Hasher::new();
        crc.update(fixed.get(VERSION_OFFSET..).unwrap_or_default());
        crc.update(writeset);
        target.extend(&fixed);
        target.extend(writeset);
        target.extend(&crc.finalize().to_le_bytes());
    }
}

/// A buffer that records are appended to.
pub trait Extendable {
    /// Appends a copy of `bytes`.
    fn extend(&mut self, bytes: &[u8]);
}

impl Extendable for Vec<u8> {
    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Extendable for crate::disk::AlignedBuf {
    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u32 = 1 << 16;
    const HEAD: RecordHead = RecordHead {
        txn_id: 0x0A0B,
        run_id: [3; 16],
        timestamp_us: 5,
    };

    fn encoded(writeset: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        HEAD.encode_into(writeset, &mut bytes);
        bytes
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = encoded(b"ws");
        assert_eq!(bytes.len(), 41 + 2);
        assert_eq!(bytes[..4], 39_u32.to_le_bytes());
        assert_eq!(bytes[4], 1);
        assert_eq!(bytes[5..13], 0x0A0B_u64.to_le_bytes());
        assert_eq!(bytes[13..29], [3; 16]);
        assert_eq!(bytes[29..37], 5_u64.to_le_bytes());
        assert_eq!(&bytes[37..39], b"ws");
        assert_eq!(bytes[39..], crc32fast::hash(&bytes[4..39]).to_le_bytes());
    }

    #[test]
    fn the_checksum_is_crc_32_iso_hdlc() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_record_parses_alone_and_yields_its_size() {
        let mut bytes = encoded(b"payload");
        let len = bytes.len();
        bytes.extend_from_slice(b"more");
        let (record, consumed) = Record::parse(&bytes, CAP).unwrap();
        assert_eq!(
            (record.head, record.writeset, consumed),
            (HEAD, &b"payload"[..], len)
        );
    }

    #[test]
    fn every_flipped_bit_is_detected() {
        let whole = encoded(b"payload");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let parsed = Record::parse(&bytes, CAP);
                assert!(parsed.is_err(), "byte {at}, bit {bit}: {parsed:?}");
            }
        }
    }

    #[test]
    fn every_truncation_is_insufficient_data() {
        let whole = encoded(b"payload");
        for kept in 0..whole.len() {
            let parsed = Record::parse(&whole[..kept], CAP);
            assert!(
                matches!(parsed, Err(ParseError::InsufficientData { .. })),
                "{kept}"
            );
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_read() {
        for length in [0, 1, LENGTH_MIN - 1, CAP - 3, u32::MAX] {
            let mut bytes = encoded(b"x");
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(
                Record::parse(&bytes, CAP),
                Err(ParseError::InvalidFormat { length }),
                "{length}"
            );
        }
    }

    #[test]
    fn a_valid_record_of_another_version_is_named() {
        let mut bytes = encoded(b"x");
        bytes[4] = 9;
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[4..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&crc);
        assert_eq!(
            Record::parse(&bytes, CAP),
            Err(ParseError::UnsupportedVersion { version: 9 })
        );
    }
}
