//! One MessagePack item at a time, off the front of a body.
//!
//! Promises that no length is believed before the bytes for it are there, that nothing is
//! allocated, and that nothing recurses: skipping an item of any depth is one loop with one
//! counter. It refuses to know which items a message wants.

use rmp::Marker;

use super::Fault;

/// One item. Containers announce how many items follow: `Map(n)` is followed by 2n.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Nil,
    Flag(bool),
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    Float,
    /// Not checked to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Array(u32),
    Map(u32),
    Extension,
}

/// Where a body is read.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes not read yet.
    pub(super) const fn rest_len_bytes(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// The next item; of a container only its length.
    pub(super) fn item(&mut self) -> Result<Item<'a>, Fault> {
        let at = self.offset;
        let [marker] = self.array()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Item::Nil,
            Marker::False => Item::Flag(false),
            Marker::True => Item::Flag(true),
            Marker::FixPos(value) => Item::Unsigned(u64::from(value)),
            Marker::U8 => Item::Unsigned(self.big_endian(1)?),
            Marker::U16 => Item::Unsigned(self.big_endian(2)?),
            Marker::U32 => Item::Unsigned(self.big_endian(4)?),
            Marker::U64 => Item::Unsigned(self.big_endian(8)?),
            Marker::FixNeg(value) => signed(i64::from(value)),
            Marker::I8 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            Marker::I16 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            Marker::I32 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => self.take(4).map(|_| Item::Float)?,
            Marker::F64 => self.take(8).map(|_| Item::Float)?,
            Marker::FixStr(len) => Item::Str(self.take(u64::from(len))?),
            Marker::Str8 => Item::Str(self.sized(1)?),
            Marker::Str16 => Item::Str(self.sized(2)?),
            Marker::Str32 => Item::Str(self.sized(4)?),
            Marker::Bin8 => Item::Bin(self.sized(1)?),
            Marker::Bin16 => Item::Bin(self.sized(2)?),
            Marker::Bin32 => Item::Bin(self.sized(4)?),
            Marker::FixArray(count) => Item::Array(u32::from(count)),
            Marker::Array16 => Item::Array(u32::from(u16::from_be_bytes(self.array()?))),
            Marker::Array32 => Item::Array(u32::from_be_bytes(self.array()?)),
            Marker::FixMap(count) => Item::Map(u32::from(count)),
            Marker::Map16 => Item::Map(u32::from(u16::from_be_bytes(self.array()?))),
            Marker::Map32 => Item::Map(u32::from_be_bytes(self.array()?)),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized_extension(1)?,
            Marker::Ext16 => self.sized_extension(2)?,
            Marker::Ext32 => self.sized_extension(4)?,
            Marker::Reserved => return Err(Fault::Malformed { offset: at }),
        })
    }

    /// Passes over one whole item, with everything inside it; returns its bytes.
    pub(super) fn skip(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.offset;
        let mut left: u64 = 1;
        while left > 0 {
            // Every item takes a byte at least.
            if (self.rest_len_bytes() as u64) < left {
                return Err(self.truncated());
            }
            left -= 1;
            left += match self.item()? {
                Item::Array(count) => u64::from(count),
                Item::Map(count) => 2 * u64::from(count),
                _ => 0,
            };
        }
        Ok(self.bytes.get(start..self.offset).unwrap_or_default())
    }

    fn extension(&mut self, len: u64) -> Result<Item<'a>, Fault> {
        self.take(len + 1).map(|_| Item::Extension)
    }

    fn sized_extension(&mut self, width: u64) -> Result<Item<'a>, Fault> {
        let len = self.big_endian(width)?;
        self.extension(len)
    }

    fn sized(&mut self, width: u64) -> Result<&'a [u8], Fault> {
        let len = self.big_endian(width)?;
        self.take(len)
    }

    fn big_endian(&mut self, width: u64) -> Result<u64, Fault> {
        let bytes = self.take(width)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let found = rest.first_chunk::<N>().ok_or(self.truncated())?;
        self.offset += N;
        Ok(*found)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(len).map_err(|_| self.truncated())?;
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let found = rest.get(..len).ok_or(self.truncated())?;
        self.offset += len;
        Ok(found)
    }

    const fn truncated(&self) -> Fault {
        Fault::Malformed {
            offset: self.offset,
        }
    }
}

/// An integer that came in a signed form; above zero both forms mean the same.
fn signed(value: i64) -> Item<'static> {
    match u64::try_from(value) {
        Ok(value) => Item::Unsigned(value),
        Err(_) => Item::Negative(value),
    }
}
