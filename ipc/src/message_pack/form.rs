//! How the fields of messages stand in MessagePack: forms of single fields, and the macro that
//! makes a map of a struct.
//!
//! Types that may hold anything (bytes) have several forms, so a field names its own. Messages nest
//! as deep as their types do and no deeper, whatever a peer sends.

use std::borrow::Cow;

use super::reader::{Item, Reader};
use super::writer::Writer;
use super::{Fault, LIST_COUNT_MAX, Refusal};
use crate::bytes::{Bytes, Text};

/// A way to write a `T` as one item.
pub(super) trait Form<'a, T> {
    fn write(field: &T, out: &mut Writer<'_>);
    fn read(input: &mut Reader<'a>) -> Result<T, Fault>;
}

/// Whether a field may be left out of its map, and what that means.
pub(super) trait Presence<'a, T> {
    fn is_written(field: &T) -> bool;
    fn write(field: &T, out: &mut Writer<'_>);
    fn read(input: &mut Reader<'a>) -> Result<T, Fault>;
    fn absent(key: &'static str) -> Result<T, Fault>;
}

/// A message that is one map.
pub(super) trait Message<'a>: Sized {
    fn write(&self, out: &mut Writer<'_>);
    fn read(input: &mut Reader<'a>) -> Result<Self, Fault>;
}

/// A user key: str, or bin where it is not UTF-8; read from either.
pub(super) struct Key;
/// Bytes that mean something to their maker only: bin.
pub(super) struct Opaque;
/// An encoded value, in place.
pub(super) struct Value;
/// Text: str.
pub(super) struct Words;
/// A number that is never negative.
pub(super) struct Unsigned;
/// A number that may be negative.
pub(super) struct Signed;
/// A yes or a no.
pub(super) struct Flag;
/// Sixteen bytes: bin.
pub(super) struct Id;
/// An enum without content: its name as str.
pub(super) struct Name;
/// A map of its own.
pub(super) struct Object;
/// A list of items of one form.
pub(super) struct Many<F>(F);

/// Always there.
pub(super) struct Required<F>(F);
/// Left out if it is the default.
pub(super) struct Defaulted<F>(F);
/// Left out if there is none; nil never stands for none, because nil is the value Null.
pub(super) struct Optional<F>(F);

impl<'a> Form<'a, Bytes<'a>> for Key {
    fn write(field: &Bytes<'a>, out: &mut Writer<'_>) {
        match std::str::from_utf8(field) {
            Ok(text) => out.text(text),
            Err(_) => out.bytes(field),
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Bytes<'a>, Fault> {
        match input.item()? {
            Item::Str(bytes) | Item::Bin(bytes) => Ok(bytes.into()),
            _ => Err(wrong_type("str or bin")),
        }
    }
}

impl<'a> Form<'a, Bytes<'a>> for Opaque {
    fn write(field: &Bytes<'a>, out: &mut Writer<'_>) {
        out.bytes(field);
    }

    fn read(input: &mut Reader<'a>) -> Result<Bytes<'a>, Fault> {
        match input.item()? {
            Item::Bin(bytes) => Ok(bytes.into()),
            _ => Err(wrong_type("bin")),
        }
    }
}

impl<'a> Form<'a, Bytes<'a>> for Value {
    fn write(field: &Bytes<'a>, out: &mut Writer<'_>) {
        out.encoded(field);
    }

    fn read(input: &mut Reader<'a>) -> Result<Bytes<'a>, Fault> {
        Ok(input.skip()?.into())
    }
}

impl<'a> Form<'a, Text<'a>> for Words {
    fn write(field: &Text<'a>, out: &mut Writer<'_>) {
        out.text(field);
    }

    fn read(input: &mut Reader<'a>) -> Result<Text<'a>, Fault> {
        Ok(Text(Cow::Borrowed(text(input)?)))
    }
}

macro_rules! unsigned {
    ($($type:ty)*) => {
        $(impl<'a> Form<'a, $type> for Unsigned {
            fn write(field: &$type, out: &mut Writer<'_>) {
                out.unsigned(u64::from(*field));
            }

            fn read(input: &mut Reader<'a>) -> Result<$type, Fault> {
                let expected = concat!("an integer that fits ", stringify!($type));
                match input.item()? {
                    Item::Unsigned(number) => <$type>::try_from(number).ok(),
                    _ => None,
                }
                .ok_or(wrong_type(expected))
            }
        })*
    };
}

unsigned!(u8 u16 u32 u64);

impl<'a> Form<'a, i64> for Signed {
    fn write(field: &i64, out: &mut Writer<'_>) {
        out.signed(*field);
    }

    fn read(input: &mut Reader<'a>) -> Result<i64, Fault> {
        match input.item()? {
            Item::Unsigned(number) => i64::try_from(number).ok(),
            Item::Negative(number) => Some(number),
            _ => None,
        }
        .ok_or(wrong_type("an integer that fits i64"))
    }
}

impl<'a> Form<'a, bool> for Flag {
    fn write(field: &bool, out: &mut Writer<'_>) {
        out.flag(*field);
    }

    fn read(input: &mut Reader<'a>) -> Result<bool, Fault> {
        match input.item()? {
            Item::Flag(flag) => Ok(flag),
            _ => Err(wrong_type("bool")),
        }
    }
}

impl<'a> Form<'a, [u8; 16]> for Id {
    fn write(field: &[u8; 16], out: &mut Writer<'_>) {
        out.bytes(field);
    }

    fn read(input: &mut Reader<'a>) -> Result<[u8; 16], Fault> {
        let found = match input.item()? {
            Item::Bin(bytes) => bytes.try_into().ok(),
            _ => None,
        };
        found.ok_or(wrong_type("bin of 16 bytes"))
    }
}

impl<'a, T: Message<'a>> Form<'a, T> for Object {
    fn write(field: &T, out: &mut Writer<'_>) {
        field.write(out);
    }

    fn read(input: &mut Reader<'a>) -> Result<T, Fault> {
        T::read(input)
    }
}

impl<'a, T, F: Form<'a, T>> Form<'a, Vec<T>> for Many<F> {
    fn write(field: &Vec<T>, out: &mut Writer<'_>) {
        out.array(field.len());
        for item in field {
            F::write(item, out);
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Vec<T>, Fault> {
        let count = array(input)?;
        // The list grows with what is there, not with what was announced.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(F::read(input)?);
        }
        Ok(list)
    }
}

impl<'a, T, F: Form<'a, T>> Presence<'a, T> for Required<F> {
    fn is_written(_: &T) -> bool {
        true
    }

    fn write(field: &T, out: &mut Writer<'_>) {
        F::write(field, out);
    }

    fn read(input: &mut Reader<'a>) -> Result<T, Fault> {
        F::read(input)
    }

    fn absent(key: &'static str) -> Result<T, Fault> {
        Err(Refusal::MissingKey { key }.into())
    }
}

impl<'a, T: Default + PartialEq, F: Form<'a, T>> Presence<'a, T> for Defaulted<F> {
    fn is_written(field: &T) -> bool {
        *field != T::default()
    }

    fn write(field: &T, out: &mut Writer<'_>) {
        F::write(field, out);
    }

    fn read(input: &mut Reader<'a>) -> Result<T, Fault> {
        F::read(input)
    }

    fn absent(_: &'static str) -> Result<T, Fault> {
        Ok(T::default())
    }
}

impl<'a, T, F: Form<'a, T>> Presence<'a, Option<T>> for Optional<F> {
    fn is_written(field: &Option<T>) -> bool {
        field.is_some()
    }

    fn write(field: &Option<T>, out: &mut Writer<'_>) {
        if let Some(field) = field {
            F::write(field, out);
        }
    }

    fn read(input: &mut Reader<'a>) -> Result<Option<T>, Fault> {
        F::read(input).map(Some)
    }

    fn absent(_: &'static str) -> Result<Option<T>, Fault> {
        Ok(None)
    }
}

