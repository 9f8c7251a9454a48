//! A server of scripts: each connection a client makes is played by the next one, in a thread of
//! its own, over a socket pair. When there are no more, nobody listens.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use in_mem_ipc::codec::{access_request, encode_request, encode_response};
use in_mem_ipc::frame::{FrameKind, parse_frame};
use in_mem_ipc::hello::{Hello, HelloReply, Limit};
use in_mem_ipc::request::{DurabilityChoice, Operation, Request};
use in_mem_ipc::response::{ReachedLevel, Receipt, Response};
use in_mem_ipc::{Encoding, FrameBuffer, message_pack};

use crate::client::{Client, ClientBuilder};
use crate::error::ClientError;
use crate::incoming::Incoming;
use crate::lane::Lane;
use crate::link::Dial;
use crate::retry::ReconnectPolicy;

/// How long a script waits for the client before the test has failed.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Plays one connection.
pub(super) type Script = Box<dyn FnOnce(&mut Peer) + Send>;

/// The scripts, and the threads that play them.
pub(super) struct Fake {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    players: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Fake {
    pub(super) fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self {
            scripts: Arc::new(Mutex::new(scripts.into_iter().collect())),
            players: Arc::default(),
        }
    }

    /// A client that tries again for a short time.
    pub(super) fn builder() -> ClientBuilder {
        Client::builder()
            .silence_max(Some(WAIT_MAX))
            .reconnect(ReconnectPolicy {
                delay_base: Duration::from_millis(1),
                delay_max: Duration::from_millis(1),
                delay_total_max: Duration::from_millis(5),
                resends: true,
            })
    }

    pub(super) fn connect(&self) -> Result<Client, ClientError> {
        self.connect_as(Self::builder())
    }

    pub(super) fn connect_as(&self, builder: ClientBuilder) -> Result<Client, ClientError> {
        builder.connect_with(self.dial())
    }

    pub(super) fn connect_lane(&self) -> Result<Lane, ClientError> {
        Self::builder().link_with(self.dial())?.into_lane()
    }

    fn dial(&self) -> Dial {
        let (scripts, players) = (Arc::clone(&self.scripts), Arc::clone(&self.players));
        Box::new(move || {
            let script = scripts.lock().unwrap().pop_front();
            let script = script.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = UnixStream::pair()?;
            let player = thread::spawn(move || script(&mut Peer::new(theirs)));
            players.lock().unwrap().push(player);
            Ok(ours)
        })
    }

    /// Waits until the scripts begun so far are over.
    pub(super) fn wait(&self) {
        let players: Vec<_> = self.players.lock().unwrap().drain(..).collect();
        for player in players {
            player
                .join()
                .expect("the script ends without a failed assertion");
        }
    }

    /// Waits until all scripts are over, and checks that all were played.
    pub(super) fn finish(self) {
        self.wait();
        assert_eq!(
            self.scripts.lock().unwrap().len(),
            0,
            "scripts that were not played"
        );
    }
}

