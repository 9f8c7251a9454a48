//! What can go wrong for a caller, and what the caller may do about it.
//!
//! Whatever went wrong, there is one body with a stable class, a sub-code, the outcome of a write
//! and whether trying again can help: that of the server if it answered, else one made here. The
//! variant says where it went wrong.

use std::io;

use in_mem_ipc::close::{Close, CloseReason};
use in_mem_ipc::codec::EncodeError;
use in_mem_ipc::hello::{Hello, HelloRun};
use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::response::Response;
use in_mem_model::{Error, ErrorClass, Outcome, Retry, SerdeError, SubCode, Version};

use crate::answer::Answer;
use crate::connection::{Fault, ProtocolError};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with this error.
    #[error("{0}")]
    Server(Box<Error>),
    /// There is no server behind the socket. Nothing was sent.
    #[error("{body}")]
    Unreachable {
        /// The error.
        body: Box<Error>,
        /// Why there was no connection.
        source: io::Error,
    },
    /// The connection was lost, or the server did not answer in time. For a write, the outcome of
    /// the body says whether it may have happened.
    #[error("{body}")]
    ConnectionLost {
        /// The error.
        body: Box<Error>,
        /// What the system said, if it did.
        source: Option<io::Error>,
    },
    /// The server does not want this client: not permitted, too many, no such run.
    #[error("{0}")]
    Rejected(Box<Error>),
    /// The two sides do not understand each other.
    #[error("{body}")]
    Protocol {
        /// The error.
        body: Box<Error>,
        /// What was not understood, if bytes came that were not.
        source: Option<ProtocolError>,
    },
    /// A value of the caller has no encoding, or one of the server is not of the caller's type.
    #[error("{body}")]
    Value {
        /// The error.
        body: Box<Error>,
        /// Why.
        source: SerdeError,
    },
    /// Refused on this side. Nothing was sent.
    #[error("{0}")]
    Refused(Box<Error>),
}

impl ClientError {
    /// The error itself.
    #[must_use]
    pub const fn body(&self) -> &Error {
        match self {
            Self::Server(body)
            | Self::Rejected(body)
            | Self::Refused(body)
            | Self::Unreachable { body, .. }
            | Self::ConnectionLost { body, .. }
            | Self::Protocol { body, .. }
            | Self::Value { body, .. } => body,
        }
    }

    /// The error itself, owned.
    #[must_use]
    pub fn into_body(self) -> Error {
        match self {
            Self::Server(body)
            | Self::Rejected(body)
            | Self::Refused(body)
            | Self::Unreachable { body, .. }
            | Self::ConnectionLost { body, .. }
            | Self::Protocol { body, .. }
            | Self::Value { body, .. } => *body,
        }
    }

    const fn body_mut(&mut self) -> &mut Error {
        match self {
            Self::Server(body)
            | Self::Rejected(body)
            | Self::Refused(body)
            | Self::Unreachable { body, .. }
            | Self::ConnectionLost { body, .. }
            | Self::Protocol { body, .. }
            | Self::Value { body, .. } => body,
        }
    }

    /// The class of the error.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.body().class
    }

    /// What exactly went wrong, if the class leaves it open.
    #[must_use]
    pub const fn sub(&self) -> Option<SubCode> {
        self.body().sub
    }

    /// Of a write: whether it may have happened.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        self.body().outcome
    }

    /// Whether something changed in between, so that reading again and retrying may help.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.class() == ErrorClass::Conflict
    }

    /// Whether the server looked at the request before it answered so: then the answer holds for
    /// every attempt of it, else for this one alone.
    pub(crate) fn is_decisive(&self) -> bool {
        let looked = !matches!(
            self.class(),
            ErrorClass::StorageError | ErrorClass::InternalError
        );
        looked || self.sub() == Some(SubCode::SessionExpired)
    }

    /// Whether the transaction of the request is not known to the server.
    pub(crate) fn is_not_active(&self) -> bool {
        self.sub() == Some(SubCode::TransactionNotActive)
    }

    /// Whether a transaction that ended so certainly did not commit, and may in another attempt.
    pub(crate) fn is_worth_another_transaction(&self) -> bool {
        let is_lost = matches!(self, Self::ConnectionLost { .. });
        self.is_conflict() || (is_lost && self.outcome() == Some(Outcome::NotCommitted))
    }
}

