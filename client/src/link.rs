//! The link to the server: a connection when there is one, and the way back when there is not.
//!
//! Promises that there is one exchange at a time, and that waiting for a lost server is bounded by
//! the policy. A transaction is bound to the connection it began on; on another its id means
//! nothing, so its requests are refused here instead of being sent. What is sent again is decided
//! in `attempt.rs` and `resend.rs`. It refuses to know what requests say.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use in_mem_ipc::codec::{WireError, access_request, encode_request};
use in_mem_ipc::frame::parse_frame;
use in_mem_ipc::hello::{Hello, HelloReply};
use in_mem_ipc::request::{Request, RequestHeader};
use in_mem_ipc::response::ArchivedResponse;
use in_mem_ipc::{Encoding, FrameBuffer, message_pack};

use crate::attempt::Call;
use crate::cancel::Canceller;
use crate::connection::{Connection, Fault, Known, Outgoing, Progress, Reader, archive};
use crate::error::{self, ClientError};
use crate::identity::Identity;
use crate::lane::Lane;
use crate::repeat::Repeat;
use crate::retry::ReconnectPolicy;

/// Most requests on their way at once where the server names no limit.
const WINDOW_COUNT: usize = 256;

/// Largest request buffer kept between calls, bytes.
const OUTGOING_LEN_BYTES_IDLE_MAX: usize = 1 << 20;

/// The limit of the server that bounds the window.
const IN_FLIGHT_LIMIT: &str = "in_flight_count_max";

/// Makes a stream to the server.
pub(crate) type Dial = Box<dyn FnMut() -> io::Result<UnixStream> + Send>;

/// What a link is made from.
pub(crate) struct LinkOptions {
    pub(crate) dial: Dial,
    pub(crate) hello: Hello,
    pub(crate) encoding: Encoding,
    /// Numbers the writes; its client id and registration are those of the hello.
    pub(crate) identity: Option<Identity>,
    pub(crate) silence_max: Option<Duration>,
    pub(crate) reconnect: ReconnectPolicy,
    pub(crate) canceller: Option<Canceller>,
}

/// Which connection a request may go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Any.
    Free,
    /// Only the one with this number.
    Connection(u64),
}

/// The link. One exchange at a time.
pub(crate) struct Link {
    options: LinkOptions,
    connection: Option<Connection>,
    greeting: HelloReply,
    /// Counts connections, from 1.
    connection_number: u64,
    request_id_next: u64,
    outgoing: FrameBuffer,
}

