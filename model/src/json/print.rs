//! From a value to its text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{WRAPPER_BYTES, WRAPPER_F64, WRAPPER_OBJECT, WRAPPERS};
use crate::encoding::{ValueError, decode};
use crate::value::Value;

/// The text of a value, on one line.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let mut text = String::new();
    print(value, &mut text);
    text
}

/// The text of an encoded value.
///
/// # Errors
/// When the bytes are no value.
pub fn encoded_to_text(bytes: &[u8]) -> Result<String, ValueError> {
    Ok(to_text(&decode(bytes)?))
}

/// A JSON string literal.
#[must_use]
pub fn string_to_text(string: &str) -> String {
    serde_json::Value::from(string).to_string()
}

fn print(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Float(value) => print_float(*value, text),
        Value::String(string) => text.push_str(&string_to_text(string)),
        Value::Bytes(bytes) => wrap(WRAPPER_BYTES, &STANDARD.encode(bytes), text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                print(item, text);
            }
            text.push(']');
        }
        Value::Object(entries) => print_object(entries, text),
    }
}

fn print_float(value: f64, text: &mut String) {
    if value.is_nan() {
        wrap(WRAPPER_F64, "NaN", text);
    } else if value.is_infinite() {
        wrap(WRAPPER_F64, if value > 0.0 { "+Inf" } else { "-Inf" }, text);
    } else if value == 0.0 && value.is_sign_negative() {
        wrap(WRAPPER_F64, "-0.0", text);
    } else {
        // The debug form is the shortest that reads back to the same bits, and always has a
        // fraction or an exponent.
        text.push_str(&format!("{value:?}"));
    }
}

fn print_object(entries: &[(String, Value)], text: &mut String) {
    let is_like_a_wrapper =
        matches!(entries, [(key, _)] if WRAPPERS.iter().any(|wrapper| wrapper == key));
    if is_like_a_wrapper {
        text.push_str(&format!("{{\"{WRAPPER_OBJECT}\":"));
    }
    text.push('{');
    for (index, (key, item)) in entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&string_to_text(key));
        text.push(':');
        print(item, text);
    }
    text.push('}');
    if is_like_a_wrapper {
        text.push('}');
    }
}

fn wrap(wrapper: &str, content: &str, text: &mut String) {
    text.push_str(&format!("{{\"{wrapper}\":\"{content}\"}}"));
}
