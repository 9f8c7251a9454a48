//! One MessagePack item at a time, in the profile of the store.
//!
//! Accepted: nil, bool, every integer form whose value fits an i64, float64, str of valid UTF-8,
//! bin, array, map. Refused with the offset: float32, extensions, integers above `i64::MAX`, the
//! unused byte 0xc1. The walk over a value, and what may nest in what, is the caller's.

use super::ValueError;
use crate::value::ValueType;

/// One item. Containers announce how many items follow: `Map(n)` is followed by 2n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    Array(usize),
    Map(usize),
}

impl Token<'_> {
    /// The type of the value that begins with this item.
    pub(crate) fn value_type(self) -> ValueType {
        match self {
            Self::Nil => ValueType::Null,
            Self::Bool(_) => ValueType::Bool,
            Self::Int(_) => ValueType::Int,
            Self::Float(_) => ValueType::Float,
            Self::Str(_) => ValueType::String,
            Self::Bin(_) => ValueType::Bytes,
            Self::Array(_) => ValueType::Array,
            Self::Map(_) => ValueType::Object,
        }
    }
}

/// Reads items off the front of encoded bytes.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Where the next item starts, bytes from the start.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn remaining_len_bytes(&self) -> usize {
        self.bytes.len() - self.offset
    }

    pub(crate) fn next_token(&mut self) -> Result<Token<'a>, ValueError> {
        let at = self.offset;
        let [marker] = self.array::<1>()?;
        let token = match marker {
            0x00..=0x7f => Token::Int(i64::from(marker)),
            0x80..=0x8f => Token::Map(usize::from(marker & 0x0f)),
            0x90..=0x9f => Token::Array(usize::from(marker & 0x0f)),
            0xa0..=0xbf => self.text(at, usize::from(marker & 0x1f))?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let len = self.len(1 << (marker - 0xc4))?;
                Token::Bin(self.take(len)?)
            }
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => self.unsigned(at, 1 << (marker - 0xcc))?,
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?)),
            0xd9..=0xdb => {
                let len = self.len(1 << (marker - 0xd9))?;
                self.text(at, len)?
            }
            0xdc | 0xdd => Token::Array(self.len(2 << (marker - 0xdc))?),
            0xde | 0xdf => Token::Map(self.len(2 << (marker - 0xde))?),
            0xe0..=0xff => Token::Int(i64::from(i8::from_be_bytes([marker]))),
            0xc1 | 0xc7..=0xca | 0xd4..=0xd8 => {
                return Err(ValueError::Form { offset: at, marker });
            }
        };
        Ok(token)
    }

    fn unsigned(&mut self, at: usize, width: usize) -> Result<Token<'a>, ValueError> {
        let value = self.big_endian(width)?;
        i64::try_from(value)
            .map(Token::Int)
            .map_err(|_| ValueError::IntegerRange { offset: at })
    }

    fn text(&mut self, at: usize, len: usize) -> Result<Token<'a>, ValueError> {
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes)
            .map(Token::Str)
            .map_err(|_| ValueError::Utf8 { offset: at })
    }

    fn len(&mut self, width: usize) -> Result<usize, ValueError> {
        let value = self.big_endian(width)?;
        usize::try_from(value).map_err(|_| ValueError::Truncated {
            offset: self.offset,
        })
    }

    fn big_endian(&mut self, width: usize) -> Result<u64, ValueError> {
        Ok(self
            .take(width)?
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let found = rest.first_chunk::<N>().ok_or(ValueError::Truncated {
            offset: self.offset,
        })?;
        self.offset += N;
        Ok(*found)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ValueError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let found = rest.get(..len).ok_or(ValueError::Truncated {
            offset: self.offset,
        })?;
        self.offset += len;
        Ok(found)
    }
}
