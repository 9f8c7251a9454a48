//! Reading a snapshot, block by block. What is read comes from a file that anybody may have
//! damaged: every length is compared with what remains and with its bound before it is used.
//!
//! The reader holds one chunk of the file and one block. The checksum of a block is compared
//! before any of its bytes is given out, that of the file once all of it was read:
//! [`validate`] reads it all and gives nothing out, and belongs before the first use.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crc32fast::Hasher;
use in_mem_wal::StorageCodec;
use in_mem_wal::disk::{ALIGN_BYTES, AlignedBuf, Disk, FileId, Op, OpenMode, Output};
use in_mem_wal::files;

use super::format::{
    BLOCK_HEAD_LEN_BYTES, BLOCK_LEN_BYTES, BlockHead, FILE_CRC_LEN_BYTES, FILE_LEN_BYTES_MIN,
    HEADER_LEN_BYTES, HeaderError, META_SECTION, SECTION_HEAD_LEN_BYTES, SectionHead,
    SnapshotHeader,
};
use super::{BlockSource, SnapshotDamage, SnapshotError, SnapshotMeta, snapshot_path};

/// Bytes read by one operation, bytes; a multiple of the alignment of direct reads.
const CHUNK_LEN_BYTES: usize = 1 << 20;

const _: () = assert!(CHUNK_LEN_BYTES.is_multiple_of(ALIGN_BYTES));

/// A snapshot that is being read.
pub struct SnapshotReader {
    path: String,
    file: FileId,
    len_bytes: u64,
    codec: Arc<dyn StorageCodec>,
    header: SnapshotHeader,
    /// Where the next byte of the file is.
    at: u64,
    /// Of everything before `at`.
    crc: Hasher,
    chunk: AlignedBuf,
    /// Where the chunk begins.
    chunk_offset: u64,
    sections_left: u8,
    last_section: Option<u8>,
    /// Where the data of the open section ends.
    section_end: u64,
    is_section_open: bool,
    stored: Vec<u8>,
    /// The block that is given out, and how much of it was.
    plain: Vec<u8>,
    plain_at: usize,
    /// Where the stored bytes of that block begin.
    block_offset: u64,
}

