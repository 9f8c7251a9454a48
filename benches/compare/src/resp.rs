//! RESP version 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), as far as a
//! load of SET and GET needs it. Answers come in the order of the requests.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendFlags, send};

use crate::load::Wire;

/// Size of the receive buffer, bytes; that of the client library of the other side.
const BUFFER_LEN_BYTES: usize = 64 << 10;

/// A connection to a server that speaks RESP.
pub(crate) struct RespWire {
    stream: UnixStream,
    /// What a SET begins with, up to its key, and ends with.
    put: (Vec<u8>, Vec<u8>),
    outgoing: Vec<u8>,
    sent_len_bytes: usize,
    buffer: Vec<u8>,
    received_len_bytes: usize,
    /// The requests on their way, oldest first.
    slots: VecDeque<u32>,
    value_len: usize,
}

/// One answer, and how many bytes it takes.
struct Reply {
    len_bytes: usize,
    checked: Result<(), String>,
}

impl RespWire {
    /// Connects.
    pub(crate) fn connect(socket: &str, value_len: usize) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_nonblocking(true)?;
        let value = "x".repeat(value_len);
        Ok(Self {
            stream,
            put: (
                b"*3\r\n$3\r\nSET\r\n$16\r\n".to_vec(),
                format!("\r\n${value_len}\r\n{value}\r\n").into_bytes(),
            ),
            outgoing: Vec::new(),
            sent_len_bytes: 0,
            buffer: vec![0; BUFFER_LEN_BYTES.max(4 * value_len)],
            received_len_bytes: 0,
            slots: VecDeque::new(),
            value_len,
        })
    }
}

impl AsFd for RespWire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Wire for RespWire {
    fn put(&mut self, slot: u32, key: &str) -> io::Result<()> {
        self.outgoing.extend_from_slice(&self.put.0);
        self.outgoing.extend_from_slice(key.as_bytes());
        self.outgoing.extend_from_slice(&self.put.1);
        self.slots.push_back(slot);
        Ok(())
    }

    fn get(&mut self, slot: u32, key: &str) -> io::Result<()> {
        self.outgoing.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\n");
        self.outgoing.extend_from_slice(key.as_bytes());
        self.outgoing.extend_from_slice(b"\r\n");
        self.slots.push_back(slot);
        Ok(())
    }

    fn send(&mut self) -> io::Result<bool> {
        let rest = self.outgoing.get(self.sent_len_bytes..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(true);
        }
        match send(&self.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(len) => self.sent_len_bytes += len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_sent = self.outgoing.len() <= self.sent_len_bytes;
        if is_sent {
            self.outgoing.clear();
            self.sent_len_bytes = 0;
        }
        Ok(is_sent)
    }

    fn receive(&mut self, take: &mut dyn FnMut(u32, Result<(), String>)) -> io::Result<()> {
        let room = self.buffer.get_mut(self.received_len_bytes..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.received_len_bytes += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut start = 0;
        while let Some(reply) = self
            .buffer
            .get(start..self.received_len_bytes)
            .and_then(|bytes| read_reply(bytes, self.value_len))
        {
            let slot = self.slots.pop_front().ok_or(io::ErrorKind::InvalidData)?;
            take(slot, reply.checked);
            start += reply.len_bytes;
        }
        self.buffer.copy_within(start..self.received_len_bytes, 0);
        self.received_len_bytes -= start;
        Ok(())
    }
}

/// The number of a `$` line; none for `$-1`.
fn length(line: &[u8]) -> Option<usize> {
    let digits = line.get(1..line.len().checked_sub(2)?)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The next answer; none when not all of it has come.
fn read_reply(bytes: &[u8], value_len: usize) -> Option<Reply> {
    let line_len = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let line = bytes.get(..line_len)?;
    let text = || String::from_utf8_lossy(line).trim().to_owned();
    let (rest_len, checked) = match line.first()? {
        b'+' => (0, Ok(())),
        b'$' => match length(line) {
            Some(len) if len == value_len => (len + 2, Ok(())),
            Some(len) => (len + 2, Err(format!("a value of {len} bytes, not {value_len}"))),
            None => (0, Err("a key that was loaded is missing".to_owned())),
        },
        _ => (0, Err(text())),
    };
    let len_bytes = line_len + rest_len;
    (len_bytes <= bytes.len()).then_some(Reply { len_bytes, checked })
}
