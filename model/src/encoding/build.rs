//! Between values in memory and their encoding.

use super::{EncodedValue, Float32, Token, Tokens, ValueError, validate};
use crate::limits;
use crate::value::Value;

/// Encodes a value in the shortest form of each item.
///
/// # Errors
/// When the value exceeds a limit or an object has a key twice.
pub fn encode(value: &Value) -> Result<EncodedValue, ValueError> {
    check_depth(value)?;
    EncodedValue::new(encode_unchecked(value))
}

/// Decodes bytes, checked or not.
///
/// # Errors
/// The first rule the bytes break.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueError> {
    validate(bytes)?;
    item(&mut Tokens::new(bytes, Float32::Refused))
}

pub(super) fn encode_unchecked(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    bytes
}

/// Refuses a value too deep for the recursive writer, walking with an explicit stack.
fn check_depth(root: &Value) -> Result<(), ValueError> {
    let mut open = vec![(root, 0)];
    while let Some((value, depth)) = open.pop() {
        if depth > limits::DEPTH_MAX {
            return Err(ValueError::TooDeep { offset: 0 });
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(entries) => {
                open.extend(entries.iter().map(|(_, item)| (item, depth + 1)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writing to a vector cannot fail, and a length above the format's 32 bits is far above every
/// limit, so the results of the writers carry nothing.
fn write(value: &Value, bytes: &mut Vec<u8>) {
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    match value {
        Value::Null => drop(rmp::encode::write_nil(bytes)),
        Value::Bool(value) => drop(rmp::encode::write_bool(bytes, *value)),
        Value::Int(value) => drop(rmp::encode::write_sint(bytes, *value)),
        Value::Float(value) => drop(rmp::encode::write_f64(bytes, *value)),
        Value::String(text) => drop(rmp::encode::write_str(bytes, text)),
        Value::Bytes(value) => drop(rmp::encode::write_bin(bytes, value)),
        Value::Array(items) => {
            drop(rmp::encode::write_array_len(bytes, len(items.len())));
            items.iter().for_each(|item| write(item, bytes));
        }
        Value::Object(entries) => {
            drop(rmp::encode::write_map_len(bytes, len(entries.len())));
            for (key, item) in entries {
                drop(rmp::encode::write_str(bytes, key));
                write(item, bytes);
            }
        }
    }
}

/// Builds one item; the recursion is bounded by the depth that the check allowed.
pub(super) fn item(tokens: &mut Tokens<'_>) -> Result<Value, ValueError> {
    Ok(match tokens.next_token()? {
        Token::Nil => Value::Null,
        Token::Bool(value) => Value::Bool(value),
        Token::Int(value) => Value::Int(value),
        Token::Float(value) => Value::Float(value),
        Token::Str(text) => Value::String(text.to_owned()),
        Token::Bin(bytes) => Value::Bytes(bytes.to_vec()),
        Token::Array(len) => {
            Value::Array((0..len).map(|_| item(tokens)).collect::<Result<_, _>>()?)
        }
        Token::Map(len) => {
            let mut entry = || {
                let offset = tokens.offset();
                let Token::Str(key) = tokens.next_token()? else {
                    return Err(ValueError::KeyNotString { offset });
                };
                Ok((key.to_owned(), item(tokens)?))
            };
            Value::Object((0..len).map(|_| entry()).collect::<Result<_, _>>()?)
        }
    })
}
