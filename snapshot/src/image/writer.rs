//! Writing a snapshot, block by block, into a temporary file.
//!
//! The writer holds one block of plain bytes and one of stored bytes, whatever the snapshot's
//! size. Nothing it writes counts before [`super::publish_snapshot`]. The length of a section is
//! patched in when the section ends; the file's checksum is combined from that of its parts, so
//! that nothing is read back for it.

use std::io;
use std::sync::Arc;

use crc32fast::Hasher;
use in_mem_wal::StorageCodec;
use in_mem_wal::disk::{Disk, FileId, OpenMode};
use in_mem_wal::files;

use super::format::{
    BLOCK_HEAD_LEN_BYTES, BLOCK_LEN_BYTES, BlockHead, HEADER_LEN_BYTES, META_SECTION,
    SECTION_HEAD_LEN_BYTES, SectionHead, SnapshotHeader,
};
use super::{BlockSink, SnapshotError, SnapshotMeta, temp_path};

/// Written bytes after which the file is synced, bytes: the syncs of the log must not wait behind
/// all of a large snapshot at once.
const SYNC_LEN_BYTES: u64 = 2 << 20;

/// A snapshot that is being written.
pub struct SnapshotWriter {
    path: String,
    file: FileId,
    codec: Arc<dyn StorageCodec>,
    /// Where the next bytes go.
    offset: u64,
    unsynced_len_bytes: u64,
    /// Of everything before the open section.
    crc: Hasher,
    section: Option<OpenSection>,
    last_section: Option<u8>,
    sections_left: u8,
    plain: Vec<u8>,
    stored: Vec<u8>,
}

struct OpenSection {
    section: u8,
    head_offset: u64,
    /// Of its data.
    crc: Hasher,
}

/// What was written and synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The file's length, bytes.
    pub len_bytes: u64,
    /// The checksum at its end.
    pub crc: u32,
}

impl SnapshotWriter {
    /// Begins snapshot `meta.snapshot_id`: writes the header and opens section 0, behind what the
    /// meta says. A left-over of the same id is replaced.
    ///
    /// # Errors
    /// What the kernel said; the temporary file may be left.
    ///
    /// # Panics
    /// When the meta names another codec than `codec`, or there is no section to write.
    pub fn create(
        disk: &mut dyn Disk,
        header: &SnapshotHeader,
        meta: &SnapshotMeta,
        codec: Arc<dyn StorageCodec>,
    ) -> Result<Self, SnapshotError> {
        assert_eq!(meta.codec_id, codec.codec_id(), "one codec per snapshot");
        let path = temp_path(meta.snapshot_id);
        let file = match files::open(disk, &path, OpenMode::CreateTruncate) {
            Ok(file) => file,
            Err(source) => return Err(SnapshotError::Io { path, source }),
        };
        let mut writer = Self {
            path,
            file,
            codec,
            offset: 0,
            unsynced_len_bytes: 0,
            crc: Hasher::new(),
            section: None,
            last_section: None,
            sections_left: header.section_count,
            plain: Vec::with_capacity(BLOCK_LEN_BYTES),
            stored: Vec::new(),
        };
        let bytes: [u8; HEADER_LEN_BYTES] = header.encode();
        writer.crc.update(&bytes);
        let begun = writer
            .write(disk, &bytes)
            .and_then(|()| writer.begin_section(disk, META_SECTION))
            .and_then(|()| {
                meta.write(&mut Sink {
                    writer: &mut writer,
                    disk,
                })
            });
        match begun {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.abandon(disk);
                Err(error)
            }
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.offset
    }

    /// The path of the temporary file.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens the next section.
    ///
    /// # Errors
    /// What the kernel said.
    ///
    /// # Panics
    /// When a section is open, its type does not rise, or the header counted fewer.
    pub fn begin_section(&mut self, disk: &mut dyn Disk, section: u8) -> Result<(), SnapshotError> {
        assert!(self.section.is_none(), "sections do not nest");
        assert!(
            self.last_section.is_none_or(|last| last < section),
            "section types rise"
        );
        self.sections_left = self
            .sections_left
            .checked_sub(1)
            .expect("the header counted every section");
        self.last_section = Some(section);
        self.section = Some(OpenSection {
            section,
            head_offset: self.offset,
            crc: Hasher::new(),
        });
        self.write(disk, &[0; SECTION_HEAD_LEN_BYTES])
    }

