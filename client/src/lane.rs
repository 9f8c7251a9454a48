//! A connection that never waits: for a program that drives many of them from one thread.
//!
//! Requests are queued under ids the caller gives, sent as far as the kernel takes them, and
//! their answers are handed over, in any order, as they come. The caller waits, with poll(2) or
//! epoll(7) on the descriptor, and decides when. Promises that no call blocks once the lane is
//! made, that a request on one key is queued without an allocation once the buffers are warm, and
//! that nothing is sent twice. After an error the lane is finished; what was not answered by then
//! is not known to have happened or not. It refuses to know time, retries and the meaning of
//! values.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::codec::{access_response, encode_request};
use in_mem_ipc::frame::FrameKind;
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::kv::{Key, KeyValue};
use in_mem_ipc::request::{Operation, Request, RequestHeader};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_model::ValueRef;
use rustix::net::{SendFlags, send};

use crate::answer::{self, Answer};
use crate::connection::{Fault, ProtocolError, unexpected};
use crate::error::{self, ClientError};
use crate::incoming::Incoming;
use crate::results::Receipt;

/// A connection that never waits.
#[derive(Debug)]
pub struct Lane {
    stream: Arc<UnixStream>,
    incoming: Incoming,
    outgoing: FrameBuffer,
    sent_len_bytes: usize,
    in_flight_count_max: usize,
}

/// An answer, where it lies.
#[derive(Debug)]
pub enum LaneAnswer<'a> {
    /// Of a put: it is committed.
    Written(Receipt),
    /// Of a get: the encoded value, as the server sent it.
    Value(&'a [u8]),
    /// Of a get: there is no such key.
    Missing,
    /// The request failed; the lane goes on.
    Failed(ClientError),
}

impl Lane {
    /// A lane over a greeted connection; `incoming` is what has come over it beyond the greeting.
    pub(crate) fn new(
        stream: Arc<UnixStream>,
        incoming: Incoming,
        in_flight_count_max: usize,
    ) -> Result<Self, ClientError> {
        stream.set_nonblocking(true).map_err(error::unreachable)?;
        Ok(Self {
            stream,
            incoming,
            outgoing: FrameBuffer::new(),
            sent_len_bytes: 0,
            in_flight_count_max,
        })
    }

    /// How many requests the server lets be on their way at once. One who queues more is not
    /// served faster, and may wait for itself.
    #[must_use]
    pub const fn in_flight_count_max(&self) -> usize {
        self.in_flight_count_max
    }

    /// Queues a put in the run and with the durability of the session.
    ///
    /// # Errors
    ///
    /// The entry is larger than a frame; nothing was queued.
    pub fn put(
        &mut self,
        request_id: u64,
        key: &str,
        value: ValueRef<'_>,
    ) -> Result<(), ClientError> {
        let entry = KeyValue {
            key: key.into(),
            value: value.as_bytes().into(),
        };
        self.queue(request_id, Operation::KvPut(entry))
    }

    /// Queues a get in the run of the session.
    ///
    /// # Errors
    ///
    /// The key is larger than a frame; nothing was queued.
    pub fn get(&mut self, request_id: u64, key: &str) -> Result<(), ClientError> {
        self.queue(request_id, Operation::KvGet(Key { key: key.into() }))
    }

    fn queue(&mut self, request_id: u64, operation: Operation<'_>) -> Result<(), ClientError> {
        let kind = operation.kind();
        let header = RequestHeader::default();
        let request = Request { header, operation };
        encode_request(&request, request_id, &mut self.outgoing)
            .map_err(|too_large| error::too_large(kind, too_large))
    }

    /// Sends what is queued as far as the kernel takes it now; whether all of it is sent. If not,
    /// wait until the descriptor can be written to.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub fn send(&mut self) -> Result<bool, ClientError> {
        let rest = self.outgoing.get(self.sent_len_bytes..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(true);
        }
        match send(
            &*self.stream,
            rest,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(len) => self.sent_len_bytes += len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(lost(Fault::Broken(errno.into()))),
        }
        let is_sent = self.outgoing.len() <= self.sent_len_bytes;
        if is_sent {
            self.outgoing.clear();
            self.sent_len_bytes = 0;
        }
        Ok(is_sent)
    }

    /// Receives once, and hands over every answer that is whole with the id of its request. None
    /// may have come; wait until the descriptor can be read from.
    ///
    /// # Errors
    ///
    /// The connection broke, the server ended it, or it sent what this build does not understand.
    /// Answers that came before were handed over.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(u64, LaneAnswer<'_>),
    ) -> Result<(), ClientError> {
        match self.incoming.receive(&mut &*self.stream) {
            Ok(0) => return Err(lost(Fault::Ended)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(lost(Fault::Broken(error))),
        }
        while let Some(frame) = self
            .incoming
            .next_frame()
            .map_err(|error| lost(ProtocolError::Frame(error).into()))?
        {
            if frame.header.kind != FrameKind::Response {
                return Err(lost(unexpected(frame.header.kind, frame.body)));
            }
            let answer =
                access_response(frame.body).map_err(|error| error::bad_answer(error.into()))?;
            take(frame.header.request_id, read(answer));
        }
        Ok(())
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn read(answer: &Answer) -> LaneAnswer<'_> {
    match answer {
        ArchivedResponse::Value(bytes) => LaneAnswer::Value(bytes),
        ArchivedResponse::Missing => LaneAnswer::Missing,
        other => match answer::written(other) {
            Ok(receipt) => LaneAnswer::Written(receipt),
            Err(error) => LaneAnswer::Failed(error),
        },
    }
}

/// The error of a lane that is finished: a put on its way may have happened.
fn lost(fault: Fault) -> ClientError {
    error::lost(fault, OperationKind::KvPut, true, false)
}
