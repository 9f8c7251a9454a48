//! The one seam through which stored bytes may be compressed or encrypted.
//!
//! A codec sees whole writesets, keys included; frames, headers and checksums stay plain, and
//! checksums are over encoded bytes. A database keeps its codec for life. Encoding runs on the log
//! thread while it builds a batch, and on the background thread for the blocks of a snapshot.
//!
//! ```text
//! name                 kept in MANIFEST as             feature of this crate
//! identity             identity                        -
//! lz4                  lz4                             lz4
//! aes-256-gcm          aes-256-gcm:<id of the key>     encryption
//! lz4+aes-256-gcm      lz4+aes-256-gcm:<id of the key> lz4, encryption
//! ```
//!
//! The id of the key tells a wrong key from damage before anything is decoded: see [`CodecKey::id`].

#[cfg(feature = "encryption")]
mod encryption;
mod key;
#[cfg(feature = "lz4")]
mod lz4;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use key::{CodecKey, KEY_LEN_BYTES, KeyFormatError};

/// What separates the name of a codec from the id of its key.
const KEY_ID_SEPARATOR: char = ':';

/// What a codec of this build adds to any plain bytes at most, bytes: room is kept for it in the
/// largest record.
pub const ADDED_LEN_BYTES_MAX: usize = 64;

/// The names of the codecs of this build, as they are chosen.
pub const CODEC_NAMES: &[&str] = &[
    IdentityCodec::ID,
    #[cfg(feature = "lz4")]
    lz4::Lz4Codec::ID,
    #[cfg(feature = "encryption")]
    encryption::NAME,
    #[cfg(all(feature = "lz4", feature = "encryption"))]
    encryption::NAME_WITH_LZ4,
];

/// Turns plain writesets into stored bytes and back.
pub trait StorageCodec: Send + Sync {
    /// The stored form of `plain`, at most `max_encoded_len(plain.len())` bytes. A codec that
    /// changes nothing borrows, so that it copies nothing.
    ///
    /// # Errors
    /// When the codec cannot encode; this poisons the log.
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError>;

    /// The plain form of `stored`.
    ///
    /// # Errors
    /// When `stored` was not made by this codec.
    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError>;

    /// Upper bound of the stored length, bytes, for `plain_len_bytes` of plain bytes.
    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize;

    /// The name kept in MANIFEST and in snapshots, at most 255 bytes; the same for two codecs if,
    /// and only if, each decodes what the other has encoded.
    fn codec_id(&self) -> &str;
}

impl fmt::Debug for dyn StorageCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageCodec({})", self.codec_id())
    }
}

/// Stores bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdentityCodec;

impl IdentityCodec {
    /// Its name in MANIFEST.
    pub const ID: &'static str = "identity";
}

impl StorageCodec for IdentityCodec {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        Ok(Cow::Borrowed(plain))
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        Ok(Cow::Borrowed(stored))
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes
    }

    fn codec_id(&self) -> &str {
        Self::ID
    }
}

/// The codec of a name found in MANIFEST or configuration, for one that needs no key.
///
/// # Errors
/// See [`open_codec`].
pub fn get_codec(codec_id: &str) -> Result<Arc<dyn StorageCodec>, CodecError> {
    open_codec(codec_id, None)
}

/// The codec of a name as it is chosen, or as it is kept in MANIFEST, with the id of its key. Each
/// one is opened once per open of a database: a codec that encrypts draws its salt here. A key that
/// the codec does not need is not used.
///
/// # Errors
/// [`CodecError::UnknownCodec`] when this build has no codec of that name;
/// [`CodecError::KeyMissing`] when it needs a key and there is none; [`CodecError::WrongKey`] when
/// `codec_id` names another key; [`CodecError::Random`] when no salt can be drawn.
pub fn open_codec(
    codec_id: &str,
    key: Option<&CodecKey>,
) -> Result<Arc<dyn StorageCodec>, CodecError> {
    let unknown = || CodecError::UnknownCodec {
        codec_id: codec_id.to_owned(),
    };
    let name = codec_name(codec_id);
    if !CODEC_NAMES.contains(&name) {
        return Err(unknown());
    }
    if needs_key(name) {
        let key = key.ok_or_else(|| CodecError::KeyMissing {
            codec_id: codec_id.to_owned(),
        })?;
        check_key(codec_id, key)?;
        return sealed(name, key).unwrap_or_else(|| Err(unknown()));
    }
    match codec_id {
        IdentityCodec::ID => Ok(Arc::new(IdentityCodec)),
        #[cfg(feature = "lz4")]
        lz4::Lz4Codec::ID => Ok(Arc::new(lz4::Lz4Codec::new())),
        _ => Err(unknown()),
    }
}