/// The error an answer of the server is.
pub(crate) fn from_server(answer: &Answer) -> ClientError {
    match Response::from_archived(answer) {
        Ok(Response::Error(body)) => match Error::try_from(body) {
            Ok(body) => ClientError::Server(Box::new(body)),
            Err(unknown) => protocol(unknown.to_string(), None),
        },
        Ok(_) => wrong_shape(),
        Err(error) => bad_answer(error.into()),
    }
}

/// The answer does not belong to the request.
pub(crate) fn wrong_shape() -> ClientError {
    protocol(
        "the server sent an answer of another kind than asked for",
        None,
    )
}

/// The answer cannot be read.
pub(crate) fn bad_answer(error: ProtocolError) -> ClientError {
    protocol(error.to_string(), Some(error))
}

/// An exchange ended without an answer and without a fault.
pub(crate) fn unanswered(kind: OperationKind) -> ClientError {
    protocol(format!("{} was not answered", kind.name()), None)
}

/// No server.
pub(crate) fn unreachable(source: io::Error) -> ClientError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        let message = "this user may not connect to the socket of the daemon";
        let body =
            Error::new(SubCode::PermissionDenied, message).with_outcome(Outcome::NotCommitted);
        return ClientError::Unreachable {
            body: Box::new(body),
            source,
        };
    }
    let message = format!("no daemon answers at the socket: {source}");
    let body = Error::new(SubCode::ConnectionRefused, message).with_outcome(Outcome::NotCommitted);
    ClientError::Unreachable {
        body: Box::new(body),
        source,
    }
}

/// A connection that did not get past the greeting.
pub(crate) fn not_greeted(fault: Fault, hello: &Hello) -> ClientError {
    match fault {
        Fault::Closed(close) => rejected(&close, hello),
        Fault::Protocol(error) => bad_answer(error),
        Fault::NotSent(source) | Fault::Broken(source) => unreachable(source),
        Fault::Ended => unreachable(io::ErrorKind::UnexpectedEof.into()),
        Fault::GivenUp => cancelled(),
        Fault::Silence(_) => {
            let body =
                Error::new(SubCode::Timeout, fault.to_string()).with_outcome(Outcome::NotCommitted);
            ClientError::ConnectionLost {
                body: Box::new(body),
                source: None,
            }
        }
    }
}

/// The server closed the connection instead of greeting.
fn rejected(close: &Close, hello: &Hello) -> ClientError {
    let sub = match close.reason {
        CloseReason::ProtocolMismatch | CloseReason::Malformed => {
            let message = format!(
                "{}; the server speaks protocol {} to {}, this client {} to {}",
                close.message,
                close.version_min,
                close.version_max,
                hello.version_min,
                hello.version_max
            );
            let body = Error::new(SubCode::ProtocolMismatch, message);
            return ClientError::Protocol {
                body: Box::new(body),
                source: None,
            };
        }
        CloseReason::PermissionDenied => SubCode::PermissionDenied,
        CloseReason::LimitExceeded => SubCode::ResourceExhausted,
        CloseReason::Draining | CloseReason::Goodbye => SubCode::Unavailable,
        CloseReason::Refused if hello.run != HelloRun::Default => SubCode::RunNotFound,
        CloseReason::Refused | CloseReason::Other(_) => SubCode::InvalidArgument,
    };
    let body = Error::new(sub, close.message.clone()).with_outcome(Outcome::NotCommitted);
    ClientError::Rejected(Box::new(body))
}

