//! The one binary encoding of values: a fixed profile of MessagePack.
//!
//! The same bytes stand in the request, the log record, the version chain and the reply. They are
//! checked once, where they enter ([`validate`]), kept as received, and never re-encoded. Our
//! encoder writes the shortest form of each item.

mod build;
mod serde_bridge;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod validate;

use crate::limits;
use crate::value::ValueType;

pub use build::{decode, encode};
pub use serde_bridge::{SerdeError, from_encoded, to_encoded};
pub(crate) use token::{Float32, Token, Tokens};
pub use validate::validate;

/// Bytes of one value, checked.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EncodedValue(Box<[u8]>);

impl EncodedValue {
    /// Checks the bytes and takes them as they are.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, ValueError> {
        let bytes = bytes.into();
        validate(&bytes)?;
        Ok(Self(bytes))
    }

    /// The encoding of an integer.
    #[must_use]
    pub fn from_int(value: i64) -> Self {
        Self(encode_int(value, &mut [0; INT_LEN_BYTES_MAX]).into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        ValueRef(&self.0)
    }

    /// The bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }
}

impl std::fmt::Debug for EncodedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncodedValue({:?})", decode(&self.0))
    }
}

/// Borrowed bytes of one value, checked.
#[derive(Debug, Clone, Copy)]
pub struct ValueRef<'a>(&'a [u8]);

impl<'a> ValueRef<'a> {
    /// Checks the bytes.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ValueError> {
        validate(bytes)?;
        Ok(Self(bytes))
    }

    /// Takes bytes that were checked before: read back from the store's own memory or log.
    #[must_use]
    pub fn from_checked(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A copy that owns its bytes.
    #[must_use]
    pub fn to_encoded(self) -> EncodedValue {
        EncodedValue(self.0.into())
    }
}

/// Why bytes, or a value, are not in the profile or not within the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes end inside an item, or announce more than there is.
    #[error("the value is cut short at offset {offset}")]
    Truncated {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A MessagePack form outside the profile: float32, an extension, the unused byte.
    #[error("the form {marker:#04x} at offset {offset} is not accepted")]
    Form {
        /// Where, bytes from the start.
        offset: usize,
        /// The first byte of the item.
        marker: u8,
    },
    /// An integer above the range of a signed 64-bit one.
    #[error("the integer at offset {offset} is above 9223372036854775807")]
    IntegerRange {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string at offset {offset} is not valid UTF-8")]
    Utf8 {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An object key that is not a string.
    #[error("the object key at offset {offset} is not a string")]
    KeyNotString {
        /// Where, bytes from the start.
        offset: usize,
    },
    /// An object with the same key twice.
    #[error("the object key at offset {offset} stands there twice")]
    DuplicateKey {
        /// Where the second one is, bytes from the start.
        offset: usize,
    },
    /// Bytes behind the value.
    #[error("bytes follow the value at offset {offset}")]
    Trailing {
        /// Where they begin, bytes from the start.
        offset: usize,
    },
    /// The encoding is too long.
    #[error("the value has {len_bytes} bytes, the limit is {max}", max = limits::VALUE_LEN_BYTES_MAX)]
    TooLarge {
        /// How long it is, bytes.
        len_bytes: usize,
    },
    /// Too many nodes below the root.
    #[error("the value has {count} nodes, the limit is {max}", max = limits::NODE_COUNT_MAX)]
    TooManyNodes {
        /// How many were announced.
        count: usize,
    },
    /// A string is too long.
    #[error("the string has {len_bytes} bytes, the limit is {max}", max = limits::STRING_LEN_BYTES_MAX)]
    StringTooLong {
        /// How long it is, bytes.
        len_bytes: usize,
    },
    /// A bytes value is too long.
    #[error("the bytes value has {len_bytes} bytes, the limit is {max}", max = limits::BYTES_LEN_BYTES_MAX)]
    BytesTooLong {
        /// How long it is, bytes.
        len_bytes: usize,
    },
    /// An array has too many elements.
    #[error("the array has {len} elements, the limit is {max}", max = limits::ARRAY_COUNT_MAX)]
    ArrayTooLong {
        /// How many.
        len: usize,
    },
    /// An object has too many entries.
    #[error("the object has {len} entries, the limit is {max}", max = limits::OBJECT_COUNT_MAX)]
    ObjectTooLarge {
        /// How many.
        len: usize,
    },
    /// Nested too deeply.
    #[error("the value at offset {offset} nests deeper than {max}", max = limits::DEPTH_MAX)]
    TooDeep {
        /// Where, bytes from the start.
        offset: usize,
    },
}

impl ValueError {
    /// The stable reason of a limit, or none for bytes that are no value at all.
    #[must_use]
    pub fn limit_reason(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } | Self::TooManyNodes { .. } => Some("value_too_large"),
            Self::StringTooLong { .. } => Some("string_too_long"),
            Self::BytesTooLong { .. } => Some("bytes_too_long"),
            Self::ArrayTooLong { .. } => Some("array_too_long"),
            Self::ObjectTooLarge { .. } => Some("object_too_large"),
            Self::TooDeep { .. } => Some("nesting_too_deep"),
            Self::Truncated { .. }
            | Self::Form { .. }
            | Self::IntegerRange { .. }
            | Self::Utf8 { .. }
            | Self::KeyNotString { .. }
            | Self::DuplicateKey { .. }
            | Self::Trailing { .. } => None,
        }
    }

    /// Where the bytes break the rule, from the start of the value; none for limits on a length.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Truncated { offset }
            | Self::Form { offset, .. }
            | Self::IntegerRange { offset }
            | Self::Utf8 { offset }
            | Self::KeyNotString { offset }
            | Self::DuplicateKey { offset }
            | Self::Trailing { offset }
            | Self::TooDeep { offset } => Some(*offset),
            _ => None,
        }
    }
}

/// The type of a checked value; none for bytes that are no value.
#[must_use]
pub fn type_of(bytes: &[u8]) -> Option<ValueType> {
    let token = Tokens::new(bytes, Float32::Refused).next_token().ok()?;
    Some(match token {
        Token::Nil => ValueType::Null,
        Token::Bool(_) => ValueType::Bool,
        Token::Int(_) => ValueType::Int,
        Token::Float(_) => ValueType::Float,
        Token::Str(_) => ValueType::String,
        Token::Bin(_) => ValueType::Bytes,
        Token::Array(_) => ValueType::Array,
        Token::Map(_) => ValueType::Object,
    })
}

/// The integer a checked value is; none for any other type.
#[must_use]
pub fn as_int(bytes: &[u8]) -> Option<i64> {
    match Tokens::new(bytes, Float32::Refused).next_token() {
        Ok(Token::Int(value)) => Some(value),
        _ => None,
    }
}

/// Longest encoding of an integer, bytes: one marker and eight bytes.
pub const INT_LEN_BYTES_MAX: usize = 9;

/// The shortest encoding of an integer, written into `room` without allocation.
#[must_use]
pub fn encode_int(value: i64, room: &mut [u8; INT_LEN_BYTES_MAX]) -> &[u8] {
    let mut rest: &mut [u8] = &mut room[..];
    // Nine bytes hold every integer form, so the write cannot fail.
    let _ = rmp::encode::write_sint(&mut rest, value);
    let left = rest.len();
    room.get(..INT_LEN_BYTES_MAX - left).unwrap_or_default()
}

/// Structural equality of two checked values, by the rules of [`crate::Value`]'s `==`. Linear in the
/// shorter of the two, but for sorting object keys.
#[must_use]
pub fn encoded_equal(a: &[u8], b: &[u8]) -> bool {
    match (decode(a), decode(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
