//! One connection: the greeting, then requests out and answers in, matched by id.
//!
//! Owns the socket and the receive buffer. Promises that sending never waits while answers could
//! be read (so two full buffers cannot block each other), that at most `window` requests are on
//! their way, and that after a fault the caller knows which requests may have been executed: a
//! frame of which the kernel did not take every byte was not. A connection that returned a
//! [`Fault`] is finished. It refuses to know retries, runs and values.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use in_mem_ipc::close::{Close, CloseReason};
use in_mem_ipc::codec::{WireError, access_response, encode_response};
use in_mem_ipc::fields::FieldError;
use in_mem_ipc::frame::{Frame, FrameError, FrameKind, parse_frame};
use in_mem_ipc::hello::{Hello, HelloReply};
use in_mem_ipc::message_pack::decode_response;
use in_mem_ipc::{Encoding, FrameBuffer};
use in_mem_model::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::durable::durable;
use crate::error::ClientError;
use crate::incoming::Incoming;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The kernel refused the first byte: the server was gone before it was asked.
    #[error("the server was gone before the request was sent")]
    NotSent(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The server ended the connection.
    #[error("the server ended the connection")]
    Ended,
    /// The server ended the connection and said why.
    #[error("the server ended the connection: {}", .0.message)]
    Closed(Close),
    /// Nothing came for as long as the caller was willing to wait.
    #[error("no answer within {} ms", .0.as_millis())]
    Silence(Duration),
    /// The caller did not want to wait any longer.
    #[error("it was given up")]
    GivenUp,
    /// The server sent something this build does not understand.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// What of the server this build does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Bytes that are no frame.
    #[error("the server sent a bad frame")]
    Frame(#[from] FrameError),
    /// A frame whose body is no answer.
    #[error("the server sent a bad answer")]
    Answer(#[from] WireError),
    /// A greeting that cannot be read.
    #[error("the server sent a bad greeting")]
    Greeting(#[from] FieldError),
    /// A frame that has no place here.
    #[error("the server sent a {0:?} frame out of turn")]
    OutOfTurn(FrameKind),
    /// An answer to a request that was not sent, or was answered before.
    #[error("the server answered request {0}, which is not open")]
    UnknownRequest(u64),
}

/// Frames of requests with consecutive ids, ready to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// The frames, one behind the other.
    pub(crate) frames: &'a [u8],
    /// Where each frame ends.
    pub(crate) ends: &'a [usize],
    /// The id of the first request.
    pub(crate) request_id_first: u64,
    /// How far behind the first unanswered request another may be sent, count: as many answers as
    /// the server keeps, where it is to keep them.
    pub(crate) spread_max: Option<usize>,
}

/// Takes the position of a request and the body of its answer.
pub(crate) type Reader<'r> = &'r mut dyn FnMut(usize, &[u8]) -> Result<(), ProtocolError>;

/// How far an exchange got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes the kernel took.
    pub(crate) sent_len_bytes: usize,
    /// Requests answered.
    pub(crate) answered_count: usize,
    /// Which of them; kept only where their spread is bounded.
    is_answered: Vec<bool>,
    /// No request before this one is unanswered; counts where their spread is bounded.
    first_unanswered: usize,
}

impl Progress {
    /// How many requests may have been sent by now.
    fn allowed_count(&self, outgoing: &Outgoing<'_>, window: usize) -> usize {
        let by_spread = outgoing
            .spread_max
            .map_or(usize::MAX, |spread| self.first_unanswered + spread.max(1));
        let by_window = self.answered_count + window.max(1);
        by_window.min(by_spread).min(outgoing.ends.len())
    }

    /// The kernel took the whole request: nobody can have answered it before.
    fn was_sent(&self, outgoing: &Outgoing<'_>, position: usize) -> bool {
        let end = outgoing.ends.get(position);
        end.is_some_and(|end| *end <= self.sent_len_bytes)
    }

    /// Counts an answer.
    fn answered(&mut self, outgoing: &Outgoing<'_>, position: usize) {
        self.answered_count += 1;
        if outgoing.spread_max.is_none() {
            return;
        }
        if self.is_answered.is_empty() {
            self.is_answered.resize(outgoing.ends.len(), false);
        }
        if let Some(is_answered) = self.is_answered.get_mut(position) {
            *is_answered = true;
        }
        while self.is_answered.get(self.first_unanswered) == Some(&true) {
            self.first_unanswered += 1;
        }
    }
}

/// How long a server may take to greet, at most: one at the limit of its connections lets others wait.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// A greeted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Arc<UnixStream>,
    incoming: Incoming,
    silence_max: Option<Duration>,
    encoding: Encoding,
    /// What pushes told, the last of each kind; each tells all that the ones before it told.
    push: Push,
}

