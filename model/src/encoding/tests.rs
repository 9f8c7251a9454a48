//! One vector for every rule of the profile, and random values against them.

use proptest::prelude::*;

use super::*;
use crate::limits::{self, Limits};
use crate::value::Value;

fn check(hex: &str, expected: Result<Value, ValueError>) {
    let bytes: Vec<u8> = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let found = decode(&bytes);
    match (&found, &expected) {
        // A NaN equals nothing; its bits decide.
        (Ok(Value::Float(a)), Ok(Value::Float(b))) => assert_eq!(a.to_bits(), b.to_bits(), "{hex}"),
        _ => assert_eq!(found, expected, "{hex}"),
    }
    assert_eq!(
        validate(&bytes, &Limits::DEFAULT).is_ok(),
        expected.is_ok(),
        "{hex}"
    );
}

#[test]
fn every_accepted_form_has_its_meaning() {
    let object = |key: &str, value| Value::Object(vec![(key.to_owned(), value)]);
    let vectors = [
        ("c0", Value::Null),
        ("c2", Value::Bool(false)),
        ("c3", Value::Bool(true)),
        ("00", Value::Int(0)),
        ("7f", Value::Int(127)),
        ("ff", Value::Int(-1)),
        ("e0", Value::Int(-32)),
        ("cc ff", Value::Int(255)),
        ("cd ff ff", Value::Int(65_535)),
        ("ce ff ff ff ff", Value::Int(4_294_967_295)),
        ("cf 7f ff ff ff ff ff ff ff", Value::Int(i64::MAX)),
        ("cf 00 00 00 00 00 00 00 01", Value::Int(1)),
        ("d0 80", Value::Int(-128)),
        ("d1 80 00", Value::Int(-32_768)),
        ("d2 80 00 00 00", Value::Int(-2_147_483_648)),
        ("d3 80 00 00 00 00 00 00 00", Value::Int(i64::MIN)),
        ("cb 3f f0 00 00 00 00 00 00", Value::Float(1.0)),
        ("cb 80 00 00 00 00 00 00 00", Value::Float(-0.0)),
        (
            "cb 7f f8 00 00 00 00 00 2a",
            Value::Float(f64::from_bits(0x7ff8_0000_0000_002a)),
        ),
        ("a0", Value::String(String::new())),
        ("a2 c3 a9", Value::from("\u{e9}")),
        ("d9 01 61", Value::from("a")),
        ("da 00 01 61", Value::from("a")),
        ("db 00 00 00 01 61", Value::from("a")),
        ("c4 02 00 ff", Value::Bytes(vec![0, 255])),
        ("c5 00 01 07", Value::Bytes(vec![7])),
        ("c6 00 00 00 01 07", Value::Bytes(vec![7])),
        ("90", Value::Array(vec![])),
        ("92 01 c0", Value::Array(vec![Value::Int(1), Value::Null])),
        ("dc 00 01 01", Value::Array(vec![Value::Int(1)])),
        ("dd 00 00 00 01 01", Value::Array(vec![Value::Int(1)])),
        ("80", Value::Object(vec![])),
        ("81 a1 61 01", object("a", Value::Int(1))),
        ("de 00 01 a1 61 01", object("a", Value::Int(1))),
        ("df 00 00 00 01 a1 61 01", object("a", Value::Int(1))),
    ];
    for (hex, value) in vectors {
        check(hex, Ok(value));
    }
}

