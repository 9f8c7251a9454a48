//! The shortest form of each item, appended to a buffer.
//!
//! Only a length that MessagePack cannot announce, above 32 bits, is refused here; limits are the
//! check's.

use rmp::encode::{self, ByteBuf};

use super::ValueError;
use crate::limits;

pub(super) fn nil(out: &mut ByteBuf) {
    let Ok(()) = encode::write_nil(out);
}

pub(super) fn bool(out: &mut ByteBuf, value: bool) {
    let Ok(()) = encode::write_bool(out, value);
}

pub(super) fn int(out: &mut ByteBuf, value: i64) {
    let Ok(_) = encode::write_sint(out, value);
}

pub(super) fn float(out: &mut ByteBuf, value: f64) {
    let Ok(()) = encode::write_f64(out, value);
}

pub(super) fn string(out: &mut ByteBuf, text: &str) -> Result<(), ValueError> {
    let (len_bytes, max) = (text.len(), limits::STRING_LEN_BYTES_MAX);
    announced(len_bytes).ok_or(ValueError::StringTooLong { len_bytes, max })?;
    let Ok(()) = encode::write_str(out, text);
    Ok(())
}

pub(super) fn bytes(out: &mut ByteBuf, bytes: &[u8]) -> Result<(), ValueError> {
    let (len_bytes, max) = (bytes.len(), limits::BYTES_LEN_BYTES_MAX);
    announced(len_bytes).ok_or(ValueError::BytesTooLong { len_bytes, max })?;
    let Ok(()) = encode::write_bin(out, bytes);
    Ok(())
}

pub(super) fn array(out: &mut ByteBuf, len: usize) -> Result<(), ValueError> {
    let max = limits::ARRAY_COUNT_MAX;
    let announced = announced(len).ok_or(ValueError::ArrayTooLong { len, max })?;
    let Ok(_) = encode::write_array_len(out, announced);
    Ok(())
}

pub(super) fn object(out: &mut ByteBuf, len: usize) -> Result<(), ValueError> {
    let max = limits::OBJECT_COUNT_MAX;
    let announced = announced(len).ok_or(ValueError::ObjectTooLarge { len, max })?;
    let Ok(_) = encode::write_map_len(out, announced);
    Ok(())
}

/// Stops a value that outgrows its limit before it has taken the memory.
pub(super) fn check_len(out: &ByteBuf, max: usize) -> Result<(), ValueError> {
    let len_bytes = out.as_slice().len();
    match len_bytes > max {
        true => Err(ValueError::TooLarge { len_bytes, max }),
        false => Ok(()),
    }
}

fn announced(len: usize) -> Option<u32> {
    u32::try_from(len).ok()
}
