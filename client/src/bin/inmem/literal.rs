//! Values as they are typed on a command line.
//!
//! A word that is a JSON number is an Int or a Float, `true`, `false` and `null` are what they
//! say, a word in double quotes is a String, one that begins with `{` or `[` has to be JSON in
//! the form of `model::json`, and `b64:` begins Bytes. Any other word is a String. A word that
//! looks like one of these and is not well formed is refused, never taken for a String.

use in_mem_client::model::Value;
use in_mem_client::model::json;

use crate::cli::failure::Failure;

const BYTES_PREFIX: &str = "b64:";

/// The value a word stands for.
pub(crate) fn parse(word: &str) -> Result<Value, Failure> {
    if let Some(encoded) = word.strip_prefix(BYTES_PREFIX) {
        let wrapped = crate::cli::json::object([("$bytes", crate::cli::json::string(encoded))]);
        return parse_json(&wrapped, || format!("{word:?} is not valid base64"));
    }
    let is_json = word.starts_with(['{', '[', '"'])
        || matches!(word, "true" | "false" | "null")
        || is_number(word);
    if is_json {
        return parse_json(word, || format!("{word:?} is not a valid value"));
    }
    Ok(Value::String(word.to_owned()))
}

/// The value of a JSON text.
pub(crate) fn parse_json(text: &str, describe: impl FnOnce() -> String) -> Result<Value, Failure> {
    json::from_text(text).map_err(|error| Failure::usage(format!("{}: {error}", describe())))
}

/// Whether a word has the form of a JSON number: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]?
/// [0-9]+)?`.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_value_it_looks_like() {
        let string = |text: &str| Value::String(text.to_owned());
        let cases = [
            ("5", Value::Int(5)),
            ("-5", Value::Int(-5)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            ("-2.5E-1", Value::Float(-0.25)),
            ("true", Value::Bool(true)),
            ("null", Value::Null),
            ("\"5\"", string("5")),
            ("hello", string("hello")),
            ("two words", string("two words")),
            ("", string("")),
            ("007", string("007")),
            ("1.", string("1.")),
            (".5", string(".5")),
            ("1e", string("1e")),
            ("-", string("-")),
            ("nan", string("nan")),
            ("True", string("True")),
            ("b64:AAH/", Value::Bytes(vec![0, 1, 255])),
            ("b64:", Value::Bytes(Vec::new())),
            ("[1,\"a\"]", Value::Array(vec![Value::Int(1), string("a")])),
            (
                "{\"a\":null}",
                Value::Object(vec![("a".to_owned(), Value::Null)]),
            ),
        ];
        for (word, expected) in cases {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn a_word_that_only_looks_like_a_value_is_refused() {
        let words = [
            "{",
            "[1",
            "{bare: 1}",
            "\"open",
            "\"a\" b",
            "b64:*",
            "9223372036854775808",
            "1e999",
        ];
        for word in words {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
