//! Values between the caller's types and the one encoding.

use in_mem_ipc::Bytes;
use in_mem_model::{RunInfo, SerdeError, ValueError, from_encoded, to_encoded};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{self, ClientError};

/// Encodes a value of the caller.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes<'static>, ClientError> {
    let encoded = to_encoded(value).map_err(error::bad_value)?;
    Ok(encoded.into_bytes().into_vec().into())
}

/// Decodes a value of the server into a type of the caller.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    from_encoded(bytes).map_err(|error| match error {
        SerdeError::Value(ValueError::Truncated { .. }) => error::wrong_shape(),
        error => error::wrong_type(error),
    })
}

/// Decodes the metadata of a run.
pub(crate) fn decode_run(bytes: &[u8]) -> Result<RunInfo, ClientError> {
    RunInfo::decode(bytes).map_err(|_| error::wrong_shape())
}