impl SnapshotReader {
    /// Opens a snapshot inside its section 0, behind the meta.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn open(
        disk: &mut dyn Disk,
        path: &str,
        mode: OpenMode,
        codec: Arc<dyn StorageCodec>,
    ) -> Result<(Self, SnapshotMeta), SnapshotError> {
        let io = |source| SnapshotError::Io {
            path: path.to_owned(),
            source,
        };
        let file = files::open(disk, path, mode).map_err(io)?;
        let len_bytes = files::len(disk, file);
        let mut reader = Self {
            path: path.to_owned(),
            file,
            len_bytes: 0,
            codec,
            header: SnapshotHeader {
                timestamp_us: 0,
                wal_offset: in_mem_wal::Lsn::ZERO,
                tx_count: 0,
                section_count: 0,
            },
            at: 0,
            crc: Hasher::new(),
            chunk: AlignedBuf::new(),
            chunk_offset: 0,
            sections_left: 0,
            last_section: None,
            section_end: 0,
            is_section_open: false,
            stored: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            block_offset: 0,
        };
        let begun = len_bytes.map_err(io).and_then(|len_bytes| {
            reader.len_bytes = len_bytes;
            reader.begin(disk)
        });
        match begun {
            Ok(meta) => Ok((reader, meta)),
            Err(error) => {
                reader.close(disk);
                Err(error)
            }
        }
    }

    fn begin(&mut self, disk: &mut dyn Disk) -> Result<SnapshotMeta, SnapshotError> {
        if self.len_bytes < FILE_LEN_BYTES_MIN {
            return Err(self.damaged(self.len_bytes, SnapshotDamage::TooShort));
        }
        let mut bytes = [0; HEADER_LEN_BYTES];
        self.take(disk, &mut bytes)?;
        self.crc.update(&bytes);
        self.header = SnapshotHeader::decode(&bytes).map_err(|error| match error {
            HeaderError::Magic => self.damaged(0, SnapshotDamage::Magic),
            HeaderError::UnsupportedVersion { version } => SnapshotError::UnsupportedVersion {
                path: self.path.clone(),
                version,
            },
        })?;
        self.sections_left = self.header.section_count;
        match self.next_section(disk)? {
            Some(META_SECTION) => {}
            section => {
                let damage = SnapshotDamage::SectionOrder {
                    section: section.unwrap_or(META_SECTION),
                };
                return Err(self.damaged(HEADER_LEN_BYTES as u64, damage));
            }
        }
        SnapshotMeta::read(&mut SectionSource { reader: self, disk })
    }

    /// What stands before the sections. To be believed only after [`validate`].
    #[must_use]
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Its length, bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How much of it was read, bytes.
    #[must_use]
    pub fn read_len_bytes(&self) -> u64 {
        self.at
    }

    /// Passes over what is left of the open section and opens the next. `None` when there is none:
    /// then the whole file was read and its checksum is right.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn next_section(&mut self, disk: &mut dyn Disk) -> Result<Option<u8>, SnapshotError> {
        while self.is_section_open {
            self.next_block(disk)?;
        }
        self.plain.clear();
        self.plain_at = 0;
        if self.sections_left == 0 {
            return self.end(disk).map(|()| None);
        }
        self.sections_left -= 1;
        let head_offset = self.at;
        let mut bytes = [0; SECTION_HEAD_LEN_BYTES];
        self.take(disk, &mut bytes)?;
        self.crc.update(&bytes);
        let head = SectionHead::decode(&bytes);
        let rest = (self.len_bytes - self.at).checked_sub(FILE_CRC_LEN_BYTES as u64);
        if rest.is_none_or(|rest| rest < head.data_len_bytes) {
            return Err(self.damaged(head_offset, SnapshotDamage::SectionLength));
        }
        if self.last_section.is_some_and(|last| head.section <= last) {
            let section = head.section;
            return Err(self.damaged(head_offset, SnapshotDamage::SectionOrder { section }));
        }
        self.last_section = Some(head.section);
        self.section_end = self.at + head.data_len_bytes;
        self.is_section_open = true;
        Ok(Some(head.section))
    }

    /// Fills `bytes` with the next bytes of the open section.
    fn read(&mut self, disk: &mut dyn Disk, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            if self.is_at_end(disk)? {
                let what = "a section that ends inside an entry";
                return Err(self.meaningless(what));
            }
            let there = self.plain.get(self.plain_at..).unwrap_or_default();
            let count = there.len().min(rest.len());
            for (target, source) in rest.iter_mut().zip(there) {
                *target = *source;
            }
            self.plain_at += count;
            filled += count;
        }
        Ok(())
    }

    fn is_at_end(&mut self, disk: &mut dyn Disk) -> Result<bool, SnapshotError> {
        while self.plain_at == self.plain.len() {
            if !self.is_section_open {
                return Ok(true);
            }
            self.next_block(disk)?;
        }
        Ok(false)
    }

    /// Reads the next block of the open section, or its end.
    fn next_block(&mut self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        self.plain.clear();
        self.plain_at = 0;
        let head_offset = self.at;
        let room = self.section_end - self.at;
        if room < BLOCK_HEAD_LEN_BYTES as u64 {
            return Err(self.damaged(head_offset, SnapshotDamage::SectionLength));
        }
        let mut bytes = [0; BLOCK_HEAD_LEN_BYTES];
        self.take(disk, &mut bytes)?;
        self.crc.update(&bytes);
        let head = BlockHead::decode(&bytes);
        if head == BlockHead::END {
            if self.at != self.section_end {
                return Err(self.damaged(head_offset, SnapshotDamage::SectionLength));
            }
            self.is_section_open = false;
            return Ok(());
        }
        let plain_len = usize::try_from(head.plain_len_bytes).unwrap_or(usize::MAX);
        let stored_len = usize::try_from(head.stored_len_bytes).unwrap_or(usize::MAX);
        let room = self.section_end - self.at;
        let is_in_bounds = (1..=BLOCK_LEN_BYTES).contains(&plain_len)
            && stored_len <= self.codec.max_encoded_len(plain_len)
            && u64::from(head.stored_len_bytes) <= room;
        if !is_in_bounds {
            return Err(self.damaged(head_offset, SnapshotDamage::BlockLength));
        }
        let mut stored = std::mem::take(&mut self.stored);
        stored.clear();
        stored.resize(stored_len, 0);
        self.block_offset = self.at;
        self.take(disk, &mut stored)?;
        self.decode_block(stored, plain_len, head.crc)
    }

    fn decode_block(
        &mut self,
        mut stored: Vec<u8>,
        plain_len: usize,
        expected: u32,
    ) -> Result<(), SnapshotError> {
        let mut hasher = Hasher::new();
        hasher.update(&stored);
        let got = hasher.clone().finalize();
        if got != expected {
            let damage = SnapshotDamage::BlockChecksum { expected, got };
            return Err(self.damaged(self.block_offset, damage));
        }
        self.crc.combine(&hasher);
        let decoded = match self.codec.decode(&stored) {
            Ok(Cow::Borrowed(plain)) if plain.len() == stored.len() => None,
            Ok(Cow::Borrowed(plain)) => Some(plain.to_vec()),
            Ok(Cow::Owned(plain)) => Some(plain),
            Err(error) => {
                return Err(self.damaged(self.block_offset, SnapshotDamage::Codec(error)));
            }
        };
        match decoded {
            // The codec changed nothing: the two buffers change places instead.
            None => {
                std::mem::swap(&mut self.plain, &mut stored);
                self.stored = stored;
            }
            Some(plain) => {
                self.plain = plain;
                self.stored = stored;
            }
        }
        if self.plain.len() != plain_len {
            return Err(self.damaged(self.block_offset, SnapshotDamage::BlockLength));
        }
        Ok(())
    }

    fn end(&mut self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        if self.len_bytes - self.at != FILE_CRC_LEN_BYTES as u64 {
            return Err(self.damaged(self.at, SnapshotDamage::TrailingBytes));
        }
        let at = self.at;
        let mut bytes = [0; FILE_CRC_LEN_BYTES];
        self.take(disk, &mut bytes)?;
        let expected = u32::from_le_bytes(bytes);
        let got = self.crc.clone().finalize();
        // Asked again, the answer is the same.
        self.at = at;
        if got != expected {
            return Err(self.damaged(at, SnapshotDamage::FileChecksum { expected, got }));
        }
        Ok(())
    }

    /// Takes the next bytes of the file.
    fn take(&mut self, disk: &mut dyn Disk, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        if self.len_bytes - self.at < bytes.len() as u64 {
            return Err(self.damaged(self.at, SnapshotDamage::TooShort));
        }
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let start = usize::try_from(self.at - self.chunk_offset).unwrap_or(usize::MAX);
            let there = self.chunk.get(start..).unwrap_or_default();
            if there.is_empty() {
                self.fill_chunk(disk)?;
                continue;
            }
            let count = there.len().min(rest.len());
            let (target, source) = (rest.get_mut(..count), there.get(..count));
            if let (Some(target), Some(source)) = (target, source) {
                target.copy_from_slice(source);
            }
            self.at += count as u64;
            filled += count;
        }
        Ok(())
    }

    /// Reads the chunk that holds `at`, from an aligned position.
    fn fill_chunk(&mut self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        let align = ALIGN_BYTES as u64;
        self.chunk_offset = self.at / align * align;
        let rest = (self.len_bytes - self.chunk_offset).next_multiple_of(align);
        let op = Op::Read {
            file: self.file,
            offset: self.chunk_offset,
            len_bytes: usize::try_from(rest)
                .map_or(CHUNK_LEN_BYTES, |rest| rest.min(CHUNK_LEN_BYTES)),
            buf: std::mem::take(&mut self.chunk),
        };
        let (result, buf) = files::run_with_buf(disk, op);
        self.chunk = buf.unwrap_or_default();
        let count = match result {
            Ok(Output::Read { count }) => count as u64,
            Ok(_) => 0,
            Err(source) => {
                return Err(SnapshotError::Io {
                    path: self.path.clone(),
                    source,
                });
            }
        };
        // Bytes behind the length that was looked at are not part of it.
        let rest = self.len_bytes - self.chunk_offset;
        self.chunk
            .truncate(usize::try_from(count.min(rest)).unwrap_or(usize::MAX));
        if self.chunk_offset + self.chunk.len() as u64 <= self.at {
            // Nothing new came, though the file is longer: somebody else is at it.
            return Err(SnapshotError::Io {
                path: self.path.clone(),
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, damage: SnapshotDamage) -> SnapshotError {
        SnapshotError::Damaged {
            path: self.path.clone(),
            offset,
            damage,
        }
    }

    fn meaningless(&self, what: &'static str) -> SnapshotError {
        self.damaged(self.block_offset, SnapshotDamage::Content { what })
    }

    /// Closes the file.
    pub fn close(self, disk: &mut dyn Disk) {
        files::close(disk, self.file);
    }
}

/// The open section of a reader, with its disk.
pub struct SectionSource<'a> {
    /// The reader, inside a section.
    pub reader: &'a mut SnapshotReader,
    /// Its disk.
    pub disk: &'a mut dyn Disk,
}

impl BlockSource for SectionSource<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.reader.read(self.disk, bytes)
    }

    fn is_at_end(&mut self) -> Result<bool, SnapshotError> {
        self.reader.is_at_end(self.disk)
    }

    fn meaningless(&self, what: &'static str) -> SnapshotError {
        self.reader.meaningless(what)
    }
}

