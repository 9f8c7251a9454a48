//! The bytes of a snapshot, `SNAPSHOTS/snap-NNNNNN.chk`. Little-endian.
//!
//! ```text
//! offset  size  field
//!      0    10  magic "INMEM_SNAP"
//!     10     4  version u32 = 1
//!     14     8  timestamp u64, microseconds since the epoch
//!     22     8  wal_offset u64: LSN after the last record at or below the watermark
//!     30     8  tx_count u64: logged commits covered, informational
//!     38     1  section count u8
//!     39    ..  sections, types ascending, section 0 first
//!  end-4     4  CRC-32/ISO-HDLC of every preceding byte
//!
//! section := type u8 | data_len u64 | data
//! data    := blocks, then one block of plain_len 0
//! block   := plain_len u32 | stored_len u32 | crc u32 | stored bytes
//! ```
//!
//! A block holds at most [`BLOCK_LEN_BYTES`] of plain bytes; `stored` is what the codec makes of
//! them, and `crc` is over `stored`. The ending block is twelve zero bytes. `data_len` counts all
//! bytes of `data`, block heads and the ending block included. Section 0 begins with what
//! `meta.rs` draws; what else sections hold belongs to the primitives.
//!
//! Valid if and only if magic and version are as stated, section types rise strictly from 0, every
//! block's lengths are in bounds and its CRC is right, blocks add up to `data_len`, sections end
//! exactly at end-4, and the file's CRC is right. The file gets its name by a rename after its
//! sync, so a crash leaves a whole one or none; anything else is damage.

use in_mem_wal::Lsn;

/// First bytes of a snapshot.
pub(super) const MAGIC: [u8; 10] = *b"INMEM_SNAP";

/// The version of snapshots this build writes, and the newest it reads. 1: as drawn above.
pub const SNAPSHOT_FORMAT_VERSION: u32 = 1;

/// The snapshot's own section.
pub const META_SECTION: u8 = 0;

/// Plain bytes of a block at most, bytes: what writer and reader hold in memory.
pub const BLOCK_LEN_BYTES: usize = 1 << 20;

const VERSION_OFFSET: usize = MAGIC.len();
const TIMESTAMP_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const WAL_OFFSET_OFFSET: usize = TIMESTAMP_OFFSET + size_of::<u64>();
const TX_COUNT_OFFSET: usize = WAL_OFFSET_OFFSET + size_of::<u64>();
const SECTION_COUNT_OFFSET: usize = TX_COUNT_OFFSET + size_of::<u64>();

/// Length of what precedes the sections, bytes.
pub(super) const HEADER_LEN_BYTES: usize = SECTION_COUNT_OFFSET + size_of::<u8>();

/// Length of a section's type and length, bytes.
pub(super) const SECTION_HEAD_LEN_BYTES: usize = size_of::<u8>() + size_of::<u64>();

/// Length of what precedes the stored bytes of a block, bytes.
pub(super) const BLOCK_HEAD_LEN_BYTES: usize = 3 * size_of::<u32>();

/// Length of the checksum at the end, bytes.
pub(super) const FILE_CRC_LEN_BYTES: usize = size_of::<u32>();

/// The shortest snapshot, bytes: one without sections, which no writer makes.
pub(super) const FILE_LEN_BYTES_MIN: u64 = (HEADER_LEN_BYTES + FILE_CRC_LEN_BYTES) as u64;

const _: () = assert!(SECTION_COUNT_OFFSET == 38);
const _: () = assert!(SECTION_HEAD_LEN_BYTES == 9);
const _: () = assert!(FILE_LEN_BYTES_MIN == 43);
const _: () = assert!(BLOCK_LEN_BYTES <= u32::MAX as usize);

/// What stands before the sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// When it was begun, microseconds since the epoch.
    pub timestamp_us: u64,
    /// LSN after the last record at or below the watermark.
    pub wal_offset: Lsn,
    /// Logged commits covered, count; informational.
    pub tx_count: u64,
    /// Sections, the snapshot's own included, count.
    pub section_count: u8,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    Magic,
    UnsupportedVersion { version: u32 },
}

impl SnapshotHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_LEN_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&SNAPSHOT_FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.timestamp_us.to_le_bytes());
        bytes.extend_from_slice(&self.wal_offset.to_u64().to_le_bytes());
        bytes.extend_from_slice(&self.tx_count.to_le_bytes());
        bytes.push(self.section_count);
        bytes.try_into().expect("the fields add up to the header")
    }

    pub(super) fn decode(bytes: &[u8; HEADER_LEN_BYTES]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(HeaderError::Magic);
        }
        let version = u32_at(bytes, VERSION_OFFSET);
        if version != SNAPSHOT_FORMAT_VERSION {
            return Err(HeaderError::UnsupportedVersion { version });
        }
        Ok(Self {
            timestamp_us: u64_at(bytes, TIMESTAMP_OFFSET),
            wal_offset: Lsn::from_u64(u64_at(bytes, WAL_OFFSET_OFFSET)),
            tx_count: u64_at(bytes, TX_COUNT_OFFSET),
            section_count: bytes.last().copied().unwrap_or(0),
        })
    }
}

/// Type and length of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SectionHead {
    pub(super) section: u8,
    pub(super) data_len_bytes: u64,
}

impl SectionHead {
    pub(super) fn encode(self) -> [u8; SECTION_HEAD_LEN_BYTES] {
        let mut bytes = [0; SECTION_HEAD_LEN_BYTES];
        let (section, data_len) = bytes.split_at_mut(size_of::<u8>());
        section.copy_from_slice(&[self.section]);
        data_len.copy_from_slice(&self.data_len_bytes.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SECTION_HEAD_LEN_BYTES]) -> Self {
        Self {
            section: bytes.first().copied().unwrap_or(0),
            data_len_bytes: u64_at(bytes, size_of::<u8>()),
        }
    }
}

/// What precedes the stored bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BlockHead {
    pub(super) plain_len_bytes: u32,
    pub(super) stored_len_bytes: u32,
    pub(super) crc: u32,
}

impl BlockHead {
    /// Ends a section.
    pub(super) const END: Self = Self {
        plain_len_bytes: 0,
        stored_len_bytes: 0,
        crc: 0,
    };

    pub(super) fn encode(self) -> [u8; BLOCK_HEAD_LEN_BYTES] {
        let mut bytes = Vec::with_capacity(BLOCK_HEAD_LEN_BYTES);
        for field in [self.plain_len_bytes, self.stored_len_bytes, self.crc] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.try_into().expect("three fields are a block head")
    }

    pub(super) fn decode(bytes: &[u8; BLOCK_HEAD_LEN_BYTES]) -> Self {
        Self {
            plain_len_bytes: u32_at(bytes, 0),
            stored_len_bytes: u32_at(bytes, size_of::<u32>()),
            crc: u32_at(bytes, 2 * size_of::<u32>()),
        }
    }
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .expect("offsets of fields lie inside their structure")
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}