/// The server side of one connection.
pub(super) struct Peer {
    pub(super) stream: UnixStream,
    incoming: Incoming,
    /// What the last greeting chose.
    encoding: Encoding,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self {
            stream,
            incoming: Incoming::new(),
            encoding: Encoding::Rkyv,
        }
    }

    /// Takes the hello and answers it.
    pub(super) fn greet(&mut self) {
        self.greet_as(&reply());
    }

    pub(super) fn greet_as(&mut self, reply: &HelloReply) {
        self.take_hello();
        self.answer_hello(reply);
    }

    /// Greets a client whose writes are remembered, in the encoding it asks for, with three
    /// requests on their way at most.
    pub(super) fn greet_remembering(&mut self, registered_at: u64) -> Hello {
        let hello = self.take_hello();
        let remembering = HelloReply {
            encoding: hello.encodings[0],
            registered_at: Some(registered_at),
            limits: vec![Limit {
                name: "in_flight_count_max".to_owned(),
                value: 3,
            }],
            ..reply()
        };
        self.answer_hello(&remembering);
        hello
    }

    fn answer_hello(&mut self, reply: &HelloReply) {
        let mut frame = FrameBuffer::new();
        reply.encode(&mut frame).unwrap();
        self.send(&frame);
        self.encoding = Encoding::from_wire(reply.encoding).unwrap();
    }

    pub(super) fn take_hello(&mut self) -> Hello {
        loop {
            if let Some(frame) = self.incoming.next_frame().unwrap() {
                assert_eq!(frame.header.kind, FrameKind::Hello);
                return Hello::decode(frame.body).unwrap();
            }
            assert_ne!(
                self.incoming.receive(&mut self.stream).unwrap(),
                0,
                "no hello came"
            );
        }
    }

    /// The next request; nothing when the client is gone.
    pub(super) fn next_request(&mut self) -> Option<(u64, Request<'static>)> {
        loop {
            if let Some(frame) = self.incoming.next_frame().unwrap() {
                assert_eq!(frame.header.kind, FrameKind::Request);
                let request = match self.encoding {
                    Encoding::Rkyv => owned(frame.body),
                    Encoding::MessagePack => {
                        let request = message_pack::decode_request(frame.body).unwrap();
                        let mut archive = FrameBuffer::new();
                        encode_request(&request, 0, &mut archive).unwrap();
                        owned(parse_frame(&archive).unwrap().unwrap().body)
                    }
                };
                return Some((frame.header.request_id, request));
            }
            if self.incoming.receive(&mut self.stream).unwrap() == 0 {
                return None;
            }
        }
    }

    /// The next request, which has to come.
    pub(super) fn request(&mut self) -> (u64, Operation<'static>) {
        let (id, request) = self.next_request().expect("a request comes");
        (id, request.operation)
    }

    pub(super) fn answer(&mut self, request_id: u64, response: &Response<'_>) {
        let mut frame = FrameBuffer::new();
        let encode = match self.encoding {
            Encoding::Rkyv => encode_response,
            Encoding::MessagePack => message_pack::encode_response,
        };
        encode(response, request_id, &mut frame).unwrap();
        self.send(&frame);
    }

    /// Takes a request and answers it.
    pub(super) fn serve(&mut self, response: &Response<'_>) -> Operation<'static> {
        let (id, operation) = self.request();
        self.answer(id, response);
        operation
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        // A client that is gone is for the test to notice.
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until the client is gone, and checks that it asked nothing more.
    pub(super) fn expect_end(&mut self) {
        assert_eq!(self.next_request(), None);
    }
}

fn owned(body: &[u8]) -> Request<'static> {
    Request::from_archived(access_request(body).unwrap()).unwrap()
}

/// What the server greets with.
pub(super) fn reply() -> HelloReply {
    HelloReply {
        protocol_version: 1,
        encoding: 0,
        server_version: "0.1.0".to_owned(),
        features: Vec::new(),
        run_id: [0; 16],
        durability: DurabilityChoice::Strict,
        durability_modes: vec![DurabilityChoice::Strict],
        operations: Vec::new(),
        limits: vec![Limit {
            name: "in_flight_count_max".to_owned(),
            value: 64,
        }],
        registered_at: None,
    }
}

pub(super) fn frame_of(request_id: u64, response: &Response<'_>) -> FrameBuffer {
    let mut frame = FrameBuffer::new();
    encode_response(response, request_id, &mut frame).unwrap();
    frame
}

pub(super) fn written(version: u64) -> Response<'static> {
    Response::Written(Receipt::of_commit(version, ReachedLevel::Synced))
}

/// A value answer.
pub(super) fn value(number: i64) -> Response<'static> {
    let encoded = in_mem_model::to_encoded(&number).unwrap();
    Response::Value(encoded.as_bytes().to_vec().into())
}
