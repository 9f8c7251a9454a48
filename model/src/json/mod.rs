//! The text form of values: JSON, exact in both directions.
//!
//! | Value | Text |
//! |---|---|
//! | Null, Bool, String, Array, Object | as themselves |
//! | Int | a number without fraction or exponent |
//! | finite Float | a number with a fraction or an exponent |
//! | NaN, infinities, -0.0 | `{"$f64": "NaN" \| "+Inf" \| "-Inf" \| "-0.0"}` |
//! | Bytes | `{"$bytes": "<standard base64>"}` |
//! | absent | `{"$absent": true}`; only where a caller allows it |
//! | an Object whose only key is one of these wrappers' | `{"$obj": {...}}` |
//!
//! The payload of a NaN is lost here, and only here. Numbers never change their type: an integer
//! beyond 64 bits is refused, not rounded.

mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use parse::{JsonError, from_text, from_text_or_absent};
pub use print::{encoded_to_text, string_to_text, to_text};

/// The text of an absent value.
pub const ABSENT_TEXT: &str = r#"{"$absent":true}"#;

const WRAPPER_BYTES: &str = "$bytes";
const WRAPPER_F64: &str = "$f64";
const WRAPPER_ABSENT: &str = "$absent";
const WRAPPER_OBJECT: &str = "$obj";
const WRAPPERS: [&str; 4] = [WRAPPER_BYTES, WRAPPER_F64, WRAPPER_ABSENT, WRAPPER_OBJECT];