/// A map of the fields of a struct: key, field, whether it must be there and its form.
macro_rules! message {
    ($name:ident $(<$life:lifetime>)? { $($key:literal $field:ident: $presence:ty,)* }) => {
        impl<'a> Message<'a> for $name $(<$life>)? {
            fn write(&self, out: &mut Writer<'_>) {
                let count = 0 $(+ usize::from(<$presence>::is_written(&self.$field)))*;
                out.map(count);
                $(if <$presence>::is_written(&self.$field) {
                    out.text($key);
                    <$presence>::write(&self.$field, out);
                })*
            }

            fn read(input: &mut Reader<'a>) -> Result<Self, Fault> {
                $(let mut $field = None;)*
                for _ in 0..map(input)? {
                    match key(input)? {
                        $($key => once(&mut $field, $key, || <$presence>::read(input))?,)*
                        other => return Err(unknown_key(other)),
                    }
                }
                Ok(Self {
                    $($field: match $field {
                        Some(field) => field,
                        None => <$presence>::absent($key)?,
                    },)*
                })
            }
        }
    };
}

/// The names of an enum without content.
macro_rules! names {
    ($type:ident { $($name:literal $variant:ident,)* }) => {
        impl<'a> Form<'a, $type> for Name {
            fn write(field: &$type, out: &mut Writer<'_>) {
                out.text(match field {
                    $($type::$variant => $name,)*
                });
            }

            fn read(input: &mut Reader<'a>) -> Result<$type, Fault> {
                match text(input)? {
                    $($name => Ok($type::$variant),)*
                    other => Err(unknown_name(other)),
                }
            }
        }
    };
}