/// What the server told unasked.
#[derive(Debug, Default)]
struct Push {
    /// The subscription it belongs to.
    subscription_id: u64,
    /// The durable version.
    version: u64,
    /// Why there will be no more.
    failure: Option<Box<Error>>,
}

/// What a watch knows already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its subscription.
    pub(crate) subscription_id: u64,
    /// The durable version it was told.
    pub(crate) version: u64,
}

impl Push {
    fn take_in(&mut self, frame: &Frame<'_>, encoding: Encoding) -> Result<(), ProtocolError> {
        let subscription_id = frame.header.subscription_id;
        if self.subscription_id != subscription_id {
            *self = Self {
                subscription_id,
                ..Self::default()
            };
        }
        let mut archives = FrameBuffer::new();
        let body = match encoding {
            Encoding::Rkyv => frame.body,
            Encoding::MessagePack => archive(frame.body, &mut archives)?,
        };
        match durable(access_response(body)?) {
            Ok(version) => self.version = self.version.max(version),
            Err(failure) => self.failure = Some(Box::new(failure.into_body())),
        }
        Ok(())
    }

    /// What it says beyond what is known.
    fn news(&self, known: Known) -> Option<Result<u64, ClientError>> {
        if self.subscription_id != known.subscription_id {
            return None;
        }
        if known.version < self.version {
            return Some(Ok(self.version));
        }
        let failure = self.failure.clone()?;
        Some(Err(ClientError::Server(failure)))
    }
}

/// Makes the one archive in `archives` of an answer in MessagePack; its body.
pub(crate) fn archive<'a>(
    body: &[u8],
    archives: &'a mut FrameBuffer,
) -> Result<&'a [u8], ProtocolError> {
    let malformed = ProtocolError::Answer(WireError::Malformed);
    let answer = decode_response(body).map_err(|_refused| malformed)?;
    archives.clear();
    encode_response(&answer, 0, archives).map_err(|_too_large| malformed)?;
    let frame = parse_frame(archives).map_err(ProtocolError::Frame)?;
    Ok(frame.map(|frame| frame.body).unwrap_or_default())
}

impl Connection {
    /// Greets the server at the other end of `stream`.
    pub(crate) fn greet(
        stream: Arc<UnixStream>,
        hello: &Hello,
        silence_max: Option<Duration>,
    ) -> Result<(Self, HelloReply), Fault> {
        let greeting_max = silence_max.unwrap_or(GREETING_MAX).min(GREETING_MAX);
        let mut connection = Self {
            stream,
            incoming: Incoming::new(),
            silence_max: None,
            encoding: Encoding::default(),
            push: Push::default(),
        };
        connection.bear_silence(Some(greeting_max))?;
        let mut frame = FrameBuffer::new();
        hello.encode(&mut frame).map_err(ProtocolError::Greeting)?;
        let mut progress = Progress::default();
        while progress.sent_len_bytes < frame.len() {
            if let Err(fault) = connection.send_some(&frame, &mut progress) {
                return Err(connection.last_word().unwrap_or(fault));
            }
            if progress.sent_len_bytes < frame.len() {
                connection.wait_for_either()?;
            }
        }
        loop {
            if let Some(frame) = connection
                .incoming
                .next_frame()
                .map_err(ProtocolError::Frame)?
            {
                return match frame.header.kind {
                    FrameKind::HelloReply => {
                        let reply = HelloReply::decode(frame.body).map_err(ProtocolError::from)?;
                        connection.bear_silence(silence_max)?;
                        connection.encoding =
                            Encoding::from_wire(reply.encoding).unwrap_or_default();
                        Ok((connection, reply))
                    }
                    kind => Err(unexpected(kind, frame.body)),
                };
            }
            connection.receive()?;
        }
    }