impl LinkOptions {
    /// What a connection that broke broke of: one that was ended from here was given up.
    fn name_fault(&self, fault: Fault) -> Fault {
        let is_cancelled = self.canceller.as_ref().is_some_and(Canceller::is_cancelled);
        match fault {
            Fault::NotSent(_) | Fault::Broken(_) | Fault::Ended if is_cancelled => Fault::GivenUp,
            other => other,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Link")
            .field("connection_number", &self.connection_number)
            .field("is_connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// Waits for the link. A panic while it was held leaves it without a connection in mid-exchange,
/// because every exchange takes the connection out and puts it back when it is done.
pub(crate) fn lock(link: &Mutex<Link>) -> MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Connects, in one attempt or, if it `waits`, within the bounds of the policy.
    pub(crate) fn connect(mut options: LinkOptions, waits: bool) -> Result<Self, ClientError> {
        let policy = if waits {
            options.reconnect
        } else {
            ReconnectPolicy::NONE
        };
        let (connection, greeting) = connect_within(&mut options, policy)?;
        Ok(Self {
            options,
            connection: Some(connection),
            greeting,
            connection_number: 1,
            request_id_next: 1,
            outgoing: FrameBuffer::new(),
        })
    }

    /// A lane over the connection that was just made.
    pub(crate) fn into_lane(mut self) -> Result<Lane, ClientError> {
        let in_flight_count_max = self.window();
        let (stream, incoming) = self.take_connection()?.into_parts();
        Lane::new(stream, incoming, in_flight_count_max)
    }

    /// What the server said when it was last greeted.
    pub(crate) const fn greeting(&self) -> &HelloReply {
        &self.greeting
    }

    /// The number of the connection in use, or of the last one.
    pub(crate) const fn connection_number(&self) -> u64 {
        self.connection_number
    }

    /// Whether a binding still holds.
    pub(crate) const fn is_bound(&self, binding: Binding) -> bool {
        match binding {
            Binding::Free => true,
            Binding::Connection(number) => {
                number == self.connection_number && self.connection.is_some()
            }
        }
    }

    /// Makes the connection if there is none: what the greeting says holds for the next exchange.
    pub(crate) fn ready(&mut self, binding: Binding) -> Result<(), ClientError> {
        if !self.is_bound(binding) {
            return Err(error::unbound());
        }
        if self.connection.is_none() {
            self.connection = Some(self.take_connection()?);
        }
        Ok(())
    }

    /// Whether the server that was greeted last remembers the writes of this client.
    pub(crate) const fn remembers(&self) -> bool {
        self.greeting.registered_at.is_some() && self.options.identity.is_some()
    }

    /// Reserves ids for requests that are encoded before they are sent.
    pub(crate) const fn reserve_request_ids(&mut self, count: u64) -> u64 {
        let first = self.request_id_next;
        self.request_id_next += count;
        first
    }

    /// Who the server takes this client for; none when its writes are not remembered.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.greeting.registered_at?;
        self.options.identity
    }

    /// The sequence of a write that is about to be sent over the connection that is [`Self::ready`];
    /// none when its server would not remember it.
    ///
    /// # Errors
    /// There are no more sequences.
    pub(crate) fn sequence_of(
        &mut self,
        header: &RequestHeader,
    ) -> Result<Option<u64>, ClientError> {
        let remembers = self.remembers();
        match self.options.identity.as_mut().filter(|_| remembers) {
            None => Ok(None),
            Some(identity) => match identity.sequence_of(header) {
                None => Err(error::out_of_sequences()),
                sequence => Ok(sequence),
            },
        }
    }

    /// The server has forgotten this client: it is another one from now on. The connection of the
    /// old one goes, so nothing may be on its way.
    pub(crate) fn renew_identity(&mut self) {
        if self.options.identity.is_some() {
            let identity = Identity::new();
            self.options.hello.client_id = Some(identity.client_id);
            self.options.hello.registered_at = None;
            self.options.identity = Some(identity);
            self.connection = None;
        }
    }

    /// Sends one request and reads its answer in place. A write of a `repeat` has to be its one.
    pub(crate) fn call<T>(
        &mut self,
        request: &Request<'_>,
        binding: Binding,
        repeat: Option<&Repeat>,
        read: impl Fn(&ArchivedResponse<'static>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let kind = request.operation.kind();
        let request_id = self.reserve_request_ids(1);
        let mut frames = std::mem::take(&mut self.outgoing);
        frames.clear();
        let result = match encode_request(request, request_id, &mut frames) {
            Err(too_large) => Err(error::too_large(kind, too_large)),
            Ok(()) => {
                let call = Call {
                    kind,
                    request_id,
                    len_bytes: frames.len(),
                    header: request.header,
                    binding,
                };
                match repeat.filter(|_| call.is_remembered()) {
                    None => self.call_encoded(&mut frames, call, &read),
                    Some(repeat) => repeat.claim(&frames, &call.header).and_then(|()| {
                        let result = self.call_encoded(&mut frames, call, &read);
                        let error = result.as_ref().err();
                        repeat.settle(error.and_then(ClientError::outcome));
                        result
                    }),
                }
            }
        };
        if frames.capacity() <= OUTGOING_LEN_BYTES_IDLE_MAX {
            self.outgoing = frames;
        }
        result
    }

    /// Runs one exchange over the connection, made again if it was lost. After a fault there is
    /// no connection. Fails if there was none to be had, with nothing sent.
    pub(crate) fn exchange(
        &mut self,
        outgoing: Outgoing<'_>,
        binding: Binding,
        read: Reader<'_>,
    ) -> Result<(Progress, Option<Fault>), ClientError> {
        if !self.is_bound(binding) {
            return Err(error::unbound());
        }
        // Before the connection is taken: one that cannot be sent leaves it as it is.
        let maps = match self.options.encoding {
            Encoding::Rkyv => None,
            Encoding::MessagePack => Some(Maps::of(outgoing)?),
        };
        let window = self.window();
        let mut connection = self.take_connection()?;
        let mut progress = Progress::default();
        let outgoing_now = maps
            .as_ref()
            .map_or(outgoing, |maps| maps.outgoing(outgoing));
        let mut archives = FrameBuffer::new();
        let mut read_map =
            |position: usize, body: &[u8]| read(position, archive(body, &mut archives)?);
        let read: Reader<'_> = match self.options.encoding {
            Encoding::Rkyv => &mut *read,
            Encoding::MessagePack => &mut read_map,
        };
        let canceller = self.options.canceller.clone();
        let ended = match canceller.as_ref() {
            None => connection.exchange(outgoing_now, window, &mut progress, read),
            Some(canceller) => {
                let socket = Arc::clone(connection.socket());
                let Some(_under_way) = canceller.begin(&socket) else {
                    self.connection = Some(connection);
                    return Err(error::cancelled());
                };
                connection.exchange(outgoing_now, window, &mut progress, read)
            }
        };
        if let Some(maps) = &maps {
            progress.sent_len_bytes = maps.sent_len_bytes(outgoing, &progress);
        }
        match ended {
            Ok(()) => {
                self.connection = Some(connection);
                Ok((progress, None))
            }
            Err(fault) => Ok((progress, Some(self.options.name_fault(fault)))),
        }
    }

    /// The newest durable version a subscription was told, waiting for a newer one than is known
    /// for at most `within`. After a fault there is no connection.
    pub(crate) fn newest_push(
        &mut self,
        binding: Binding,
        known: Known,
        within: Duration,
    ) -> Result<u64, ClientError> {
        if !self.is_bound(binding) {
            return Err(error::unsubscribed(None));
        }
        let mut connection = self.take_connection()?;
        let news = connection
            .news(known, within)
            .map_err(|fault| error::unsubscribed(Some(fault)))?;
        self.connection = Some(connection);
        news.unwrap_or(Ok(known.version))
    }

    /// Whether what the server certainly did not get is sent again.
    pub(crate) const fn resends(&self) -> bool {
        self.options.reconnect.resends
    }

    /// How many requests may be on their way at once.
    fn window(&self) -> usize {
        self.greeting
            .limits
            .iter()
            .find(|limit| limit.name == IN_FLIGHT_LIMIT)
            .and_then(|limit| usize::try_from(limit.value).ok())
            .map_or(WINDOW_COUNT, |limit| limit.clamp(1, WINDOW_COUNT))
    }

    /// The connection, or a new one within the bounds of the policy.
    fn take_connection(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let policy = self.options.reconnect;
        let (connection, greeting) = connect_within(&mut self.options, policy)?;
        self.greeting = greeting;
        self.connection_number += 1;
        Ok(connection)
    }
}

/// Requests once more, as MessagePack.
struct Maps {
    frames: FrameBuffer,
    ends: Vec<usize>,
}

impl Maps {
    fn of(archives: Outgoing<'_>) -> Result<Self, ClientError> {
        let mut maps = Self {
            frames: FrameBuffer::new(),
            ends: Vec::with_capacity(archives.ends.len()),
        };
        let malformed = |error: WireError| error::bad_answer(error.into());
        let mut start = 0;
        for (end, request_id) in archives.ends.iter().zip(archives.request_id_first..) {
            let frame = archives.frames.get(start..*end).unwrap_or_default();
            start = *end;
            let frame = parse_frame(frame).ok().flatten();
            let body = frame.map(|frame| frame.body).unwrap_or_default();
            let request = access_request(body).map_err(malformed)?;
            let request = Request::from_archived(request).map_err(malformed)?;
            let kind = request.operation.kind();
            message_pack::encode_request(&request, request_id, &mut maps.frames)
                .map_err(|too_large| error::too_large(kind, too_large))?;
            maps.ends.push(maps.frames.len());
        }
        Ok(maps)
    }

    fn outgoing<'a>(&'a self, archives: Outgoing<'_>) -> Outgoing<'a> {
        Outgoing {
            frames: self.frames.as_slice(),
            ends: self.ends.as_slice(),
            request_id_first: archives.request_id_first,
            spread_max: archives.spread_max,
        }
    }

    /// Where the archives end whose maps the kernel took whole.
    fn sent_len_bytes(&self, archives: Outgoing<'_>, progress: &Progress) -> usize {
        let is_sent = |end: &&usize| **end <= progress.sent_len_bytes;
        let sent_count = self.ends.iter().take_while(is_sent).count();
        let last = sent_count.checked_sub(1);
        last.and_then(|last| archives.ends.get(last).copied())
            .unwrap_or_default()
    }
}

/// Makes a connection, trying again as the policy says.
fn connect_within(
    options: &mut LinkOptions,
    policy: ReconnectPolicy,
) -> Result<(Connection, HelloReply), ClientError> {
    let mut waited = Duration::ZERO;
    let mut attempt = 0;
    loop {
        let failure = match dial_and_greet(options) {
            Ok((connection, greeting)) => {
                // None of a server that does not remember: then nothing is sent again.
                options.hello.registered_at = greeting.registered_at;
                if let Some(identity) = &mut options.identity {
                    identity.registered_at = greeting.registered_at;
                }
                return Ok((connection, greeting));
            }
            Err(failure) => failure,
        };
        let delay = policy
            .delay(attempt, waited)
            .filter(|_| failure.is_transient());
        let Some(delay) = delay else {
            return Err(failure.into_error(&options.hello));
        };
        match &options.canceller {
            Some(canceller) => canceller.pause(delay),
            None => thread::sleep(delay),
        }
        waited += delay;
        attempt += 1;
    }
}

/// Why there is no connection.
enum ConnectFailure {
    Dial(io::Error),
    Greet(Fault),
}

impl ConnectFailure {
    fn is_transient(&self) -> bool {
        match self {
            Self::Dial(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::WouldBlock
            ),
            Self::Greet(fault) => fault.is_transient(),
        }
    }

    fn into_error(self, hello: &Hello) -> ClientError {
        match self {
            Self::Dial(error) => error::unreachable(error),
            Self::Greet(fault) => error::not_greeted(fault, hello),
        }
    }
}

fn dial_and_greet(options: &mut LinkOptions) -> Result<(Connection, HelloReply), ConnectFailure> {
    if options
        .canceller
        .as_ref()
        .is_some_and(Canceller::is_cancelled)
    {
        return Err(ConnectFailure::Greet(Fault::GivenUp));
    }
    let stream = Arc::new((options.dial)().map_err(ConnectFailure::Dial)?);
    let canceller = options.canceller.clone();
    let under_way = canceller.as_ref().map(|it| it.begin(&stream));
    if matches!(under_way, Some(None)) {
        return Err(ConnectFailure::Greet(Fault::GivenUp));
    }
    Connection::greet(stream, &options.hello, options.silence_max)
        .map_err(|fault| ConnectFailure::Greet(options.name_fault(fault)))
}
