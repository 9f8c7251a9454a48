//! A client without a library: frames written and read by hand, so that tests can break them.

#![allow(
    dead_code,
    reason = "each test that includes this file uses a part of it"
)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use in_mem_ipc::close::Close;
use in_mem_ipc::codec::access_response;
use in_mem_ipc::frame::{FrameKind, HEADER_LEN_BYTES, Header, parse_frame, parse_header};
use in_mem_ipc::hello::{Hello, HelloReply};
use in_mem_ipc::message_pack::decode_response;
use in_mem_ipc::request::kv::{Key, KeyValue};
use in_mem_ipc::{Encoding, FrameBuffer, Operation, Request, RequestHeader, Response};

use crate::daemon_process::DEADLINE;

/// A connection that is spoken to frame by frame.
pub struct RawClient {
    /// The socket.
    pub stream: UnixStream,
    encoding: Encoding,
    next_request_id: u64,
}

/// A frame as received.
#[derive(Debug)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    body: FrameBuffer,
    encoding: Encoding,
}

impl Reply {
    /// The response it carries.
    pub fn response(&self) -> Response<'static> {
        assert_eq!(self.header.kind, FrameKind::Response, "{:?}", self.close());
        match self.encoding {
            Encoding::Rkyv => {
                Response::from_archived(access_response(&self.body).unwrap()).unwrap()
            }
            Encoding::MessagePack => self.decoded(),
        }
    }

    /// The response of a session that speaks MessagePack, owned.
    fn decoded(&self) -> Response<'static> {
        let response = decode_response(&self.body).unwrap();
        let mut archive = FrameBuffer::new();
        Encoding::Rkyv
            .encode_response(&response, 0, &mut archive)
            .unwrap();
        let body = parse_frame(&archive).unwrap().unwrap().body;
        Response::from_archived(access_response(body).unwrap()).unwrap()
    }

    /// The close notice it carries.
    pub fn close(&self) -> Option<Close> {
        (self.header.kind == FrameKind::Close).then(|| Close::decode(&self.body).unwrap())
    }
}

impl RawClient {
    /// Connects without a word.
    pub fn connect_silent(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self {
            stream,
            encoding: Encoding::Rkyv,
            next_request_id: 1,
        })
    }

    /// Connects and exchanges the greetings.
    pub fn connect(socket: &Path) -> Self {
        Self::connect_with(socket, Encoding::Rkyv)
    }

    /// The same, to speak in this encoding.
    pub fn connect_with(socket: &Path, encoding: Encoding) -> Self {
        let mut this = Self::connect_silent(socket).unwrap();
        this.encoding = encoding;
        this.send(&hello_frame_with(encoding));
        let reply = this.read().unwrap().expect("the greeting is answered");
        assert_eq!(
            reply.header.kind,
            FrameKind::HelloReply,
            "{:?}",
            reply.close()
        );
        let greeting = HelloReply::decode(&reply.body).unwrap();
        assert_eq!(greeting.encoding, encoding.to_wire());
        this
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a request and returns its id.
    pub fn start(&mut self, header: RequestHeader, operation: Operation<'_>) -> u64 {
        let id = self.next_request_id;
        self.next_request_id += 1;
        let mut frame = FrameBuffer::new();
        let request = Request { header, operation };
        self.encoding
            .encode_request(&request, id, &mut frame)
            .unwrap();
        self.send(&frame);
        id
    }

    /// Sends a request and waits for its answer; no other may be in flight.
    pub fn call_with(
        &mut self,
        header: RequestHeader,
        operation: Operation<'_>,
    ) -> Response<'static> {
        let id = self.start(header, operation);
        let reply = self.read().unwrap().expect("the connection is open");
        let response = reply.response();
        assert_eq!(reply.header.request_id, id);
        response
    }

    /// The same with the default header.
    pub fn call(&mut self, operation: Operation<'_>) -> Response<'static> {
        self.call_with(RequestHeader::default(), operation)
    }

    /// Puts an encoded value; the answer must say so. Returns the commit version.
    pub fn put(&mut self, key: &str, value: &[u8]) -> u64 {
        match self.call(put(key, value)) {
            Response::Written(receipt) => receipt.commit_version,
            other => panic!("{other:?}"),
        }
    }

    /// The encoded value of a key.
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        match self.call(Operation::KvGet(Key { key: key.into() })) {
            Response::Value(value) => Some(value.0.into_owned()),
            Response::Missing => None,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub fn read(&mut self) -> io::Result<Option<Reply>> {
        let mut header = [0; HEADER_LEN_BYTES];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let header = parse_header(&header).unwrap().unwrap();
        let mut body = FrameBuffer::new();
        body.resize(header.frame_len_bytes() as usize - HEADER_LEN_BYTES, 0);
        match self.stream.read_exact(&mut body) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        body.resize(header.body_len_bytes as usize, 0);
        let encoding = self.encoding;
        Ok(Some(Reply {
            header,
            body,
            encoding,
        }))
    }

    /// Reads until the peer closed; returns the frames that came before.
    pub fn read_to_end(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(reply) = self.read().expect("the peer answers or closes in time") {
            replies.push(reply);
        }
        replies
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// A put of an encoded value.
pub fn put<'a>(key: &'a str, value: &'a [u8]) -> Operation<'a> {
    Operation::KvPut(KeyValue {
        key: key.into(),
        value: value.into(),
    })
}

/// The bytes of a hello.
pub fn hello_frame() -> FrameBuffer {
    hello_frame_with(Encoding::Rkyv)
}

/// The bytes of a hello that asks for an encoding.
pub fn hello_frame_with(encoding: Encoding) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    let hello = Hello {
        encodings: vec![encoding.to_wire()],
        client_name: "raw".to_owned(),
        ..Hello::default()
    };
    hello.encode(&mut buffer).unwrap();
    buffer
}

/// The bytes of a request.
pub fn request_frame(id: u64, header: RequestHeader, operation: Operation<'_>) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    let request = Request { header, operation };
    Encoding::Rkyv
        .encode_request(&request, id, &mut buffer)
        .unwrap();
    buffer
}