#[test]
fn every_refused_form_names_its_offset() {
    let vectors = [
        ("", ValueError::Truncated { offset: 0 }),
        ("92 01", ValueError::Truncated { offset: 1 }),
        ("a2 61", ValueError::Truncated { offset: 1 }),
        ("cb 00", ValueError::Truncated { offset: 1 }),
        (
            "dd ff ff ff ff 01",
            ValueError::ArrayTooLong {
                len: 4_294_967_295,
                max: limits::ARRAY_COUNT_MAX,
            },
        ),
        ("dd 00 0f 42 40 01", ValueError::Truncated { offset: 5 }),
        ("db ff ff ff ff 61", ValueError::Truncated { offset: 5 }),
        (
            "ca 3f 80 00 00",
            ValueError::Form {
                offset: 0,
                marker: 0xca,
            },
        ),
        (
            "c1",
            ValueError::Form {
                offset: 0,
                marker: 0xc1,
            },
        ),
        (
            "91 d4 01 00",
            ValueError::Form {
                offset: 1,
                marker: 0xd4,
            },
        ),
        (
            "c7 01 01 00",
            ValueError::Form {
                offset: 0,
                marker: 0xc7,
            },
        ),
        (
            "cf 80 00 00 00 00 00 00 00",
            ValueError::IntegerRange { offset: 0 },
        ),
        ("91 a1 ff", ValueError::Utf8 { offset: 1 }),
        ("81 01 01", ValueError::KeyNotString { offset: 1 }),
        (
            "82 a1 61 01 a1 61 02",
            ValueError::DuplicateKey { offset: 4 },
        ),
        (
            "83 a1 62 01 a1 61 02 a1 62 03",
            ValueError::DuplicateKey { offset: 7 },
        ),
        ("c0 c0", ValueError::Trailing { offset: 1 }),
    ];
    for (hex, error) in vectors {
        check(hex, Err(error));
    }
}

#[test]
fn one_key_in_two_nested_objects_is_no_repeat() {
    check(
        "82 a1 61 81 a1 61 01 a1 62 81 a1 61 02",
        Ok(Value::Object(vec![
            ("a".into(), Value::Object(vec![("a".into(), Value::Int(1))])),
            ("b".into(), Value::Object(vec![("a".into(), Value::Int(2))])),
        ])),
    );
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = vec![0x91; depth];
    bytes.push(0xc0);
    bytes
}

#[test]
fn exactly_at_a_limit_passes_and_one_more_fails_with_its_reason() {
    assert_eq!(
        validate(&nested(limits::DEPTH_MAX), &Limits::DEFAULT),
        Ok(())
    );
    let error = validate(&nested(limits::DEPTH_MAX + 1), &Limits::DEFAULT).unwrap_err();
    assert_eq!(error.limit_reason(), Some("nesting_too_deep"));

    let text = |len: usize| encode(&Value::String("x".repeat(len)));
    assert!(text(limits::STRING_LEN_BYTES_MAX).is_ok());
    let error = text(limits::STRING_LEN_BYTES_MAX + 1).unwrap_err();
    assert_eq!(error.limit_reason(), Some("string_too_long"));

    let bytes = |len: usize| encode(&Value::Bytes(vec![0; len]));
    assert!(bytes(limits::BYTES_LEN_BYTES_MAX).is_ok());
    let error = bytes(limits::BYTES_LEN_BYTES_MAX + 1).unwrap_err();
    assert_eq!(error.limit_reason(), Some("bytes_too_long"));

    let array = |len: usize| encode(&Value::Array(vec![Value::Null; len]));
    assert!(array(limits::ARRAY_COUNT_MAX).is_ok());
    let error = array(limits::ARRAY_COUNT_MAX + 1).unwrap_err();
    assert_eq!(error.limit_reason(), Some("array_too_long"));

    let object = |len: usize| {
        encode(&Value::Object(
            (0..len)
                .map(|key| (format!("{key}"), Value::Null))
                .collect(),
        ))
    };
    assert!(object(limits::OBJECT_COUNT_MAX).is_ok());
    let error = object(limits::OBJECT_COUNT_MAX + 1).unwrap_err();
    assert_eq!(error.limit_reason(), Some("object_too_large"));

    // The nodes of two arrays count together: 999,998 and 2 arrays make a million.
    let half = Value::Array(vec![Value::Null; 499_999]);
    assert!(encode(&Value::Array(vec![half.clone(), half.clone()])).is_ok());
    let error = encode(&Value::Array(vec![half.clone(), half, Value::Null])).unwrap_err();
    assert_eq!(error.limit_reason(), Some("value_too_large"));

    // Two of the longest strings and what encodes them exceed the encoded limit by a little.
    let longest = "x".repeat(limits::STRING_LEN_BYTES_MAX);
    let both = Value::Array(vec![Value::String(longest.clone()), Value::String(longest)]);
    assert_eq!(
        encode(&both).unwrap_err().limit_reason(),
        Some("value_too_large")
    );
}

#[test]
fn a_value_too_deep_in_memory_is_refused_and_not_a_stack_overflow() {
    let deep = (0..10_000).fold(Value::Null, |value, _| Value::Array(vec![value]));
    assert!(matches!(encode(&deep), Err(ValueError::TooDeep { .. })));
}

