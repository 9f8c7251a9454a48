//! The receive side of a connection: bytes as they come, frames as they are whole.
//!
//! Owns one buffer whose start is a multiple of 16. A frame is as long as a multiple of 16, so
//! every body lies aligned and its archive is read in place. Promises that a length is checked
//! against its limit before memory is taken for it, and that a large frame does not keep its
//! memory once it was read. It refuses to know what a body says.

use std::io::{self, Read};

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::frame::{Frame, FrameError, parse_frame, parse_header};

/// Size of the buffer of an ordinary connection, bytes. 64 KiB: hundreds of small answers in one
/// system call.
const BUFFER_LEN_BYTES: usize = 64 << 10;

/// Largest buffer kept while nothing is in it, bytes.
const BUFFER_LEN_BYTES_IDLE_MAX: usize = 1 << 20;

const _: () = assert!(BUFFER_LEN_BYTES <= BUFFER_LEN_BYTES_IDLE_MAX);

/// Bytes received and not yet read; they lie at `start..end` of the buffer.
#[derive(Debug)]
pub(crate) struct Incoming {
    buffer: FrameBuffer,
    start: usize,
    end: usize,
}

impl Incoming {
    /// A buffer with nothing in it.
    pub(crate) fn new() -> Self {
        Self {
            buffer: empty_buffer(),
            start: 0,
            end: 0,
        }
    }

    /// The next whole frame; `None` when not all of it has come.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let received = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(header) = parse_header(received)? else {
            return Ok(None);
        };
        let frame_start = self.start;
        let frame_end = frame_start + header.frame_len_bytes() as usize;
        if self.end < frame_end {
            return Ok(None);
        }
        self.start = frame_end;
        parse_frame(self.buffer.get(frame_start..frame_end).unwrap_or_default())
    }

    /// Receives once, as much as there is room for; 0 when the peer is gone.
    pub(crate) fn receive(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.make_room();
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        assert!(!room.is_empty(), "there is room to receive into");
        loop {
            match stream.read(room) {
                Ok(len) => {
                    self.end += len;
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes room for the rest of the frame that has begun, at least for one byte.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if BUFFER_LEN_BYTES_IDLE_MAX < self.buffer.len() {
                self.buffer = empty_buffer();
            }
        }
        let received = self.buffer.get(self.start..self.end).unwrap_or_default();
        let wanted_len = match parse_header(received) {
            Ok(Some(header)) => header.frame_len_bytes() as usize,
            Ok(None) | Err(_) => BUFFER_LEN_BYTES,
        };
        if self.buffer.len() - self.start < wanted_len {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < wanted_len {
            self.buffer.resize(wanted_len, 0);
        }
    }
}

fn empty_buffer() -> FrameBuffer {
    let mut buffer = FrameBuffer::with_capacity(BUFFER_LEN_BYTES);
    buffer.resize(BUFFER_LEN_BYTES, 0);
    buffer
}
