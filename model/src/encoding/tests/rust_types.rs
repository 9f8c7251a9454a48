//! Rust types through the bridge: what becomes what, and what is refused.

use proptest::prelude::*;

use super::{any_value, is_same};
use crate::encoding::*;
use crate::value::Value;

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

#[test]
fn reading_into_a_rust_type_converts_nothing() {
    let int = to_encoded(&1_i64).unwrap();
    let float = to_encoded(&0.1_f64).unwrap();
    let text = to_encoded("a").unwrap();
    let bytes = encode(&Value::Bytes(b"a".to_vec())).unwrap();
    fn wrong<T>(expected: &'static str, actual: &'static str) -> Result<T, SerdeError> {
        Err(SerdeError::WrongType { expected, actual })
    }
    assert_eq!(from_encoded::<f64>(int.as_bytes()), wrong("float", "int"));
    assert_eq!(from_encoded::<i64>(float.as_bytes()), wrong("int", "float"));
    assert_eq!(
        from_encoded::<String>(bytes.as_bytes()),
        wrong("string", "bytes")
    );
    assert_eq!(
        from_encoded::<Vec<u8>>(text.as_bytes()),
        wrong("array", "string")
    );
    assert_eq!(from_encoded::<()>(int.as_bytes()), wrong("null", "int"));
    assert_eq!(
        from_encoded::<Option<bool>>(int.as_bytes()),
        wrong("bool", "int")
    );
    let inexact = Err(SerdeError::Inexact { target: "f32" });
    assert_eq!(from_encoded::<f32>(float.as_bytes()), inexact);
    assert_eq!(
        from_encoded::<f32>(to_encoded(&0.5_f32).unwrap().as_bytes()),
        Ok(0.5)
    );
    assert!(from_encoded::<u8>(to_encoded(&256).unwrap().as_bytes()).is_err());
    assert!(from_encoded::<u64>(to_encoded(&-1).unwrap().as_bytes()).is_err());
    let three = to_encoded(&(1, 2, 3)).unwrap();
    assert!(from_encoded::<(i64, i64)>(three.as_bytes()).is_err());
}

#[test]
fn a_rust_value_without_an_exact_encoding_is_refused() {
    use std::collections::BTreeMap;
    let inexact = || Err(SerdeError::Inexact { target: "int" });
    assert_eq!(to_encoded(&(i64::MAX as u64 + 1)), inexact());
    assert_eq!(to_encoded(&u128::MAX), inexact());
    assert_eq!(to_encoded(&(i128::from(i64::MIN) - 1)), inexact());
    assert_eq!(
        to_encoded(&i128::from(i64::MIN)),
        Ok(EncodedValue::from_int(i64::MIN))
    );
    let by_number = BTreeMap::from([(1, 2)]);
    let error = to_encoded(&by_number).unwrap_err();
    assert_eq!(
        error,
        SerdeError::Value(ValueError::KeyNotString { offset: 1 })
    );
    let repeated = Value::Object(vec![("a".into(), Value::Null), ("a".into(), Value::Null)]);
    let error = SerdeError::Value(ValueError::DuplicateKey { offset: 4 });
    assert_eq!(to_encoded(&repeated), Err(error));
    let deep = (0..200).fold(Value::Null, |value, _| Value::Array(vec![value]));
    assert!(matches!(
        to_encoded(&deep),
        Err(SerdeError::Value(ValueError::TooDeep { .. }))
    ));
}

/// A sequence and a map whose length serde is not told.
struct Unsized(usize);

impl serde::Serialize for Unsized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{SerializeMap, SerializeSeq};
        let mut map = serializer.serialize_map(None)?;
        for index in 0..self.0 {
            map.serialize_entry(&index.to_string(), &Null)?;
        }
        return map.end();

        struct Null;
        impl serde::Serialize for Null {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut list = serializer.serialize_seq(None)?;
                list.serialize_element(&())?;
                list.end()
            }
        }
    }
}

#[test]
fn containers_of_unknown_length_get_their_header_at_the_end() {
    for count in [0, 1, 15, 16, 70_000] {
        let list = || Value::Array(vec![Value::Null]);
        let entries = (0..count).map(|index: usize| (index.to_string(), list()));
        let expected = encode(&Value::Object(entries.collect())).unwrap();
        assert!(to_encoded(&Unsized(count)).unwrap() == expected, "{count}");
    }
}

proptest! {
    #[test]
    fn a_value_through_serde_keeps_every_bit(value in any_value()) {
        let encoded = to_encoded(&value).unwrap();
        prop_assert_eq!(&encoded, &encode(&value).unwrap());
        let back: Value = from_encoded(encoded.as_bytes()).unwrap();
        prop_assert!(is_same(&back, &value));
    }
}
