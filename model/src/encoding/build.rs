//! Between values in memory and their encoding.

use rmp::encode::ByteBuf;

use super::{EncodedValue, Token, Tokens, ValueError, validate, write};
use crate::limits::Limits;
use crate::value::Value;

/// Encodes a value in the shortest form of each item, within the default limits.
///
/// # Errors
/// When the value exceeds a limit or an object has a key twice.
pub fn encode(value: &Value) -> Result<EncodedValue, ValueError> {
    encode_within(value, &Limits::DEFAULT)
}

/// Encodes a value in the shortest form of each item, within the limits of a database.
///
/// # Errors
/// When the value exceeds a limit or an object has a key twice.
pub fn encode_within(value: &Value, limits: &Limits) -> Result<EncodedValue, ValueError> {
    let mut out = ByteBuf::new();
    write_value(value, &mut out, 0, limits)?;
    EncodedValue::new_within(out.into_vec(), limits)
}

/// Decodes bytes, checked or not.
///
/// # Errors
/// The first rule the bytes break.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueError> {
    validate(bytes, &Limits::DEFAULT)?;
    item(&mut Tokens::new(bytes))
}

/// Writes one value; the recursion ends at the depth limit.
fn write_value(
    value: &Value,
    out: &mut ByteBuf,
    depth: usize,
    limits: &Limits,
) -> Result<(), ValueError> {
    if depth > limits.depth_max {
        return Err(ValueError::TooDeep {
            offset: out.as_slice().len(),
            max: limits.depth_max,
        });
    }
    match value {
        Value::Null => write::nil(out),
        Value::Bool(value) => write::bool(out, *value),
        Value::Int(value) => write::int(out, *value),
        Value::Float(value) => write::float(out, *value),
        Value::String(text) => write::string(out, text)?,
        Value::Bytes(bytes) => write::bytes(out, bytes)?,
        Value::Array(items) => {
            write::array(out, items.len())?;
            for item in items {
                write_value(item, out, depth + 1, limits)?;
            }
        }
        Value::Object(entries) => {
            write::object(out, entries.len())?;
            for (key, item) in entries {
                write::string(out, key)?;
                write_value(item, out, depth + 1, limits)?;
            }
        }
    }
    write::check_len(out, limits.value_len_bytes_max)
}

/// Builds one item; the recursion is bounded by the depth that the check allowed.
fn item(tokens: &mut Tokens<'_>) -> Result<Value, ValueError> {
    Ok(match tokens.next_token()? {
        Token::Nil => Value::Null,
        Token::Bool(value) => Value::Bool(value),
        Token::Int(value) => Value::Int(value),
        Token::Float(value) => Value::Float(value),
        Token::Str(text) => Value::String(text.to_owned()),
        Token::Bin(bytes) => Value::Bytes(bytes.to_vec()),
        // The counts were checked: every item is there.
        Token::Array(len) => {
            let mut items = Vec::with_capacity(len);
            for _ in 0..len {
                items.push(item(tokens)?);
            }
            Value::Array(items)
        }
        Token::Map(len) => {
            let mut entries = Vec::with_capacity(len);
            for _ in 0..len {
                let offset = tokens.offset();
                let Token::Str(key) = tokens.next_token()? else {
                    return Err(ValueError::KeyNotString { offset });
                };
                entries.push((key.to_owned(), item(tokens)?));
            }
            Value::Object(entries)
        }
    })
}
