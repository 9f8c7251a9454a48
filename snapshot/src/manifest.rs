//! The bytes of MANIFEST.
//!
//! ```text
//! offset  size  field
//!      0     4  magic "IMMF"
//!      4     4  format_version u32 = 1
//!      8    16  database_uuid
//!     24     4  codec_id_len u32 = n
//!     28     n  codec id, UTF-8
//!   28+n     8  active_wal_segment u64, a hint that may lag behind the log
//!   36+n     8  snapshot_watermark u64
//!   44+n     8  snapshot_id u64, 0 = no snapshot
//!   52+n     4  CRC-32/ISO-HDLC of all preceding bytes
//! ```
//!
//! All integers are little-endian. Valid if and only if magic and version are as stated, `n` is in
//! bounds, the length is exactly 56 + n, the CRC is right, and the codec id is UTF-8. MANIFEST is
//! only ever replaced whole, so a crash leaves the old one or the new one; anything else is damage.

/// First bytes of MANIFEST.
const MAGIC: [u8; 4] = *b"IMMF";

/// Versions of the format. 1: as drawn above.
/// The version of the MANIFEST this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

const VERSION_OFFSET: usize = MAGIC.len();
const UUID_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const CODEC_LEN_OFFSET: usize = UUID_OFFSET + 16;
const CODEC_OFFSET: usize = CODEC_LEN_OFFSET + size_of::<u32>();
/// From the end of the codec id.
const SEGMENT_OFFSET: usize = 0;
const WATERMARK_OFFSET: usize = SEGMENT_OFFSET + size_of::<u64>();
const SNAPSHOT_ID_OFFSET: usize = WATERMARK_OFFSET + size_of::<u64>();
const CRC_OFFSET: usize = SNAPSHOT_ID_OFFSET + size_of::<u64>();
const BEHIND_CODEC_LEN_BYTES: usize = CRC_OFFSET + size_of::<u32>();

/// Length without the codec id, bytes.
const FIXED_LEN_BYTES: usize = CODEC_OFFSET + BEHIND_CODEC_LEN_BYTES;

/// Longest codec id, bytes. Names are short words; the bound keeps a damaged length harmless.
const CODEC_ID_LEN_BYTES_MAX: usize = 255;

/// Longest MANIFEST, bytes.
pub const MANIFEST_LEN_BYTES_MAX: usize = FIXED_LEN_BYTES + CODEC_ID_LEN_BYTES_MAX;

const _: () = assert!(FIXED_LEN_BYTES == 56);

/// The physical facts of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The database; also in every segment header and batch mark.
    pub database_uuid: [u8; 16],
    /// The codec its records are stored with, for life; at most 255 bytes.
    pub codec_id: String,
    /// The active segment when MANIFEST was last written; may lag behind.
    pub active_wal_segment: u64,
    /// The highest commit version the snapshot covers; meaningful only with a snapshot.
    pub snapshot_watermark: u64,
    /// The snapshot to load; 0 when there is none.
    pub snapshot_id: u64,
}

/// Why bytes are no MANIFEST.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The length is not that of a MANIFEST with this codec id.
    #[error("manifest has {len_bytes} bytes, {expected_len_bytes} are expected")]
    Length {
        /// Bytes there.
        len_bytes: usize,
        /// Bytes the fields call for; the least possible when they cannot be read.
        expected_len_bytes: usize,
    },
    /// Another file, or a damaged one.
    #[error("manifest does not begin with its magic")]
    Magic,
    /// Written by a version this build does not know.
    #[error("manifest has the unknown format version {version}")]
    UnsupportedVersion {
        /// The version found.
        version: u32,
    },
    /// The codec id is longer than any name.
    #[error("manifest announces a codec id of {len_bytes} bytes")]
    CodecIdLength {
        /// The length announced, bytes.
        len_bytes: u32,
    },
    /// The codec id is no text.
    #[error("manifest names a codec that is not UTF-8")]
    CodecId,
    /// The bytes changed after they were written.
    #[error("manifest checksum is {got:08x}, stored is {expected:08x}")]
    ChecksumMismatch {
        /// The stored checksum.
        expected: u32,
        /// That of the bytes.
        got: u32,
    },
}

impl Manifest {
    /// A new database: active segment 1, no snapshot.
    #[must_use]
    pub fn new(database_uuid: [u8; 16], codec_id: &str) -> Self {
        Self {
            database_uuid,
            codec_id: codec_id.to_owned(),
            active_wal_segment: 1,
            snapshot_watermark: 0,
            snapshot_id: 0,
        }
    }

