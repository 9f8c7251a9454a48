//! The shortest form of each item, appended to a frame.
//!
//! Writes no further than the largest frame: from there on nothing is written any more, and the
//! writer says so at the end. A message that is too large therefore stops there instead of filling
//! memory first, and the code that says what a message is made of has no error to pass on.

use std::io;

use rmp::encode;

use super::reader::Reader;
use crate::codec::FrameBuffer;

/// Where a body is written.
pub(super) struct Writer<'a> {
    sink: Sink<'a>,
    is_too_large: bool,
}

struct Sink<'a> {
    buffer: &'a mut FrameBuffer,
    end_max: usize,
}

impl io::Write for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.end_max - self.buffer.len() < bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Writer<'a> {
    /// A writer behind what the buffer holds, for at most `len_bytes_max` bytes.
    pub(super) fn new(buffer: &'a mut FrameBuffer, len_bytes_max: usize) -> Self {
        let end_max = buffer.len() + len_bytes_max;
        Self {
            sink: Sink { buffer, end_max },
            is_too_large: false,
        }
    }

    /// Whether something did not fit.
    pub(super) const fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.write(|sink| encode::write_bool(sink, flag).is_ok());
    }

    pub(super) fn unsigned(&mut self, number: u64) {
        self.write(|sink| encode::write_uint(sink, number).is_ok());
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.write(|sink| encode::write_sint(sink, number).is_ok());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.write(|sink| is_announced(text.len()) && encode::write_str(sink, text).is_ok());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.write(|sink| is_announced(bytes.len()) && encode::write_bin(sink, bytes).is_ok());
    }

    /// The head of an array of this many items.
    pub(super) fn array(&mut self, count: usize) {
        self.write(|sink| {
            u32::try_from(count).is_ok_and(|count| encode::write_array_len(sink, count).is_ok())
        });
    }

    /// The head of a map of this many entries.
    pub(super) fn map(&mut self, count: usize) {
        self.write(|sink| {
            u32::try_from(count).is_ok_and(|count| encode::write_map_len(sink, count).is_ok())
        });
    }

    /// An item that is encoded already.
    pub(super) fn encoded(&mut self, item: &[u8]) {
        debug_assert!(is_one_item(item), "an encoded value is one whole item");
        self.write(|sink| io::Write::write_all(sink, item).is_ok());
    }

    fn write(&mut self, write: impl FnOnce(&mut Sink<'a>) -> bool) {
        self.is_too_large = self.is_too_large || !write(&mut self.sink);
    }
}

/// Whether MessagePack can announce the length.
fn is_announced(len_bytes: usize) -> bool {
    u32::try_from(len_bytes).is_ok()
}

fn is_one_item(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    reader.skip().is_ok() && reader.rest_len_bytes() == 0
}
