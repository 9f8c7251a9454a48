//! Why a snapshot is not written or not loaded. Damage names file and offset.

use std::fmt;
use std::io;

use in_mem_wal::codec::CodecError;

/// Why a snapshot could not be written or read. Neither MANIFEST nor the log was touched.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The kernel said no.
    #[error("{path}: input or output failed")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{path} is damaged at offset {offset}: {damage}")]
    Damaged {
        /// The file.
        path: String,
        /// Where it stops making sense, bytes from its start.
        offset: u64,
        /// How that is known.
        damage: SnapshotDamage,
    },
    /// Written by a version this build does not know.
    #[error("{path} has the unknown format version {version}")]
    UnsupportedVersion {
        /// The file.
        path: String,
        /// The version found.
        version: u32,
    },
    /// It holds a section that no primitive of this build knows.
    #[error("{path} holds a section of the unknown primitive {primitive}")]
    UnknownPrimitive {
        /// The file.
        path: String,
        /// Its id.
        primitive: u8,
    },
    /// It was written with another codec.
    #[error("{path} is of codec {got:?}, the database of {expected:?}")]
    CodecMismatch {
        /// The file.
        path: String,
        /// The codec of the database.
        expected: String,
        /// The codec found.
        got: String,
    },
    /// It belongs to another database.
    #[error("{path} belongs to another database")]
    OtherDatabase {
        /// The file.
        path: String,
    },
    /// Its id or watermark is not the one it is known by.
    #[error("{path} says {what} {got}, expected is {expected}")]
    Mismatch {
        /// The file.
        path: String,
        /// Which number.
        what: &'static str,
        /// By its name, or by MANIFEST.
        expected: u64,
        /// By its own bytes.
        got: u64,
    },
    /// A block could not be encoded.
    #[error("{path}: a block could not be encoded")]
    Encode {
        /// The file.
        path: String,
        /// What the codec said.
        source: CodecError,
    },
    /// A primitive could not say what it holds.
    #[error("{path}: primitive {primitive} could not be written")]
    Serialization {
        /// The file.
        path: String,
        /// Its id.
        primitive: u8,
    },
}

impl SnapshotError {
    /// True when the bytes are whole, by their checksums, and of a form this build does not know.
    #[must_use]
    pub fn needs_newer_build(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedVersion { .. } | Self::UnknownPrimitive { .. }
        )
    }
}

/// How damage is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotDamage {
    /// The file is shorter than the shortest snapshot, or ends inside a section.
    TooShort,
    /// Another file.
    Magic,
    /// The first section is not the snapshot's own, or types do not rise.
    SectionOrder {
        /// The type found.
        section: u8,
    },
    /// A section is longer than what is left of the file, or its blocks do not add up.
    SectionLength,
    /// A block announces lengths that no block has.
    BlockLength,
    /// A block's bytes changed.
    BlockChecksum {
        /// The stored checksum.
        expected: u32,
        /// That of the bytes.
        got: u32,
    },
    /// The codec refuses a block whose checksum is right.
    Codec(CodecError),
    /// Bytes stand behind the last section.
    TrailingBytes,
    /// The checksum of the whole file is another.
    FileChecksum {
        /// The stored checksum.
        expected: u32,
        /// That of the bytes.
        got: u32,
    },
    /// Checksums are right, and a field has no meaning.
    Content {
        /// Which one.
        what: &'static str,
    },
}

impl fmt::Display for SnapshotDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("the file ends there"),
            Self::Magic => f.write_str("no snapshot begins like this"),
            Self::SectionOrder { section } => write!(f, "section {section} is out of order"),
            Self::SectionLength => f.write_str("the section's length is wrong"),
            Self::BlockLength => f.write_str("no block has such a length"),
            Self::BlockChecksum { expected, got } => {
                write!(f, "block checksum is {got:08x}, stored is {expected:08x}")
            }
            Self::Codec(error) => write!(f, "{error}"),
            Self::TrailingBytes => f.write_str("bytes follow the last section"),
            Self::FileChecksum { expected, got } => {
                write!(f, "file checksum is {got:08x}, stored is {expected:08x}")
            }
            Self::Content { what } => write!(f, "{what} has no meaning"),
        }
    }
}