    /// True when a snapshot is named; a watermark of 0 is legal.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.snapshot_id != 0
    }

    /// The bytes of MANIFEST.
    ///
    /// # Panics
    /// When the codec id is longer than 255 bytes: codecs are named by this build.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.codec_id.len() <= CODEC_ID_LEN_BYTES_MAX,
            "a codec id is a short name"
        );
        let codec_id_len = u32::try_from(self.codec_id.len()).expect("at most 255");
        let mut bytes = Vec::with_capacity(FIXED_LEN_BYTES + self.codec_id.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.database_uuid);
        bytes.extend_from_slice(&codec_id_len.to_le_bytes());
        bytes.extend_from_slice(self.codec_id.as_bytes());
        bytes.extend_from_slice(&self.active_wal_segment.to_le_bytes());
        bytes.extend_from_slice(&self.snapshot_watermark.to_le_bytes());
        bytes.extend_from_slice(&self.snapshot_id.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(bytes.len(), FIXED_LEN_BYTES + self.codec_id.len());
        bytes
    }

    /// Reads the bytes of MANIFEST. Every length is checked before it is used.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let short = |expected_len_bytes| ManifestError::Length {
            len_bytes: bytes.len(),
            expected_len_bytes,
        };
        if bytes.len() < FIXED_LEN_BYTES {
            return Err(short(FIXED_LEN_BYTES));
        }
        if array_at(bytes, 0) != Some(MAGIC) {
            return Err(ManifestError::Magic);
        }
        let version = u32_at(bytes, VERSION_OFFSET).ok_or(short(FIXED_LEN_BYTES))?;
        if version != FORMAT_VERSION {
            return Err(ManifestError::UnsupportedVersion { version });
        }
        let announced = u32_at(bytes, CODEC_LEN_OFFSET).ok_or(short(FIXED_LEN_BYTES))?;
        let codec_len = usize::try_from(announced)
            .ok()
            .filter(|len| *len <= CODEC_ID_LEN_BYTES_MAX)
            .ok_or(ManifestError::CodecIdLength {
                len_bytes: announced,
            })?;
        let expected_len_bytes = FIXED_LEN_BYTES + codec_len;
        if bytes.len() != expected_len_bytes {
            return Err(short(expected_len_bytes));
        }
        let behind = CODEC_OFFSET + codec_len;
        let short = || short(expected_len_bytes);
        let covered = bytes.get(..behind + CRC_OFFSET).ok_or_else(short)?;
        let expected = u32_at(bytes, behind + CRC_OFFSET).ok_or_else(short)?;
        let got = crc32fast::hash(covered);
        if got != expected {
            return Err(ManifestError::ChecksumMismatch { expected, got });
        }
        let codec_id = bytes.get(CODEC_OFFSET..behind).ok_or_else(short)?;
        let codec_id = std::str::from_utf8(codec_id).map_err(|_| ManifestError::CodecId)?;
        Ok(Self {
            database_uuid: array_at(bytes, UUID_OFFSET).ok_or_else(short)?,
            codec_id: codec_id.to_owned(),
            active_wal_segment: u64_at(bytes, behind + SEGMENT_OFFSET).ok_or_else(short)?,
            snapshot_watermark: u64_at(bytes, behind + WATERMARK_OFFSET).ok_or_else(short)?,
            snapshot_id: u64_at(bytes, behind + SNAPSHOT_ID_OFFSET).ok_or_else(short)?,
        })
    }
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            active_wal_segment: 0x0102,
            snapshot_watermark: 7,
            snapshot_id: 3,
            ..Manifest::new([0xAB; 16], "identity")
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = manifest().encode();
        assert_eq!(bytes.len(), 64);
        assert_eq!(&bytes[..4], b"IMMF");
        assert_eq!(bytes[4..8], [1, 0, 0, 0]);
        assert_eq!(bytes[8..24], [0xAB; 16]);
        assert_eq!(bytes[24..28], [8, 0, 0, 0]);
        assert_eq!(&bytes[28..36], b"identity");
        assert_eq!(bytes[36..44], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[44..52], [7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[52..60], [3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[60..], crc32fast::hash(&bytes[..60]).to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Ok(manifest()));
    }

    /// Made by hand (Python's struct and zlib), not by this code.
    #[test]
    fn the_whole_file_has_these_bytes() {
        let uuid = b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";
        let manifest = Manifest {
            database_uuid: *uuid,
            ..manifest()
        };
        let hex: String = manifest
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = "494d4d4601000000a0a1a2a3a4a5a6a7a8a9aaabacadaeaf080000006964656e74697479\
            020100000000000007000000000000000300000000000000c35783fa";
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_new_database_has_segment_one_and_no_snapshot() {
        let new = Manifest::new([1; 16], "identity");
        assert_eq!(new.active_wal_segment, 1);
        assert!(!new.has_snapshot());
        assert!(
            Manifest {
                snapshot_id: 1,
                ..new
            }
            .has_snapshot()
        );
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let whole = manifest().encode();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::decode(&bytes).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Manifest::decode(&whole[..at]).is_err(), "cut at {at}");
        }
        let mut longer = whole;
        longer.push(0);
        assert!(matches!(
            Manifest::decode(&longer),
            Err(ManifestError::Length { .. })
        ));
    }

    #[test]
    fn each_error_names_what_is_wrong() {
        let with = |at: usize, field: &[u8]| {
            let mut bytes = manifest().encode();
            bytes[at..at + field.len()].copy_from_slice(field);
            Manifest::decode(&bytes).unwrap_err()
        };
        assert_eq!(with(0, b"IMWL"), ManifestError::Magic);
        assert_eq!(
            with(4, &[2]),
            ManifestError::UnsupportedVersion { version: 2 }
        );
        let huge = u32::MAX.to_le_bytes();
        assert_eq!(
            with(24, &huge),
            ManifestError::CodecIdLength {
                len_bytes: u32::MAX
            }
        );
        assert!(matches!(with(24, &[9]), ManifestError::Length { .. }));
        assert!(matches!(
            with(60, &[0; 4]),
            ManifestError::ChecksumMismatch { .. }
        ));
        let mut bytes = manifest().encode();
        bytes[28] = 0xFF;
        let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
        bytes[60..].copy_from_slice(&crc);
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::CodecId));
    }
}
