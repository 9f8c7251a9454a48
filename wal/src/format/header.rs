//! The segment header.
//!
//! ```text
//! offset  size  field
//!      0     4  magic "IMWL" (49 4D 57 4C)
//!      4     4  format_version u32 = 1
//!      8     8  segment_number u64, equal to the number in the file name
//!     16    16  database_uuid
//!     32  4064  zeros: the first batch starts at offset 4096
//! ```
//!
//! Valid if and only if all four fields are as stated. It is written into a zeroed spare and synced
//! before the spare gets a segment's name, so a crash can leave only an absent, all-zero or torn
//! header, and only in the newest segment.

use super::bytes;

/// First bytes of every segment.
pub const MAGIC: [u8; 4] = *b"IMWL";

/// Versions of the segment format.
///
/// 1: header of 32 bytes, batches behind marks from offset 4096.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC_OFFSET: usize = 0;
const VERSION_OFFSET: usize = MAGIC_OFFSET + MAGIC.len();
const SEGMENT_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const UUID_OFFSET: usize = SEGMENT_OFFSET + size_of::<u64>();

/// Length of the header's fields, bytes.
pub const HEADER_LEN_BYTES: usize = UUID_OFFSET + 16;

const _: () = assert!(HEADER_LEN_BYTES == 32);

/// The fields of a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number.
    pub segment: u64,
    /// The database it belongs to.
    pub database_uuid: [u8; 16],
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderState {
    /// A valid header.
    Valid(SegmentHeader),
    /// Absent, all zero, or the first part of the expected header followed by zeros: the file was
    /// being created.
    Torn,
    /// Written by a version this build does not know.
    UnknownVersion(u32),
    /// Anything else: the bytes changed after they were written.
    Damaged,
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN_BYTES] {
        let mut header = [0; HEADER_LEN_BYTES];
        bytes::put(&mut header, MAGIC_OFFSET, &MAGIC);
        bytes::put(&mut header, VERSION_OFFSET, &FORMAT_VERSION.to_le_bytes());
        bytes::put(&mut header, SEGMENT_OFFSET, &self.segment.to_le_bytes());
        bytes::put(&mut header, UUID_OFFSET, &self.database_uuid);
        header
    }

    /// Reads the first bytes of the file that should carry this header.
    #[must_use]
    pub fn read(file: &[u8], expected: &Self) -> HeaderState {
        if is_torn(file, &expected.encode()) {
            return HeaderState::Torn;
        }
        Self::decode(file).unwrap_or(HeaderState::Damaged)
    }

    fn decode(file: &[u8]) -> Option<HeaderState> {
        if bytes::array_at::<4>(file, MAGIC_OFFSET)? != MAGIC {
            return None;
        }
        let version = bytes::u32_at(file, VERSION_OFFSET)?;
        if version != FORMAT_VERSION {
            return Some(HeaderState::UnknownVersion(version));
        }
        Some(HeaderState::Valid(Self {
            segment: bytes::u64_at(file, SEGMENT_OFFSET)?,
            database_uuid: bytes::array_at(file, UUID_OFFSET)?,
        }))
    }
}

/// True when the file holds a proper prefix of the header and zeros behind it.
fn is_torn(file: &[u8], expected: &[u8; HEADER_LEN_BYTES]) -> bool {
    let there = file.get(..HEADER_LEN_BYTES).unwrap_or(file);
    if there == expected {
        return false;
    }
    let written = there
        .iter()
        .zip(expected)
        .take_while(|(got, want)| got == want)
        .count();
    there.iter().skip(written).all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        segment: 0x0102,
        database_uuid: [7; 16],
    };

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = HEADER.encode();
        assert_eq!(bytes[..4], [0x49, 0x4D, 0x57, 0x4C]);
        assert_eq!(bytes[4..8], [1, 0, 0, 0]);
        assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..32], [7; 16]);
        assert_eq!(
            SegmentHeader::read(&bytes, &HEADER),
            HeaderState::Valid(HEADER)
        );
    }

    #[test]
    fn every_prefix_followed_by_zeros_is_torn() {
        let whole = HEADER.encode();
        for kept in 0..HEADER_LEN_BYTES {
            let mut file = [0; HEADER_LEN_BYTES];
            file[..kept].copy_from_slice(&whole[..kept]);
            assert_eq!(
                SegmentHeader::read(&file, &HEADER),
                HeaderState::Torn,
                "{kept}"
            );
            assert_eq!(
                SegmentHeader::read(&whole[..kept], &HEADER),
                HeaderState::Torn,
                "{kept}"
            );
        }
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        for at in 0..HEADER_LEN_BYTES {
            let mut file = HEADER.encode();
            file[at] ^= 0x80;
            assert_ne!(
                SegmentHeader::read(&file, &HEADER),
                HeaderState::Valid(HEADER),
                "byte {at}"
            );
        }
    }

    #[test]
    fn another_version_is_named_and_another_database_is_returned_as_found() {
        let mut file = HEADER.encode();
        file[4] = 2;
        assert_eq!(
            SegmentHeader::read(&file, &HEADER),
            HeaderState::UnknownVersion(2)
        );
        let other = SegmentHeader {
            segment: 3,
            database_uuid: [9; 16],
        };
        assert_eq!(
            SegmentHeader::read(&other.encode(), &HEADER),
            HeaderState::Valid(other)
        );
    }
}
