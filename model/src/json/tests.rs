//! The text form, vector by vector and over random values.

use proptest::prelude::*;

use super::*;
use crate::encoding::tests::{any_value, is_same};
use crate::value::Value;

#[test]
fn every_kind_of_value_has_its_text() {
    let object = |key: &str, value| Value::Object(vec![(key.to_owned(), value)]);
    let vectors = [
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("1", Value::Int(1)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        ("9007199254740993", Value::Int(9_007_199_254_740_993)),
        ("1.0", Value::Float(1.0)),
        ("0.0", Value::Float(0.0)),
        ("1e300", Value::Float(1e300)),
        (r#"{"$f64":"-0.0"}"#, Value::Float(-0.0)),
        (r#"{"$f64":"+Inf"}"#, Value::Float(f64::INFINITY)),
        (r#"{"$f64":"-Inf"}"#, Value::Float(f64::NEG_INFINITY)),
        (r#""a\"\n""#, Value::from("a\"\n")),
        (r#"{"$bytes":"AP8="}"#, Value::Bytes(vec![0, 255])),
        (
            r#"[1,"x"]"#,
            Value::Array(vec![Value::Int(1), Value::from("x")]),
        ),
        (r#"{"a":{}}"#, object("a", Value::Object(vec![]))),
        (
            r#"{"$obj":{"$bytes":"x"}}"#,
            object("$bytes", Value::from("x")),
        ),
        (
            r#"{"$obj":{"$obj":{"$obj":{"$f64":1}}}}"#,
            object("$obj", object("$f64", Value::Int(1))),
        ),
    ];
    for (text, value) in vectors {
        assert_eq!(to_text(&value), text);
        assert!(is_same(&from_text(text).unwrap(), &value), "{text}");
    }
}

#[test]
fn input_forms_that_are_not_printed_are_read_too() {
    let vectors = [
        (
            " [ 1 , 2 ] ",
            Value::Array(vec![Value::Int(1), Value::Int(2)]),
        ),
        ("1e5", Value::Float(100_000.0)),
        ("1E+2", Value::Float(100.0)),
        ("-0", Value::Int(0)),
        ("-0.0", Value::Float(-0.0)),
        (
            r#"{"$obj":{"a":1}}"#,
            Value::Object(vec![("a".into(), Value::Int(1))]),
        ),
        (
            r#"{"$bytes":"x","b":1}"#,
            Value::Object(vec![
                ("$bytes".into(), Value::from("x")),
                ("b".into(), Value::Int(1)),
            ]),
        ),
        (r#""\u00e9""#, Value::from("\u{e9}")),
    ];
    for (text, value) in vectors {
        assert!(is_same(&from_text(text).unwrap(), &value), "{text}");
    }
}

#[test]
fn what_is_no_value_is_refused_with_a_reason() {
    let syntax = [
        "",
        "nul",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "\"a",
        "\"\\x\"",
        "1 2",
        "'a'",
        "\"\u{1}\"",
        "NaN",
        "[",
        "{\"a\"}",
    ];
    for text in syntax {
        assert!(
            matches!(from_text(text), Err(JsonError::Syntax { .. })),
            "{text}"
        );
    }
    assert_eq!(
        from_text("9223372036854775808"),
        Err(JsonError::IntegerRange { offset: 0 })
    );
    assert_eq!(
        from_text("[1e999]"),
        Err(JsonError::FloatRange { offset: 1 })
    );
    assert_eq!(
        from_text(r#"{"a":1,"a":2}"#),
        Err(JsonError::DuplicateKey { offset: 0 })
    );
    for text in [
        r#"{"$bytes":"?"}"#,
        r#"{"$f64":"1"}"#,
        r#"{"$obj":1}"#,
        r#"{"$absent":1}"#,
    ] {
        assert!(
            matches!(from_text(text), Err(JsonError::Wrapper { .. })),
            "{text}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(from_text(&deep), Err(JsonError::TooDeep { .. })));
    let wide = format!("[{}0]", "0,".repeat(2_100_000));
    let error = from_text(&wide).unwrap_err();
    assert!(matches!(error, JsonError::TooManyNodes { .. }));
}

#[test]
fn the_deepest_value_reads_back_even_with_a_wrapper_at_every_level() {
    let wrapped = |value| Value::Object(vec![("$obj".to_owned(), value)]);
    let deepest = (0..crate::limits::DEPTH_MAX).fold(Value::Bytes(vec![1]), |v, _| wrapped(v));
    assert!(crate::encode(&deepest).is_ok());
    let text = to_text(&deepest);
    assert!(is_same(&from_text(&text).unwrap(), &deepest));
}

#[test]
fn floats_read_back_to_the_bit_at_the_edges_of_their_range() {
    for value in [
        f64::MIN_POSITIVE,
        5e-324,
        f64::MAX,
        f64::MIN,
        0.1,
        1e16,
        1e15,
        123_456_789.0,
        1e-7,
    ] {
        let text = to_text(&Value::Float(value));
        let has_mark = text.contains(['.', 'e']);
        assert!(has_mark, "{text}");
        assert!(
            is_same(&from_text(&text).unwrap(), &Value::Float(value)),
            "{text}"
        );
    }
}

#[test]
fn surrogate_pairs_are_one_character_and_halves_are_refused() {
    assert_eq!(from_text(r#""\ud83d\ude00""#), Ok(Value::from("\u{1F600}")));
    for text in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83d\u0041""#,
        r#""\ud83dx""#,
    ] {
        assert!(
            matches!(from_text(text), Err(JsonError::Syntax { .. })),
            "{text}"
        );
    }
}

#[test]
fn absent_is_read_only_where_it_is_allowed() {
    assert_eq!(from_text_or_absent(ABSENT_TEXT), Ok(None));
    assert_eq!(from_text_or_absent("null"), Ok(Some(Value::Null)));
    assert_eq!(from_text(ABSENT_TEXT), Err(JsonError::Absent));
    assert_eq!(
        from_text_or_absent(r#"[{"$absent":true}]"#),
        Err(JsonError::Absent)
    );
}

/// NaN payloads are lost in the text and nowhere else.
fn without_payloads(value: Value) -> Value {
    match value {
        Value::Float(float) if float.is_nan() => Value::Float(f64::NAN),
        Value::Array(items) => Value::Array(items.into_iter().map(without_payloads).collect()),
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(k, v)| (k, without_payloads(v)))
                .collect(),
        ),
        other => other,
    }
}

proptest! {
    #[test]
    fn a_text_reads_back_to_the_same_value(value in any_value()) {
        let value = without_payloads(value);
        let text = to_text(&value);
        prop_assert!(!text.contains('\n'));
        prop_assert!(is_same(&from_text(&text).unwrap(), &value), "{}", text);
    }

    #[test]
    fn an_arbitrary_text_is_a_value_or_a_typed_error(text in any::<String>()) {
        let _ = from_text_or_absent(&text);
    }

    #[test]
    fn a_cut_or_changed_text_is_a_value_or_a_typed_error(value in any_value(), at in any::<prop::sample::Index>(), put in any::<char>()) {
        let mut text: Vec<char> = to_text(&value).chars().collect();
        let at = at.index(text.len());
        text[at] = put;
        let _ = from_text(&text.iter().collect::<String>());
        let _ = from_text(&text[..at].iter().collect::<String>());
    }
}
