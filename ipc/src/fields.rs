//! Tagged fields: the layout of the greetings, readable across versions of the protocol.
//!
//! ```text
//! offset  size  field
//!      0     2  id u16
//!      2     2  len u16
//!      4   len  bytes
//! ```
//!
//! A greeting is a sequence of such fields, little-endian, up to the end of its body. A reader
//! skips ids it does not know; a field that occurs twice counts each time, which is how lists
//! are sent. A body is malformed if and only if a field reaches past its end or the content of
//! a known field does not fit its type.

use crate::codec::FrameBuffer;
use crate::frame::{FRAME_ALIGN_BYTES, FrameKind, GREETING_LEN_BYTES_MAX, Header};

/// Why the body of a greeting cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A field reaches past the end of the body.
    #[error("field at offset {offset} reaches past the end of the body")]
    Truncated {
        /// Where the field begins.
        offset: u32,
    },
    /// The content of a field does not fit its type.
    #[error("field {id} has content of the wrong form")]
    Content {
        /// The id of the field.
        id: u16,
    },
    /// A field that has to be there is not.
    #[error("field {id} is missing")]
    Missing {
        /// The id of the field.
        id: u16,
    },
    /// A field is too long to be written.
    #[error("field {id} of {len_bytes} bytes is too long")]
    TooLong {
        /// The id of the field.
        id: u16,
        /// The length of its content, bytes.
        len_bytes: u64,
    },
    /// All fields together are too long to be written.
    #[error("greeting of {len_bytes} bytes exceeds {GREETING_LEN_BYTES_MAX} bytes")]
    BodyTooLong {
        /// The length of the body, bytes.
        len_bytes: u64,
    },
}

/// One field, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// What it is.
    pub id: u16,
    /// Its content.
    pub bytes: &'a [u8],
}

impl<'a> Field<'a> {
    /// The content as a byte.
    ///
    /// # Errors
    ///
    /// It has another length.
    pub fn as_u8(&self) -> Result<u8, FieldError> {
        self.as_array::<1>().map(|[byte]| byte)
    }

    /// The content as a 16-bit integer.
    ///
    /// # Errors
    ///
    /// It has another length.
    pub fn as_u16(&self) -> Result<u16, FieldError> {
        self.as_array().map(u16::from_le_bytes)
    }

    /// The content as a 64-bit integer.
    ///
    /// # Errors
    ///
    /// It has another length.
    pub fn as_u64(&self) -> Result<u64, FieldError> {
        self.as_array().map(u64::from_le_bytes)
    }

    /// The content as text.
    ///
    /// # Errors
    ///
    /// It is not UTF-8.
    pub fn as_text(&self) -> Result<&'a str, FieldError> {
        std::str::from_utf8(self.bytes).map_err(|_| FieldError::Content { id: self.id })
    }

    /// The content as a fixed number of bytes.
    ///
    /// # Errors
    ///
    /// It has another length.
    pub fn as_array<const N: usize>(&self) -> Result<[u8; N], FieldError> {
        self.bytes
            .try_into()
            .map_err(|_| FieldError::Content { id: self.id })
    }
}

/// Reads fields one after the other.
#[derive(Debug, Clone)]
pub struct FieldReader<'a> {
    body: &'a [u8],
    offset: usize,
}

impl<'a> FieldReader<'a> {
    /// A reader at the first field of a body.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { body, offset: 0 }
    }

    /// The next field; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// The field reaches past the end of the body.
    pub fn read(&mut self) -> Result<Option<Field<'a>>, FieldError> {
        let rest = self.body.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let truncated = FieldError::Truncated {
            offset: u32::try_from(self.offset).unwrap_or(u32::MAX),
        };
        let (id, rest) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        let (len, rest) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let bytes = rest.get(..len).ok_or(truncated)?;
        self.offset += 4 + len;
        Ok(Some(Field {
            id: u16::from_le_bytes(*id),
            bytes,
        }))
    }
}

/// Appends one field.
///
/// # Errors
///
/// The content is longer than a field can be; nothing was appended.
pub fn write_field(body: &mut Vec<u8>, id: u16, bytes: &[u8]) -> Result<(), FieldError> {
    let Ok(len) = u16::try_from(bytes.len()) else {
        return Err(FieldError::TooLong {
            id,
            len_bytes: bytes.len() as u64,
        });
    };
    body.extend_from_slice(&id.to_le_bytes());
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(bytes);
    Ok(())
}

/// Appends a greeting of this kind as one frame.
///
/// # Errors
///
/// The body is longer than that of a greeting may be; the buffer is as it was.
pub(crate) fn append_greeting(
    kind: FrameKind,
    body: &[u8],
    buffer: &mut FrameBuffer,
) -> Result<(), FieldError> {
    debug_assert!(kind.is_greeting());
    let body_len_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if GREETING_LEN_BYTES_MAX < body_len_bytes {
        return Err(FieldError::BodyTooLong {
            len_bytes: body.len() as u64,
        });
    }
    let header = Header::new(kind, body_len_bytes);
    let start = buffer.len();
    assert!(
        start % FRAME_ALIGN_BYTES as usize == 0,
        "a frame begins at a multiple of 16"
    );
    buffer.extend_from_slice(&header.encode());
    buffer.extend_from_slice(body);
    buffer.resize(start + header.frame_len_bytes() as usize, 0);
    Ok(())
}
