//! The serializer: writes the encoded form as the type is walked.
//!
//! A container whose length serde does not know gets its header when it ends, moved in before its
//! elements. Depth and length are checked as it goes, everything else by the validation at the end.

use rmp::encode::ByteBuf;
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{EncodedValue, SerdeError, ValueError, type_of, write};
use crate::limits::Limits;
use crate::value::ValueType;

/// Encodes and validates.
pub(super) fn encode<T: Serialize + ?Sized>(
    value: &T,
    limits: &Limits,
) -> Result<EncodedValue, SerdeError> {
    let mut encoder = Encoder {
        out: ByteBuf::new(),
        limits,
        depth: 0,
    };
    value.serialize(&mut encoder)?;
    Ok(EncodedValue::new_within(encoder.out.into_vec(), limits)?)
}

struct Encoder<'a> {
    out: ByteBuf,
    limits: &'a Limits,
    /// Depth of the value written next.
    depth: usize,
}

impl Encoder<'_> {
    /// Writes a value one level below the current one.
    fn below<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        self.descend()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(write::check_len(
            &self.out,
            self.limits.value_len_bytes_max,
        )?)
    }

    /// Opens an object of one entry, for a variant with content.
    fn variant(&mut self, name: &str) -> Result<(), SerdeError> {
        write::object(&mut self.out, 1)?;
        write::string(&mut self.out, name)?;
        self.descend()
    }

    /// Goes one level down, if there is one.
    fn descend(&mut self) -> Result<(), SerdeError> {
        let max = self.limits.depth_max;
        if self.depth >= max {
            let offset = self.out.as_slice().len();
            return Err(ValueError::TooDeep { offset, max }.into());
        }
        self.depth += 1;
        Ok(())
    }
}

/// A container being written.
struct Container<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    /// Where its header is, or belongs.
    offset: usize,
    /// Length of the header written, if the count was known.
    header_len_bytes: usize,
    count_declared: Option<usize>,
    count: usize,
    is_object: bool,
    /// True if it is the content of a variant, whose level ends with it.
    is_in_variant: bool,
}

impl<'a, 'b> Container<'a, 'b> {
    fn open(
        encoder: &'a mut Encoder<'b>,
        count_declared: Option<usize>,
        is_object: bool,
        is_in_variant: bool,
    ) -> Result<Self, SerdeError> {
        let offset = encoder.out.as_slice().len();
        if let Some(count) = count_declared {
            write_header(&mut encoder.out, count, is_object)?;
        }
        let header_len_bytes = encoder.out.as_slice().len() - offset;
        Ok(Self {
            encoder,
            offset,
            header_len_bytes,
            count_declared,
            count: 0,
            is_object,
            is_in_variant,
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        self.count += 1;
        self.encoder.below(value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), SerdeError> {
        write::string(&mut self.encoder.out, name)?;
        self.element(value)
    }

    /// A key is written like a value and must have become text.
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerdeError> {
        let offset = self.encoder.out.as_slice().len();
        self.encoder.below(key)?;
        let written = self
            .encoder
            .out
            .as_slice()
            .get(offset..)
            .unwrap_or_default();
        if type_of(written) != Some(ValueType::String) {
            return Err(ValueError::KeyNotString { offset }.into());
        }
        Ok(())
    }

    fn close(self) -> Result<(), SerdeError> {
        if self.count_declared != Some(self.count) {
            let mut header = ByteBuf::new();
            write_header(&mut header, self.count, self.is_object)?;
            let range = self.offset..self.offset + self.header_len_bytes;
            self.encoder
                .out
                .as_mut_vec()
                .splice(range, header.into_vec());
        }
        self.encoder.depth -= usize::from(self.is_in_variant);
        Ok(())
    }
}

fn write_header(out: &mut ByteBuf, count: usize, is_object: bool) -> Result<(), ValueError> {
    if is_object {
        write::object(out, count)
    } else {
        write::array(out, count)
    }
}

impl<'a, 'b> Serializer for &'a mut Encoder<'b> {
    type Ok = ();
    type Error = SerdeError;
    type SerializeSeq = Container<'a, 'b>;
    type SerializeTuple = Container<'a, 'b>;
    type SerializeTupleStruct = Container<'a, 'b>;
    type SerializeTupleVariant = Container<'a, 'b>;
    type SerializeMap = Container<'a, 'b>;
    type SerializeStruct = Container<'a, 'b>;
    type SerializeStructVariant = Container<'a, 'b>;

    fn serialize_bool(self, value: bool) -> Result<(), SerdeError> {
        write::bool(&mut self.out, value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), SerdeError> {
        write::int(&mut self.out, value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), SerdeError> {
        self.serialize_i64(
            value
                .try_into()
                .map_err(|_| SerdeError::Inexact { target: "int" })?,
        )
    }

    fn serialize_u8(self, value: u8) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), SerdeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), SerdeError> {
        self.serialize_i128(value.into())
    }

    fn serialize_u128(self, value: u128) -> Result<(), SerdeError> {
        self.serialize_i64(
            value
                .try_into()
                .map_err(|_| SerdeError::Inexact { target: "int" })?,
        )
    }

    fn serialize_f32(self, value: f32) -> Result<(), SerdeError> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), SerdeError> {
        write::float(&mut self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), SerdeError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), SerdeError> {
        Ok(write::string(&mut self.out, text)?)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), SerdeError> {
        Ok(write::bytes(&mut self.out, bytes)?)
    }

    fn serialize_none(self) -> Result<(), SerdeError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), SerdeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), SerdeError> {
        write::nil(&mut self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), SerdeError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), SerdeError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), SerdeError> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Container<'a, 'b>, SerdeError> {
        Container::open(self, len, false, false)
    }

    fn serialize_tuple(self, len: usize) -> Result<Container<'a, 'b>, SerdeError> {
        Container::open(self, Some(len), false, false)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Container<'a, 'b>, SerdeError> {
        Container::open(self, Some(len), false, false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Container<'a, 'b>, SerdeError> {
        self.variant(variant)?;
        Container::open(self, Some(len), false, true)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Container<'a, 'b>, SerdeError> {
        Container::open(self, len, true, false)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Container<'a, 'b>, SerdeError> {
        Container::open(self, Some(len), true, false)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Container<'a, 'b>, SerdeError> {
        self.variant(variant)?;
        Container::open(self, Some(len), true, true)
    }
}

/// The container traits differ in the names of their methods only.
macro_rules! containers {
    ($($trait:ident { fn $method:ident($($name:ident: $type:ty)?) => $call:ident })*) => {
        $(impl $trait for Container<'_, '_> {
            type Ok = ();
            type Error = SerdeError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $type,)?
                value: &T,
            ) -> Result<(), SerdeError> {
                self.$call($($name,)? value)
            }

            fn end(self) -> Result<(), SerdeError> {
                self.close()
            }
        })*
    };
}

containers! {
    SerializeSeq { fn serialize_element() => element }
    SerializeTuple { fn serialize_element() => element }
    SerializeTupleStruct { fn serialize_field() => element }
    SerializeTupleVariant { fn serialize_field() => element }
    SerializeStruct { fn serialize_field(name: &'static str) => field }
    SerializeStructVariant { fn serialize_field(name: &'static str) => field }
}

impl SerializeMap for Container<'_, '_> {
    type Ok = ();
    type Error = SerdeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerdeError> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), SerdeError> {
        self.close()
    }
}