    /// Why the server closed before it was greeted, if it said so.
    fn last_word(&mut self) -> Option<Fault> {
        loop {
            match self.incoming.next_frame() {
                Ok(Some(frame)) => return Some(unexpected(frame.header.kind, frame.body)),
                Ok(None) => self.receive().ok()?,
                Err(_) => return None,
            }
        }
    }

    /// The socket, and what has come over it and was not read.
    pub(crate) fn into_parts(self) -> (Arc<UnixStream>, Incoming) {
        (self.stream, self.incoming)
    }

    /// The socket, to end what waits for it.
    pub(crate) const fn socket(&self) -> &Arc<UnixStream> {
        &self.stream
    }

    fn bear_silence(&mut self, silence_max: Option<Duration>) -> Result<(), Fault> {
        self.silence_max = silence_max;
        let set = self.stream.set_read_timeout(silence_max);
        set.map_err(Fault::Broken)
    }

    /// Sends the requests and hands the body of each answer, aligned, to `read`, with the position
    /// of its request. Answers may come in any order; `read` refuses a second one.
    pub(crate) fn exchange(
        &mut self,
        outgoing: Outgoing<'_>,
        window: usize,
        progress: &mut Progress,
        read: Reader<'_>,
    ) -> Result<(), Fault> {
        let mut can_send = true;
        while progress.answered_count < outgoing.ends.len() {
            let allowed = progress.allowed_count(&outgoing, window);
            let allowed_end = outgoing.ends.get(allowed - 1).copied().unwrap_or_default();
            if can_send && progress.sent_len_bytes < allowed_end {
                let frames = outgoing.frames.get(..allowed_end).unwrap_or_default();
                match self.send_some(frames, progress) {
                    // What was answered before the socket broke is still there to be read.
                    Err(Fault::Broken(_)) => can_send = false,
                    other => other?,
                }
            }
            if self.take_answers(outgoing, progress, read)? {
                continue;
            }
            let must_send = can_send && progress.sent_len_bytes < allowed_end;
            if !must_send || self.wait_for_either()? {
                self.receive()?;
            }
        }
        Ok(())
    }

    /// Takes the answers that have come; whether there were any.
    fn take_answers(
        &mut self,
        outgoing: Outgoing<'_>,
        progress: &mut Progress,
        read: Reader<'_>,
    ) -> Result<bool, Fault> {
        let answered_before = progress.answered_count;
        while let Some(frame) = self.incoming.next_frame().map_err(ProtocolError::Frame)? {
            if frame.header.kind == FrameKind::Push {
                self.push.take_in(&frame, self.encoding)?;
                continue;
            }
            if frame.header.kind != FrameKind::Response {
                return Err(unexpected(frame.header.kind, frame.body));
            }
            let request_id = frame.header.request_id;
            let position = request_id
                .checked_sub(outgoing.request_id_first)
                .and_then(|position| usize::try_from(position).ok())
                .filter(|position| progress.was_sent(&outgoing, *position))
                .ok_or(ProtocolError::UnknownRequest(request_id))?;
            read(position, frame.body)?;
            progress.answered(&outgoing, position);
        }
        Ok(answered_before < progress.answered_count)
    }

