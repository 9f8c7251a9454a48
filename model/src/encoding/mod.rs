//! The one binary encoding of values: a fixed profile of MessagePack.
//!
//! The same bytes stand in the request, the log record, the version chain and the reply. They are
//! checked once, where they enter ([`validate`]), kept as received, and never re-encoded. Our
//! encoder writes the shortest form of each item.

mod build;
mod deserialize;
mod equal;
mod error;
mod serde_bridge;
mod serialize;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod validate;
mod write;

use crate::limits::Limits;
use crate::value::ValueType;

pub use build::{decode, encode, encode_within};
pub use equal::encoded_equal;
pub use error::ValueError;
pub use serde_bridge::{SerdeError, from_encoded, to_encoded};
pub(crate) use token::{Token, Tokens};
pub use validate::validate;

/// Bytes of one value, checked. `==` compares the bytes; values are compared by [`encoded_equal`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EncodedValue(Box<[u8]>);

impl EncodedValue {
    /// Checks the bytes against the default limits and takes them as they are.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, ValueError> {
        Self::new_within(bytes, &Limits::DEFAULT)
    }

    /// Checks the bytes against the limits of a database and takes them as they are.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new_within(bytes: impl Into<Box<[u8]>>, limits: &Limits) -> Result<Self, ValueError> {
        let bytes = bytes.into();
        validate(&bytes, limits)?;
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
    /// Checks the bytes against the default limits.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ValueError> {
        Self::new_within(bytes, &Limits::DEFAULT)
    }

    /// Checks the bytes against the limits of a database.
    ///
    /// # Errors
    /// The first rule the bytes break.
    pub fn new_within(bytes: &'a [u8], limits: &Limits) -> Result<Self, ValueError> {
        validate(bytes, limits)?;
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

/// The type of a checked value; none for bytes that are no value.
#[must_use]
pub fn type_of(bytes: &[u8]) -> Option<ValueType> {
    Some(Tokens::new(bytes).next_token().ok()?.value_type())
}

/// The integer a checked value is; none for any other type.
#[must_use]
pub fn as_int(bytes: &[u8]) -> Option<i64> {
    match Tokens::new(bytes).next_token() {
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