    /// Adds bytes to the open section.
    ///
    /// # Errors
    /// When a block could not be written.
    ///
    /// # Panics
    /// When no section is open.
    pub fn push(&mut self, disk: &mut dyn Disk, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        assert!(self.section.is_some(), "bytes belong to a section");
        while !bytes.is_empty() {
            let room = BLOCK_LEN_BYTES - self.plain.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
            if self.plain.len() == BLOCK_LEN_BYTES {
                self.end_block(disk)?;
            }
        }
        Ok(())
    }

    /// Ends the open section.
    ///
    /// # Errors
    /// When it could not be written.
    ///
    /// # Panics
    /// When no section is open.
    pub fn end_section(&mut self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        if !self.plain.is_empty() {
            self.end_block(disk)?;
        }
        let end = BlockHead::END.encode();
        self.write(disk, &end)?;
        let mut section = self.section.take().expect("a section is open");
        section.crc.update(&end);
        let data_offset = section.head_offset + SECTION_HEAD_LEN_BYTES as u64;
        let head = SectionHead {
            section: section.section,
            data_len_bytes: self.offset - data_offset,
        };
        let head = head.encode();
        files::write_all(disk, self.file, section.head_offset, &head).map_err(self.io())?;
        self.crc.update(&head);
        self.crc.combine(&section.crc);
        Ok(())
    }

    /// Ends the file and syncs it.
    ///
    /// # Errors
    /// What the kernel said; the temporary file is removed if possible.
    ///
    /// # Panics
    /// When a section is open or missing.
    pub fn finish(mut self, disk: &mut dyn Disk) -> Result<Written, SnapshotError> {
        assert!(self.section.is_none(), "every section was ended");
        assert_eq!(self.sections_left, 0, "every section was written");
        let crc = self.crc.clone().finalize();
        let result = self
            .write(disk, &crc.to_le_bytes())
            .and_then(|()| files::sync(disk, self.file).map_err(self.io()));
        match result {
            Ok(()) => {
                files::close(disk, self.file);
                Ok(Written {
                    len_bytes: self.offset,
                    crc,
                })
            }
            Err(error) => {
                self.abandon(disk);
                Err(error)
            }
        }
    }

    /// Gives the snapshot up and removes its file if possible.
    pub fn abandon(self, disk: &mut dyn Disk) {
        files::close(disk, self.file);
        files::remove_leftover(disk, &self.path);
    }

    fn end_block(&mut self, disk: &mut dyn Disk) -> Result<(), SnapshotError> {
        let plain_len = self.plain.len();
        let stored = self
            .codec
            .encode(&self.plain)
            .map_err(|source| SnapshotError::Encode {
                path: self.path.clone(),
                source,
            })?;
        assert!(
            stored.len() <= self.codec.max_encoded_len(plain_len),
            "a codec keeps its bound"
        );
        let mut stored_crc = Hasher::new();
        stored_crc.update(&stored);
        let head = BlockHead {
            plain_len_bytes: u32::try_from(plain_len).expect("a block fits 32 bits"),
            stored_len_bytes: u32::try_from(stored.len()).expect("a codec's bound fits 32 bits"),
            crc: stored_crc.clone().finalize(),
        };
        let head: [u8; BLOCK_HEAD_LEN_BYTES] = head.encode();
        let mut bytes = std::mem::take(&mut self.stored);
        bytes.clear();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&stored);
        drop(stored);
        if let Some(section) = &mut self.section {
            section.crc.update(&head);
            section.crc.combine(&stored_crc);
        }
        self.plain.clear();
        let result = self.write(disk, &bytes);
        self.stored = bytes;
        result
    }

    /// Writes behind what was written, and syncs from time to time.
    fn write(&mut self, disk: &mut dyn Disk, bytes: &[u8]) -> Result<(), SnapshotError> {
        files::write_all(disk, self.file, self.offset, bytes).map_err(self.io())?;
        self.offset += bytes.len() as u64;
        self.unsynced_len_bytes += bytes.len() as u64;
        if SYNC_LEN_BYTES <= self.unsynced_len_bytes {
            files::sync(disk, self.file).map_err(self.io())?;
            self.unsynced_len_bytes = 0;
        }
        Ok(())
    }

    fn io(&self) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
        let path = self.path.clone();
        move |source| SnapshotError::Io { path, source }
    }
}

/// A writer with its disk.
struct Sink<'a> {
    writer: &'a mut SnapshotWriter,
    disk: &'a mut dyn Disk,
}

impl BlockSink for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.writer.push(self.disk, bytes)
    }
}