    /// What pushes say beyond what is known, waiting for one for at most `within`.
    pub(crate) fn news(
        &mut self,
        known: Known,
        within: Duration,
    ) -> Result<Option<Result<u64, ClientError>>, Fault> {
        // The kernel counts the time: a signal does not begin it anew.
        let timer = (!within.is_zero()).then(|| timer(within)).transpose()?;
        let mut is_over = timer.is_none();
        loop {
            while let Some(frame) = self.incoming.next_frame().map_err(ProtocolError::Frame)? {
                if frame.header.kind != FrameKind::Push {
                    return Err(unexpected(frame.header.kind, frame.body));
                }
                self.push.take_in(&frame, self.encoding)?;
            }
            is_over |= self.push.news(known).is_some();
            let timeout = is_over.then_some(Timespec::default());
            let mut either = [
                PollFd::new(&self.stream, PollFlags::IN),
                // Without a timer, the socket once more.
                timer.as_ref().map_or_else(
                    || PollFd::new(&self.stream, PollFlags::empty()),
                    |timer| PollFd::new(timer, PollFlags::IN),
                ),
            ];
            match poll(&mut either, timeout.as_ref()) {
                Ok(0) => return Ok(self.push.news(known)),
                Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(Fault::Broken(errno.into())),
            }
            let [socket, clock] = either.map(|fd| !fd.revents().is_empty());
            if socket {
                self.receive()?;
            } else {
                is_over |= clock;
            }
        }
    }

    /// Sends what the kernel takes now.
    fn send_some(&self, frames: &[u8], progress: &mut Progress) -> Result<(), Fault> {
        let rest = frames.get(progress.sent_len_bytes..).unwrap_or_default();
        match send(
            &*self.stream,
            rest,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Ok(len) => progress.sent_len_bytes += len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(errno) if progress.sent_len_bytes == 0 => return Err(Fault::NotSent(errno.into())),
            Err(errno) => return Err(Fault::Broken(errno.into())),
        }
        Ok(())
    }

    /// Waits until something can be sent or received; whether something can be received.
    fn wait_for_either(&self) -> Result<bool, Fault> {
        let mut either = [PollFd::new(&*self.stream, PollFlags::IN | PollFlags::OUT)];
        let timeout = self
            .silence_max
            .and_then(|silence| Timespec::try_from(silence).ok());
        match poll(&mut either, timeout.as_ref()) {
            Ok(0) => Err(Fault::Silence(self.silence_max.unwrap_or_default())),
            Ok(_) => Ok(either.iter().any(|fd| fd.revents() != PollFlags::OUT)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Fault::Broken(errno.into())),
        }
    }

    /// Waits for bytes.
    fn receive(&mut self) -> Result<(), Fault> {
        match self.incoming.receive(&mut &*self.stream) {
            Ok(0) => Err(Fault::Ended),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => {
                Err(Fault::Silence(self.silence_max.unwrap_or_default()))
            }
            Err(error) => Err(Fault::Broken(error)),
        }
    }
}

/// A descriptor that is readable after this time.
fn timer(after: Duration) -> Result<OwnedFd, Fault> {
    let failed = |errno: rustix::io::Errno| Fault::Broken(errno.into());
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).map_err(failed)?;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        // More than the kernel can count is for ever.
        it_value: Timespec::try_from(after).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        }),
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).map_err(failed)?;
    Ok(timer)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The fault that a frame is which is not what was waited for.
pub(crate) fn unexpected(kind: FrameKind, body: &[u8]) -> Fault {
    if kind != FrameKind::Close {
        return ProtocolError::OutOfTurn(kind).into();
    }
    match Close::decode(body) {
        Ok(close) => Fault::Closed(close),
        Err(error) => ProtocolError::Greeting(error).into(),
    }
}

impl Fault {
    /// Whether trying to connect again can help.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Broken(_) | Self::Ended => true,
            Self::Closed(close) => {
                matches!(close.reason, CloseReason::Draining | CloseReason::Goodbye)
            }
            Self::Silence(_) | Self::GivenUp | Self::Protocol(_) => false,
        }
    }
}
