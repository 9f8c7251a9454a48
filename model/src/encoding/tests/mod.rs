//! One vector for every rule of the profile, and random values against them.

mod rust_types;

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
fn correctness_val_1_every_refused_form_names_its_offset() {
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

/// Every container below `value` and itself holds room for its items and no more.
fn assert_no_room_to_spare(value: &Value) {
    match value {
        Value::Array(items) => {
            assert_eq!(items.capacity(), items.len());
            items.iter().for_each(assert_no_room_to_spare);
        }
        Value::Object(entries) => {
            assert_eq!(entries.capacity(), entries.len());
            entries
                .iter()
                .for_each(|(_, item)| assert_no_room_to_spare(item));
        }
        _ => {}
    }
}

#[test]
fn a_decoded_container_takes_room_for_its_items_and_no_more() {
    // Sixty-four arrays of one array each and nothing in the last; objects of one, three and five.
    let mut bytes = vec![0x91; 64];
    bytes.push(0x90);
    assert_no_room_to_spare(&decode(&bytes).unwrap());
    for count in [1, 3, 5] {
        let entries = (0..count).map(|key| (key.to_string(), Value::Array(vec![Value::Null])));
        let object = encode(&Value::Object(entries.collect())).unwrap();
        assert_no_room_to_spare(&decode(object.as_bytes()).unwrap());
    }
    assert!(
        size_of::<(String, Value)>() <= 64,
        "what the limit of nodes counts on"
    );
}

#[test]
fn a_value_too_deep_in_memory_is_refused_and_not_a_stack_overflow() {
    let deep = (0..10_000).fold(Value::Null, |value, _| Value::Array(vec![value]));
    assert!(matches!(encode(&deep), Err(ValueError::TooDeep { .. })));
}

#[test]
fn correctness_val_3_types_never_mix_in_equality() {
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
fn correctness_val_4_bytes_stay_bytes_and_strings_stay_strings() {
    for text in ["", "a", "\u{e9}", "1"] {
        let (string, bytes) = (Value::from(text), Value::Bytes(text.as_bytes().to_vec()));
        assert_ne!(string, bytes);
        let encoded = [encode(&string).unwrap(), encode(&bytes).unwrap()];
        assert_ne!(encoded[0].as_bytes(), encoded[1].as_bytes());
        assert!(!encoded_equal(encoded[0].as_bytes(), encoded[1].as_bytes()));
        assert_eq!(decode(encoded[0].as_bytes()), Ok(string));
        assert_eq!(decode(encoded[1].as_bytes()), Ok(bytes));
    }
    let not_utf8 = Value::Bytes(vec![0xFF, 0xC3]);
    let encoded = encode(&not_utf8).unwrap();
    assert_eq!(decode(encoded.as_bytes()), Ok(not_utf8));
    // The same bytes as a string are no value.
    assert!(decode(&[0xA2, 0xFF, 0xC3]).is_err());
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
fn a_lower_limit_of_a_database_holds_at_its_boundary() {
    let limits = Limits {
        value_len_bytes_max: 12,
        string_len_bytes_max: 3,
        bytes_len_bytes_max: 2,
        array_count_max: 4,
        object_count_max: 1,
        node_count_max: 5,
        depth_max: 2,
        ..Limits::DEFAULT
    };
    let reason = |hex: &str| {
        let bytes: Vec<u8> = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        validate(&bytes, &limits).map_err(|error| error.limit_reason())
    };
    assert_eq!(reason("93 a3 61 61 61 a3 61 61 61 a2 61 61"), Ok(()));
    let too_large = Err(Some("value_too_large"));
    assert_eq!(reason("93 a3 61 61 61 a3 61 61 61 a3 61 61 61"), too_large);
    assert_eq!(reason("a3 61 61 61"), Ok(()));
    assert_eq!(reason("a4 61 61 61 61"), Err(Some("string_too_long")));
    assert_eq!(reason("81 a4 61 61 61 61 c0"), Err(Some("string_too_long")));
    assert_eq!(reason("c4 02 61 61"), Ok(()));
    assert_eq!(reason("c4 03 61 61 61"), Err(Some("bytes_too_long")));
    assert_eq!(reason("94 c0 c0 c0 c0"), Ok(()));
    assert_eq!(reason("95 c0 c0 c0 c0 c0"), Err(Some("array_too_long")));
    assert_eq!(reason("81 a1 61 c0"), Ok(()));
    assert_eq!(
        reason("82 a1 61 c0 a1 62 c0"),
        Err(Some("object_too_large"))
    );
    assert_eq!(reason("92 92 c0 c0 91 c0"), Ok(()));
    assert_eq!(reason("92 92 c0 c0 92 c0 c0"), too_large);
    assert_eq!(reason("91 91 c0"), Ok(()));
    assert_eq!(reason("91 91 90"), Ok(()));
    assert_eq!(reason("91 91 91 c0"), Err(Some("nesting_too_deep")));
}

#[test]
fn a_million_keys_in_any_order_are_checked_in_one_sort() {
    let keys = (0..limits::OBJECT_COUNT_MAX).map(|key| (key * 7_919) % limits::OBJECT_COUNT_MAX);
    let object = Value::Object(keys.map(|key| (key.to_string(), Value::Null)).collect());
    let encoded = encode(&object).unwrap();
    let mut repeated = encoded.as_bytes().to_vec();
    // The last key becomes one that came before.
    let len_bytes = repeated.len();
    let last = &mut repeated[len_bytes - 7..len_bytes - 1];
    assert_eq!(last, b"992081");
    last.copy_from_slice(b"992082");
    let found = validate(&repeated, &Limits::DEFAULT);
    assert_eq!(
        found,
        Err(ValueError::DuplicateKey {
            offset: len_bytes - 8
        })
    );
}

#[test]
fn equality_ignores_the_order_of_keys_at_every_depth() {
    let object = |keys: [&str; 2], inner: &Value| {
        Value::Object(keys.map(|key| (key.to_owned(), inner.clone())).to_vec())
    };
    let (mut a, mut b) = (Value::Int(1), Value::Int(1));
    for depth in 0..5 {
        let keys = if depth % 2 == 0 {
            ["b", "a"]
        } else {
            ["a", "b"]
        };
        (a, b) = (object(["a", "b"], &a), object(keys, &b));
        let (ea, eb) = (encode(&a).unwrap(), encode(&b).unwrap());
        assert!(encoded_equal(ea.as_bytes(), eb.as_bytes()), "depth {depth}");
    }
    let other = encode(&object(["a", "c"], &a)).unwrap();
    let one = encode(&object(["b", "a"], &a)).unwrap();
    assert!(!encoded_equal(one.as_bytes(), other.as_bytes()));
    let nan = encode(&Value::Float(f64::NAN)).unwrap();
    assert!(!encoded_equal(nan.as_bytes(), nan.as_bytes()));
    // A longer form of the same number is the same value; bytes that are none equal nothing.
    assert!(encoded_equal(&[1], &[0xcc, 1]));
    assert!(!encoded_equal(&[], &[]));
    assert!(!encoded_equal(&[1, 1], &[1, 1]));
}

/// The same value with the entries of every object turned round.
fn turned(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(turned).collect()),
        Value::Object(entries) => {
            let turned = |(key, item): &(String, Value)| (key.clone(), turned(item));
            Value::Object(entries.iter().rev().map(turned).collect())
        }
        other => other.clone(),
    }
}

/// Equality as the rules state it, entry by entry and without any sorting.
fn is_equal_by_the_rules(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            let pairs = || a.iter().zip(b);
            a.len() == b.len() && pairs().all(|(a, b)| is_equal_by_the_rules(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let has = |(key, item): &(String, Value)| {
                b.iter()
                    .any(|(k, i)| k == key && is_equal_by_the_rules(item, i))
            };
            a.len() == b.len() && a.iter().all(has)
        }
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        _ => false,
    }
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
    fn equality_is_that_of_the_rules_whatever_the_order(a in any_value(), b in any_value()) {
        for b in [&b, &turned(&a), &a] {
            let (ea, eb) = (encode(&a).unwrap(), encode(b).unwrap());
            let expected = is_equal_by_the_rules(&a, b);
            prop_assert_eq!(&a == b, expected);
            prop_assert_eq!(encoded_equal(ea.as_bytes(), eb.as_bytes()), expected);
        }
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
