//! Rust types to and from the encoding, through serde.
//!
//! | Rust | Value |
//! |---|---|
//! | signed and unsigned integers up to `i64::MAX` | Int |
//! | `f32`, `f64` | Float |
//! | `char`, text | String |
//! | serde's bytes (a plain `Vec<u8>` is a sequence) | Bytes |
//! | option | Null or the content |
//! | unit, unit struct | Null |
//! | sequence, tuple, tuple struct | Array |
//! | map with text keys, struct | Object |
//! | newtype | its content |
//! | unit variant; other variant | String, its name; Object with its content under its name |
//!
//! Nothing is converted on the way back: an Int is no float, Bytes are no text, and a number that
//! the type cannot hold exactly is refused. Only a type that leaves the choice to the data, as an
//! untagged enum does, gets the conversions serde itself makes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{EncodedValue, Tokens, ValueError, deserialize, serialize, validate};
use crate::limits::Limits;

/// Why a Rust value has no encoding, or an encoding is not that Rust type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerdeError {
    /// The encoding breaks a rule of values.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The value has another type than the Rust type takes.
    #[error("expected {expected}, found {actual}")]
    WrongType {
        /// The type the Rust type takes.
        expected: &'static str,
        /// The type found.
        actual: &'static str,
    },
    /// A number that the target cannot hold exactly.
    #[error("the number does not fit {target}")]
    Inexact {
        /// The target type.
        target: &'static str,
    },
    /// What the type's own serialisation said.
    #[error("{0}")]
    Custom(String),
}

/// Encodes a Rust value.
///
/// # Errors
/// When the type cannot be serialised, or the result breaks a rule or exceeds a limit.
pub fn to_encoded<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, SerdeError> {
    serialize::encode(value, &Limits::DEFAULT)
}

/// Decodes into a Rust type.
///
/// # Errors
/// When the bytes are no value, or not of that type.
pub fn from_encoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SerdeError> {
    validate(bytes, &Limits::DEFAULT)?;
    T::deserialize(deserialize::Decoder::new(&mut Tokens::new(bytes)))
}

impl serde::ser::Error for SerdeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for SerdeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}