pub(super) use {message, names};

/// The length of the map that comes next.
pub(super) fn map(input: &mut Reader<'_>) -> Result<u32, Fault> {
    match input.item()? {
        Item::Map(count) => Ok(count),
        _ => Err(wrong_type("map")),
    }
}

/// The length of the array that comes next.
pub(super) fn array(input: &mut Reader<'_>) -> Result<u32, Fault> {
    match input.item()? {
        Item::Array(count) if LIST_COUNT_MAX < count => {
            let max = LIST_COUNT_MAX;
            Err(Refusal::TooMany {
                key: "",
                count,
                max,
            }
            .into())
        }
        Item::Array(count) => Ok(count),
        _ => Err(wrong_type("array")),
    }
}

/// The key of a map that comes next.
pub(super) fn key<'a>(input: &mut Reader<'a>) -> Result<&'a str, Fault> {
    let found = match input.item()? {
        Item::Str(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    found.ok_or(Refusal::KeyNotText.into())
}

/// Text that comes next.
pub(super) fn text<'a>(input: &mut Reader<'a>) -> Result<&'a str, Fault> {
    let found = match input.item()? {
        Item::Str(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    found.ok_or(wrong_type("str of UTF-8"))
}

/// Reads a field that may stand in its map once; says in which field a fault lies.
pub(super) fn once<T>(
    field: &mut Option<T>,
    key: &'static str,
    read: impl FnOnce() -> Result<T, Fault>,
) -> Result<(), Fault> {
    if field.is_some() {
        return Err(Refusal::DuplicateKey { key }.into());
    }
    *field = Some(read().map_err(|fault| fault.in_field(key))?);
    Ok(())
}

/// The refusal of an item of the wrong type, in a field not named yet.
pub(super) const fn wrong_type(expected: &'static str) -> Fault {
    Fault::Refused(Refusal::WrongType { key: "", expected })
}

/// The refusal of a name nobody has, in a field not named yet.
pub(super) fn unknown_name(name: &str) -> Fault {
    let name = clipped(name);
    Refusal::UnknownName { key: "", name }.into()
}

/// The refusal of a key the map does not have.
pub(super) fn unknown_key(key: &str) -> Fault {
    Refusal::UnknownKey { key: clipped(key) }.into()
}

/// As much of a peer's text as belongs into a message.
pub(super) fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}
