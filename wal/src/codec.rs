//! The one seam through which stored bytes may be compressed or encrypted.
//!
//! A codec sees whole writesets, keys included; frames, headers and checksums stay plain, and
//! checksums are over encoded bytes. A database keeps its codec for life. Encoding runs on the log
//! thread while it builds a batch.

use std::borrow::Cow;
use std::sync::Arc;

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

    /// The name kept in MANIFEST.
    fn codec_id(&self) -> &'static str;
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

    fn codec_id(&self) -> &'static str {
        Self::ID
    }
}

/// The codec of a name found in MANIFEST or configuration.
///
/// # Errors
/// [`CodecError::UnknownCodec`] when this build has no codec of that name.
pub fn get_codec(codec_id: &str) -> Result<Arc<dyn StorageCodec>, CodecError> {
    match codec_id {
        IdentityCodec::ID => Ok(Arc::new(IdentityCodec)),
        _ => Err(CodecError::UnknownCodec {
            codec_id: codec_id.to_owned(),
        }),
    }
}

/// A codec failed or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No codec of that name in this build.
    #[error("unknown codec {codec_id:?}")]
    UnknownCodec {
        /// The name asked for.
        codec_id: String,
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