/// A request lost its connection before its answer came.
pub(crate) fn lost(
    fault: Fault,
    kind: OperationKind,
    was_sent: bool,
    in_transaction: bool,
) -> ClientError {
    // Only a commit outlives its connection; an open transaction is rolled back with it.
    let may_commit = kind.is_write() && (!in_transaction || kind == OperationKind::TxnCommit);
    let outcome = match (may_commit && was_sent, kind.is_write()) {
        (true, _) => Some(Outcome::OutcomeUnknown),
        (false, true) => Some(Outcome::NotCommitted),
        (false, false) => None,
    };
    let (sub, source) = match fault {
        Fault::Protocol(error) => {
            let mut body = Error::new(SubCode::ProtocolViolation, error.to_string());
            body.outcome = outcome;
            return ClientError::Protocol {
                body: Box::new(body),
                source: Some(error),
            };
        }
        Fault::Silence(_) => (SubCode::Timeout, None),
        Fault::GivenUp => (SubCode::Cancelled, None),
        Fault::NotSent(_) | Fault::Broken(_) | Fault::Ended | Fault::Closed(_) => {
            (SubCode::ConnectionLost, None)
        }
    };
    let message = format!("{} got no answer: {fault}", kind.name());
    let mut body = Error::new(sub, message).with_detail("operation", kind.name());
    body.outcome = outcome;
    if outcome != Some(Outcome::OutcomeUnknown) {
        body.retry = Retry::Yes;
    }
    let source = match fault {
        Fault::NotSent(error) | Fault::Broken(error) => Some(error),
        _ => source,
    };
    ClientError::ConnectionLost {
        body: Box::new(body),
        source,
    }
}

/// The server had forgotten the client before it got the request, which was sent once only.
pub(crate) fn never_executed(kind: OperationKind, error: &ClientError) -> ClientError {
    let message = format!("{} was not executed: {error}", kind.name());
    let body = Error::new(SubCode::ConnectionLost, message)
        .with_outcome(Outcome::NotCommitted)
        .with_retry(Retry::Yes);
    ClientError::ConnectionLost {
        body: Box::new(body),
        source: None,
    }
}

/// The same, of a write that was sent before: what kept this attempt from an answer says nothing of
/// the earlier one.
pub(crate) fn in_doubt(mut error: ClientError) -> ClientError {
    let body = error.body_mut();
    if body.outcome != Some(Outcome::OutcomeUnknown) {
        body.message
            .push_str("; an earlier attempt of the write may have been committed");
    }
    body.outcome = Some(Outcome::OutcomeUnknown);
    body.retry = Retry::IfNotCommitted;
    error
}

/// What came for a write cannot be read: whether it was committed, nobody here knows.
pub(crate) fn unread(mut error: ClientError) -> ClientError {
    if matches!(error, ClientError::Protocol { .. }) {
        error.body_mut().outcome = Some(Outcome::OutcomeUnknown);
    }
    error
}

/// A write that may have been committed would be executed a second time.
pub(crate) fn not_remembered(kind: OperationKind) -> ClientError {
    let message = format!(
        "{} is not sent again: this connection does not remember writes",
        kind.name()
    );
    refused(Error::new(SubCode::InvalidArgument, message))
}

/// The sequences of a client only rise, and those of this one are at their end.
pub(crate) fn out_of_sequences() -> ClientError {
    let message = "the client has used the last sequence there is: go on with a new identity";
    refused(Error::new(SubCode::InvalidArgument, message))
}

/// A sequence names one write.
pub(crate) fn second_of_repeat(client_sequence: u64) -> ClientError {
    let message = format!(
        "one write has sequence {client_sequence}: a second one needs another, and so does the \
         same one after its answer"
    );
    refused(
        Error::new(SubCode::InvalidArgument, message)
            .with_detail("client_sequence", client_sequence),
    )
}

/// A transaction is made of several requests, and its id is the server's.
pub(crate) fn transaction_in_repeat(client_sequence: u64) -> ClientError {
    let message = format!(
        "a transaction cannot be the repeat of the write with sequence {client_sequence}: begin it \
         from the client itself"
    );
    refused(
        Error::new(SubCode::InvalidArgument, message)
            .with_detail("client_sequence", client_sequence),
    )
}

/// The write was committed, by a request whose repeat got its receipt alone.
pub(crate) fn answer_not_kept(commit_version: u64) -> ClientError {
    let message = format!(
        "the write was committed at version {commit_version}; its answer was lost, and it was too \
         long for the server to keep"
    );
    let body =
        Error::new(SubCode::BudgetExceeded, message).with_detail("commit_version", commit_version);
    ClientError::Server(Box::new(body))
}