#[test]
fn types_never_mix_in_equality() {
    let values = [
        Value::Null,
        Value::Bool(false),
        Value::Int(0),
        Value::Float(0.0),
        Value::from(""),
        Value::Bytes(vec![]),
        Value::Array(vec![]),
        Value::Object(vec![]),
    ];
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate() {
            let (ea, eb) = (encode(a).unwrap(), encode(b).unwrap());
            assert_eq!(
                encoded_equal(ea.as_bytes(), eb.as_bytes()),
                i == j,
                "{a:?} {b:?}"
            );
        }
    }
    assert_ne!(Value::Float(f64::NAN), Value::Float(f64::NAN));
    assert_eq!(Value::Float(-0.0), Value::Float(0.0));
}

#[test]
fn object_order_does_not_matter_and_array_order_does() {
    let pair = |a: &str, b: &str| {
        Value::Object(vec![(a.into(), Value::from(a)), (b.into(), Value::from(b))])
    };
    assert_eq!(pair("a", "b"), pair("b", "a"));
    let array = |a: i64, b: i64| Value::Array(vec![Value::Int(a), Value::Int(b)]);
    assert_ne!(array(1, 2), array(2, 1));
}

#[test]
fn rust_types_keep_integers_floats_strings_and_bytes_apart() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Step {
        name: String,
        tries: u32,
        score: f32,
        rate: f64,
        next: Option<Box<Step>>,
        kind: Kind,
    }
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    enum Kind {
        Plain,
        Named(String),
        Sized { len: u8 },
    }
    let step = |kind, next| Step {
        name: "a".into(),
        tries: 3,
        score: 0.5,
        rate: 1.0,
        next,
        kind,
    };
    let all = step(
        Kind::Plain,
        Some(Box::new(step(
            Kind::Named("b".into()),
            Some(Box::new(step(Kind::Sized { len: 1 }, None))),
        ))),
    );
    let encoded = to_encoded(&all).unwrap();
    assert_eq!(from_encoded::<Step>(encoded.as_bytes()).unwrap(), all);
    assert!(matches!(decode(encoded.as_bytes()), Ok(Value::Object(_))));
    assert!(matches!(
        to_encoded(&u64::MAX),
        Err(SerdeError::Inexact { target: "int" })
    ));
    assert!(from_encoded::<String>(EncodedValue::from_int(1).as_bytes()).is_err());
}

/// Random values, nested a few levels.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let key = "[a-z$]{0,6}|\\$bytes|\\$f64|\\$absent|\\$obj";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        prop_oneof![Just(-0.0), Just(0.0), Just(1e300), Just(f64::INFINITY)].prop_map(Value::Float),
        any::<String>().prop_map(Value::String),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().rev().collect())),
        ]
    })
}

/// True when the two are the same to the bit, NaN payloads included.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    encode(a).unwrap().as_bytes() == encode(b).unwrap().as_bytes()
}

proptest! {
    #[test]
    fn a_value_reads_back_to_the_bit(value in any_value()) {
        let encoded = encode(&value).unwrap();
        prop_assert!(is_same(&decode(encoded.as_bytes()).unwrap(), &value));
    }

    #[test]
    fn encoded_equality_is_the_equality_of_the_values(a in any_value(), b in any_value()) {
        let (ea, eb) = (encode(&a).unwrap(), encode(&b).unwrap());
        prop_assert_eq!(encoded_equal(ea.as_bytes(), eb.as_bytes()), a == b);
        prop_assert_eq!(encoded_equal(ea.as_bytes(), ea.as_bytes()), a == a.clone());
    }

    #[test]
    fn arbitrary_bytes_are_a_value_or_a_typed_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = decode(&bytes) {
            prop_assert!(is_same(&decode(encode(&value).unwrap().as_bytes()).unwrap(), &value));
        }
    }

    #[test]
    fn a_damaged_encoding_is_a_value_or_a_typed_error(value in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&value).unwrap().as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&bytes);
        let _ = decode(&bytes[..at]);
    }

    #[test]
    fn an_integer_takes_its_shortest_form(value in any::<i64>()) {
        let encoded = EncodedValue::from_int(value);
        prop_assert_eq!(as_int(encoded.as_bytes()), Some(value));
        let general = encode(&Value::Int(value)).unwrap();
        prop_assert_eq!(encoded.as_bytes(), general.as_bytes());
    }
}