/// The name of the codec, without the id of a key.
#[must_use]
pub fn codec_name(codec_id: &str) -> &str {
    codec_id
        .split_once(KEY_ID_SEPARATOR)
        .map_or(codec_id, |(name, _)| name)
}

/// Whether a codec of this name, known to this build or not, encrypts.
#[must_use]
pub fn needs_key(codec_id: &str) -> bool {
    let mut parts = codec_name(codec_id).split('+');
    parts.next_back() == Some("aes-256-gcm")
}

/// The key is the one that `codec_id` names, if it names any.
fn check_key(codec_id: &str, key: &CodecKey) -> Result<(), CodecError> {
    let Some((_, expected)) = codec_id.split_once(KEY_ID_SEPARATOR) else {
        return Ok(());
    };
    let got = key.id();
    match expected == got {
        true => Ok(()),
        false => Err(CodecError::WrongKey {
            expected: expected.to_owned(),
            got,
        }),
    }
}

/// An encrypting codec; none if this build has none of that name.
#[cfg(feature = "encryption")]
fn sealed(name: &str, key: &CodecKey) -> Option<Result<Arc<dyn StorageCodec>, CodecError>> {
    let (name, inner): (_, Arc<dyn StorageCodec>) = match name {
        encryption::NAME => (encryption::NAME, Arc::new(IdentityCodec)),
        #[cfg(feature = "lz4")]
        encryption::NAME_WITH_LZ4 => (encryption::NAME_WITH_LZ4, Arc::new(lz4::Lz4Codec::new())),
        _ => return None,
    };
    let codec = encryption::EncryptingCodec::open(name, key, inner);
    Some(codec.map(|codec| Arc::new(codec) as Arc<dyn StorageCodec>))
}

/// This build encrypts nothing.
#[cfg(not(feature = "encryption"))]
fn sealed(_: &str, _: &CodecKey) -> Option<Result<Arc<dyn StorageCodec>, CodecError>> {
    None
}

/// A codec failed or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No codec of that name in this build.
    #[error("this build has no codec {codec_id:?}")]
    UnknownCodec {
        /// The name asked for.
        codec_id: String,
    },
    /// The codec encrypts, and no key was given.
    #[error("codec {codec_id} needs a key, and none was given")]
    KeyMissing {
        /// Which codec.
        codec_id: String,
    },
    /// The key is not the one the database was made with. Nothing was decoded.
    #[error(
        "the key does not fit this database: it was made with the key of id {expected}, and the \
         key given has the id {got}"
    )]
    WrongKey {
        /// The id of the key that fits.
        expected: String,
        /// That of the key given.
        got: String,
    },
    /// The kernel gives no random bytes, so nothing can be encrypted.
    #[error("no random bytes for a salt: error {os_error}")]
    Random {
        /// What the kernel said, by its number.
        os_error: i32,
    },
    /// The bytes could not be encoded.
    #[error("codec {codec_id} could not encode {len_bytes} bytes")]
    Encode {
        /// Which codec.
        codec_id: &'static str,
        /// Length of the plain bytes.
        len_bytes: usize,
    },
    /// The bytes were not made by this codec.
    #[error("codec {codec_id} could not decode {len_bytes} bytes")]
    Decode {
        /// Which codec.
        codec_id: &'static str,
        /// Length of the stored bytes.
        len_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_borrows_both_ways() {
        let plain = b"abc".as_slice();
        assert!(matches!(
            IdentityCodec.encode(plain),
            Ok(Cow::Borrowed(b"abc"))
        ));
        assert!(matches!(
            IdentityCodec.decode(plain),
            Ok(Cow::Borrowed(b"abc"))
        ));
        assert_eq!(IdentityCodec.max_encoded_len(3), 3);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(get_codec("identity").is_ok());
        assert!(matches!(
            get_codec("rot13"),
            Err(CodecError::UnknownCodec { .. })
        ));
    }
}
