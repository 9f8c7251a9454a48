//! The data model of in-mem: ids, keys, values and their one binary encoding, versions, limits,
//! run metadata and error codes.
//!
//! Everything here is data and pure functions: no I/O, no clock, no thread, and no other crate of
//! in-mem. Whoever stores, sends or shows a value, a key or an error agrees through this crate on
//! what it is; how it is stored, framed or committed is not known here.

pub mod durability;
pub mod encoding;
pub mod entity;
pub mod error;
pub mod id;
pub mod json;
pub mod keys;
pub mod limits;
pub mod primitive;
pub mod retention;
pub mod run;
mod serde_value;
pub mod value;
pub mod version;

pub use durability::{Durability, Level};
pub use encoding::{
    EncodedValue, SerdeError, ValueError, ValueRef, as_int, decode, encode, encode_int,
    encoded_equal, from_encoded, to_encoded, type_of, validate,
};
pub use entity::EntityRef;
pub use error::{DetailValue, Error, ErrorClass, Outcome, Retry, SubCode};
pub use id::{RunId, TraceId};
pub use keys::SYSTEM_NAMESPACE;
pub use limits::Limits;
pub use primitive::{PrimitiveId, TypeTag};
pub use retention::{RetentionError, RetentionMoment, RetentionPolicy, VersionAge};
pub use run::{RunInfo, RunStatus};
pub use value::{Value, ValueType};
pub use version::{Version, Versioned};