/// The connection a transaction began on is gone, and the transaction with it.
pub(crate) fn unbound() -> ClientError {
    let message = "the connection of the transaction was lost, so it was rolled back";
    let body = Error::new(SubCode::ConnectionLost, message).with_outcome(Outcome::NotCommitted);
    ClientError::ConnectionLost {
        body: Box::new(body),
        source: None,
    }
}

/// The caller has given up before anything was sent.
pub(crate) fn cancelled() -> ClientError {
    let message = "given up before it was sent";
    refused(Error::new(SubCode::Cancelled, message))
}

/// A request is larger than frames may be.
pub(crate) fn too_large(kind: OperationKind, error: EncodeError) -> ClientError {
    let EncodeError::TooLarge { max } = error;
    refused(
        Error::new(SubCode::ValueTooLarge, format!("{}: {error}", kind.name()))
            .with_detail("limit_bytes", u64::from(max)),
    )
}

/// A volatile write is in no log.
pub(crate) fn volatile(version: u64) -> ClientError {
    let message = "a write was made in memory only: it is never durable";
    ClientError::Refused(Box::new(
        Error::new(SubCode::NotLogged, message).with_detail("version", Version::Txn(version)),
    ))
}

/// A write of a pipeline has no answer to fence.
pub(crate) fn unfenced(position: usize) -> ClientError {
    let message = format!(
        "request {position} of the pipeline is a write without an answer: there is nothing to \
         fence; its ticket says why"
    );
    let body = Error::new(SubCode::ConnectionLost, message).with_outcome(Outcome::OutcomeUnknown);
    ClientError::ConnectionLost {
        body: Box::new(body),
        source: None,
    }
}

/// A subscription has lost its connection.
pub(crate) fn unsubscribed(fault: Option<Fault>) -> ClientError {
    let message = match &fault {
        Some(fault) => format!("the subscription is lost: {fault}"),
        None => "the connection of the subscription was lost".to_owned(),
    };
    let source = match fault {
        Some(Fault::NotSent(source) | Fault::Broken(source)) => Some(source),
        _ => None,
    };
    ClientError::ConnectionLost {
        body: Box::new(Error::new(SubCode::ConnectionLost, message).with_retry(Retry::Yes)),
        source,
    }
}

/// A pipeline takes no more.
pub(crate) fn pipeline_full() -> ClientError {
    let message = "the pipeline is full: send it and go on with another";
    refused(Error::new(SubCode::ResourceExhausted, message).with_retry(Retry::Yes))
}

/// There is no run of this name or id.
pub(crate) fn run_not_found(name_or_id: &str) -> ClientError {
    let message = format!("no run {name_or_id:?}; `inmem run begin {name_or_id}` begins it");
    let body = Error::new(SubCode::RunNotFound, message).with_detail("run", name_or_id);
    ClientError::Server(Box::new(body))
}

/// A number has no negative.
pub(crate) fn overflow(operation: &str, value: i64) -> ClientError {
    let message = format!("{operation} of {value} is out of range");
    refused(
        Error::of_class(ErrorClass::Overflow, message)
            .with_detail("operation", operation)
            .with_detail("value", value.to_string()),
    )
}

/// A value of the caller has no encoding.
pub(crate) fn bad_value(source: SerdeError) -> ClientError {
    let body = match source {
        SerdeError::Value(ref error) => Error::from(error.clone()),
        _ => Error::of_class(ErrorClass::SerializationError, source.to_string())
            .with_detail("what", "value"),
    };
    let body = Box::new(body.with_outcome(Outcome::NotCommitted));
    ClientError::Value { body, source }
}

/// A value of the server is not of the caller's type.
pub(crate) fn wrong_type(source: SerdeError) -> ClientError {
    let body = Box::new(Error::of_class(ErrorClass::WrongType, source.to_string()));
    ClientError::Value { body, source }
}

fn refused(body: Error) -> ClientError {
    ClientError::Refused(Box::new(body.with_outcome(Outcome::NotCommitted)))
}

fn protocol(message: impl Into<String>, source: Option<ProtocolError>) -> ClientError {
    let body = Box::new(Error::new(SubCode::ProtocolViolation, message));
    ClientError::Protocol { body, source }
}