/// What a snapshot says of itself, once all of it was read and found whole. `between` is called
/// after each block, for whoever has other work on the same disk; it leaves nothing in flight, and
/// may end the reading with a `Break`.
///
/// # Errors
/// See [`SnapshotError`]: what [`SnapshotReader`] would meet; `Interrupted` after a `Break`.
pub fn validate(
    disk: &mut dyn Disk,
    path: &str,
    mode: OpenMode,
    codec: Arc<dyn StorageCodec>,
    between: &mut dyn FnMut(&mut dyn Disk, u64) -> ControlFlow<()>,
) -> Result<(SnapshotHeader, SnapshotMeta), SnapshotError> {
    let (mut reader, meta) = SnapshotReader::open(disk, path, mode, codec)?;
    let result = loop {
        if reader.is_section_open {
            if let Err(error) = reader.next_block(disk) {
                break Err(error);
            }
            if between(disk, reader.at).is_break() {
                let path = path.to_owned();
                let source = io::ErrorKind::Interrupted.into();
                break Err(SnapshotError::Io { path, source });
            }
            continue;
        }
        match reader.next_section(disk) {
            Ok(Some(_)) => {}
            Ok(None) => break Ok((reader.header, meta)),
            Err(error) => break Err(error),
        }
    };
    reader.close(disk);
    result
}

impl SnapshotMeta {
    /// Compares it with the name of its file, with the database, and with the watermark that
    /// MANIFEST states, if it names this snapshot.
    ///
    /// # Errors
    /// When one of them is another's.
    pub fn check(
        &self,
        id: u64,
        database_uuid: [u8; 16],
        codec_id: &str,
        watermark: Option<u64>,
    ) -> Result<(), SnapshotError> {
        let path = snapshot_path(id);
        if self.database_uuid != database_uuid {
            return Err(SnapshotError::OtherDatabase { path });
        }
        if self.codec_id != codec_id {
            return Err(SnapshotError::CodecMismatch {
                path,
                expected: codec_id.to_owned(),
                got: self.codec_id.clone(),
            });
        }
        let watermark = watermark.unwrap_or(self.watermark_txn);
        let pairs = [
            ("id", id, self.snapshot_id),
            ("watermark", watermark, self.watermark_txn),
        ];
        for (what, expected, got) in pairs {
            if expected != got {
                return Err(SnapshotError::Mismatch {
                    path,
                    what,
                    expected,
                    got,
                });
            }
        }
        Ok(())
    }
}
