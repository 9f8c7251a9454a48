//! The deserializer: a tokens of validated bytes that converts nothing.
//!
//! serde's own visitors take an integer where a float is asked for, and bytes where text is; so
//! each typed request checks the type of what is there before the visitor sees it.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{SerdeError, Token, Tokens};

/// One value about to be read.
pub(super) struct Decoder<'a, 'de> {
    tokens: &'a mut Tokens<'de>,
}

impl<'a, 'de> Decoder<'a, 'de> {
    pub(super) fn new(tokens: &'a mut Tokens<'de>) -> Self {
        Self { tokens }
    }

    fn visit<V: Visitor<'de>>(self, token: Token<'de>, visitor: V) -> Result<V::Value, SerdeError> {
        match token {
            Token::Nil => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Int(value) => visitor.visit_i64(value),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Str(text) => visitor.visit_borrowed_str(text),
            Token::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::Array(count) => {
                let mut elements = Elements {
                    tokens: self.tokens,
                    left_count: count,
                };
                let value = visitor.visit_seq(&mut elements)?;
                elements.finish(value)
            }
            Token::Map(count) => {
                let mut elements = Elements {
                    tokens: self.tokens,
                    left_count: count,
                };
                let value = visitor.visit_map(&mut elements)?;
                elements.finish(value)
            }
        }
    }

    fn visit_if<V: Visitor<'de>>(
        self,
        visitor: V,
        expected: &'static str,
        is_taken: impl FnOnce(Token<'de>) -> bool,
    ) -> Result<V::Value, SerdeError> {
        let token = self.tokens.next_token()?;
        if !is_taken(token) {
            return Err(wrong_type(expected, token));
        }
        self.visit(token, visitor)
    }
}

fn wrong_type(expected: &'static str, actual: Token<'_>) -> SerdeError {
    SerdeError::WrongType {
        expected,
        actual: actual.value_type().name(),
    }
}

/// The typed requests, each with the one token it takes.
macro_rules! typed {
    ($($expected:literal $token:ident: $($method:ident)*;)*) => {
        $($(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
            self.visit_if(visitor, $expected, |token| matches!(token, Token::$token { .. }))
        })*)*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_, 'de> {
    type Error = SerdeError;

    typed! {
        "bool" Bool: deserialize_bool;
        "int" Int: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128;
        "float" Float: deserialize_f64;
        "string" Str: deserialize_char deserialize_str deserialize_string deserialize_identifier;
        "bytes" Bin: deserialize_bytes deserialize_byte_buf;
        "array" Array: deserialize_seq;
        "object" Map: deserialize_map;
        "null" Nil: deserialize_unit;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let token = self.tokens.next_token()?;
        self.visit(token, visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        match self.tokens.next_token()? {
            Token::Float(value) => visitor.visit_f32(narrow(value)?),
            token => Err(wrong_type("float", token)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let mut ahead = self.tokens.clone();
        if ahead.next_token()? == Token::Nil {
            *self.tokens = ahead;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self.tokens.next_token()? {
            Token::Str(name) => visitor.visit_enum(Variant {
                name,
                content: None,
            }),
            Token::Map(1) => {
                let name = key_of(self.tokens)?;
                visitor.visit_enum(Variant {
                    name,
                    content: Some(self),
                })
            }
            token => Err(wrong_type("string or object of one entry", token)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        self.deserialize_any(visitor)
    }
}

/// An f32, if it is exactly the f64.
fn narrow(value: f64) -> Result<f32, SerdeError> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with the original below"
    )]
    let narrowed = value as f32;
    if f64::from(narrowed) == value || value.is_nan() {
        return Ok(narrowed);
    }
    Err(SerdeError::Inexact { target: "f32" })
}

fn key_of<'de>(tokens: &mut Tokens<'de>) -> Result<&'de str, SerdeError> {
    match tokens.next_token()? {
        Token::Str(text) => Ok(text),
        token => Err(wrong_type("string", token)),
    }
}

/// The elements or entries of a container not yet read.
struct Elements<'a, 'de> {
    tokens: &'a mut Tokens<'de>,
    left_count: usize,
}

impl Elements<'_, '_> {
    /// Refuses elements that the visitor left unread.
    fn finish<T>(&self, value: T) -> Result<T, SerdeError> {
        match self.left_count {
            0 => Ok(value),
            left_count => Err(SerdeError::Custom(format!(
                "{left_count} elements too many"
            ))),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = SerdeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SerdeError> {
        if self.left_count == 0 {
            return Ok(None);
        }
        self.left_count -= 1;
        seed.deserialize(Decoder::new(self.tokens)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left_count)
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = SerdeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, SerdeError> {
        if self.left_count == 0 {
            return Ok(None);
        }
        self.left_count -= 1;
        seed.deserialize(Decoder::new(self.tokens)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, SerdeError> {
        seed.deserialize(Decoder::new(self.tokens))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left_count)
    }
}

/// A variant: its name, and where its content is if it has any.
struct Variant<'a, 'de> {
    name: &'de str,
    content: Option<Decoder<'a, 'de>>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = SerdeError;
    type Variant = Content<'a, 'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Content<'a, 'de>), SerdeError> {
        let name: BorrowedStrDeserializer<'_, SerdeError> = BorrowedStrDeserializer::new(self.name);
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

struct Content<'a, 'de>(Option<Decoder<'a, 'de>>);

impl<'a, 'de> Content<'a, 'de> {
    fn present(self) -> Result<Decoder<'a, 'de>, SerdeError> {
        self.0.ok_or(SerdeError::WrongType {
            expected: "object of one entry",
            actual: "string",
        })
    }
}

impl<'de> VariantAccess<'de> for Content<'_, 'de> {
    type Error = SerdeError;

    fn unit_variant(self) -> Result<(), SerdeError> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(SerdeError::WrongType {
                expected: "string",
                actual: "object",
            }),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, SerdeError> {
        seed.deserialize(self.present()?)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.present()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        self.present()?.deserialize_map(visitor)
    }
}
