//! Rust types to and from the encoding, through serde.
//!
//! Structs become objects with field names, unit variants strings, other variants an object with
//! the variant's name. A float32 is widened. Integers, floats, strings and bytes stay apart.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{EncodedValue, Float32, Tokens, ValueError, build};
use crate::limits;

/// Why a Rust value has no encoding, or an encoding is not that Rust type.
#[derive(Debug, thiserror::Error)]
pub enum SerdeError {
    /// The type's own serialisation failed.
    #[error("the value cannot be serialised: {0}")]
    Serialize(#[from] rmp_serde::encode::Error),
    /// The value is not of the asked type.
    #[error("the value is not of the asked type: {0}")]
    Deserialize(#[from] rmp_serde::decode::Error),
    /// What came out breaks a rule of values.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// Encodes a Rust value.
///
/// # Errors
/// When the type cannot be serialised, or the result breaks a rule or exceeds a limit.
pub fn to_encoded<T: Serialize + ?Sized>(value: &T) -> Result<EncodedValue, SerdeError> {
    let foreign = rmp_serde::to_vec_named(value)?;
    match EncodedValue::new(foreign.as_slice()) {
        Err(ValueError::Form { marker: 0xca, .. }) => {}
        checked => return Ok(checked?),
    }
    if foreign.len() > limits::VALUE_LEN_BYTES_MAX {
        return Err(ValueError::TooLarge {
            len_bytes: foreign.len(),
        }
        .into());
    }
    let widened = build::item(&mut Tokens::new(&foreign, Float32::Widened))?;
    Ok(build::encode(&widened)?)
}

/// Decodes into a Rust type.
///
/// # Errors
/// When the bytes are no value, or not of that type.
pub fn from_encoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SerdeError> {
    super::validate(bytes)?;
    Ok(rmp_serde::from_slice(bytes)?)
}
