//! The requests and responses once more, as MessagePack: for clients in languages without rkyv.
//!
//! Chosen in the hello ([`crate::hello::Encoding`]); frames, their header, their padding, the
//! greetings and the close are the same. A body is one map with str keys, in any order, each once:
//!
//! ```text
//! request                                    response
//! "op"                  str, the wire name   "ok"      bool
//! "params"              map, see request.rs  "kind"    str  \ if ok: which result, and the result
//! "run"                 bin of 16 bytes      "result"  any  / where its kind has one
//! "durability"          str                  "error"   map: if not ok
//! "txn_id"              u64
//! "client_sequence"     u64
//! "client_sequence_lag" u16
//! "deadline_us"         u32
//! ```
//!
//! In a request only "op" must be there. What is optional is left out; nil never stands for
//! nothing, because nil is the value Null. Operations without parameters have no "params", or an
//! empty map.
//!
//! - Integers may come in any MessagePack form that holds them; we write the shortest. Versions,
//!   times, counts and ids of transactions are u64. Below 2^63 they are what every language calls
//!   int64, and the server makes no larger ones; above, they take the form uint 64, so that what a
//!   client sent comes back as it was.
//! - User keys are str; bin is read too, and written where a key is not UTF-8. Cursors and run ids
//!   are bin. Enums are their names.
//! - A value stands in its map as the MessagePack item it is, not wrapped in bin: a client packs
//!   and unpacks a whole body in one call. It stays opaque: its bytes are passed over here, and
//!   checked, stored, logged and returned as they came.
//!
//! A body is valid if and only if it is exactly one item (all lengths inside it, nothing behind
//! it) and that item is a message of this form. The first failing is [`MessageError::Malformed`]:
//! the peer cannot be trusted with another frame. The second alone is [`MessageError::Refused`] and
//! names the key at fault: the frame was whole, so only its request is refused. Keys that are not
//! known, that repeat or that are missing are refused, never guessed. Nothing is allocated for a
//! length before the bytes are there; reading is bounded by the body, and by the nesting of the
//! message types: values of any depth are passed over without recursion.

mod form;
mod observe;
mod reader;
mod request;
mod response;
mod retention;
mod writer;

use crate::bytes::Text;
use crate::codec::{self, EncodeError, FrameBuffer, Ids};
use crate::frame::{BODY_LEN_BYTES_MAX, FrameKind};
use crate::request::Request;
use crate::response::Response;
use reader::Reader;
use writer::Writer;

/// Most items of one list. An item takes up to 90 bytes of memory once it is read, and as little
/// as one in the frame: this bounds a list at 90 MiB, 1.4 times the largest frame. Ten times the
/// most mutations of a transaction.
pub const LIST_COUNT_MAX: u32 = 1 << 20;

const _: () =
    assert!(in_mem_model::limits::TRANSACTION_MUTATION_COUNT_MAX < LIST_COUNT_MAX as usize);

/// Why a body is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not one item of MessagePack. The peer that sent it cannot be trusted with another.
    #[error("body is not valid MessagePack at offset {offset}")]
    Malformed {
        /// Where it stops being valid, bytes from the start of the body.
        offset: usize,
    },
    /// It is, and says something else than a message.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a valid item is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such operation.
    #[error("operation {name:?} is unknown")]
    UnknownOperation {
        /// Its name, clipped.
        name: String,
    },
    /// A map has a key it does not know.
    #[error("key {key:?} is unknown")]
    UnknownKey {
        /// The key, clipped.
        key: String,
    },
    /// A map has a key twice.
    #[error("key {key:?} is there twice")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// A map lacks a key.
    #[error("key {key:?} is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A map has a key that is not text.
    #[error("a key of a map is not a str of UTF-8")]
    KeyNotText,
    /// A field is of the wrong type or out of its range.
    #[error("{key:?} has to be {expected}")]
    WrongType {
        /// The key of the field; "body" for the whole.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field names something that does not exist.
    #[error("{key:?} cannot be {name:?}")]
    UnknownName {
        /// The key of the field.
        key: &'static str,
        /// The name, clipped.
        name: String,
    },
    /// A list is too long.
    #[error("{key:?} has {count} items, more than {max}")]
    TooMany {
        /// The key of the field.
        key: &'static str,
        /// How many it announces.
        count: u32,
        /// The limit.
        max: u32,
    },
}

use MessageError as Fault;

impl MessageError {
    /// Names the field a refusal lies in, unless a field further inside did.
    fn in_field(mut self, field: &'static str) -> Self {
        if let Self::Refused(
            Refusal::WrongType { key, .. }
            | Refusal::UnknownName { key, .. }
            | Refusal::TooMany { key, .. },
        ) = &mut self
            && key.is_empty()
        {
            *key = field;
        }
        self
    }
}

impl Refusal {
    /// The key at fault, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownOperation { .. } => Some("op"),
            Self::UnknownKey { key } => Some(key),
            Self::DuplicateKey { key }
            | Self::MissingKey { key }
            | Self::WrongType { key, .. }
            | Self::UnknownName { key, .. }
            | Self::TooMany { key, .. } => Some(key),
            Self::KeyNotText => None,
        }
    }
}

/// Appends a request as one frame. The buffer must hold whole frames or nothing, and every value
/// must be one item of MessagePack, as the encoding of values makes them.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
pub fn encode_request(
    request: &Request<'_>,
    request_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        FrameKind::Request,
        Ids::of_request(request_id),
        buffer,
        |out| {
            request::write(request, out);
        },
    )
}

/// Appends a response as one frame. The buffer must hold whole frames or nothing, and every value
/// must be one item of MessagePack, as the encoding of values makes them.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
pub fn encode_response(
    response: &Response<'_>,
    request_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        FrameKind::Response,
        Ids::of_request(request_id),
        buffer,
        |out| {
            response::write(response, out);
        },
    )
}

/// Appends a push as one frame; its body is a response, read with [`decode_response`]. The buffer
/// must hold whole frames or nothing.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
pub fn encode_push(
    response: &Response<'_>,
    subscription_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        FrameKind::Push,
        Ids::of_push(subscription_id),
        buffer,
        |out| {
            response::write(response, out);
        },
    )
}

/// Reads the body of a request; keys and values stay where they are.
///
/// # Errors
///
/// The body is not valid MessagePack, or no request.
pub fn decode_request(body: &[u8]) -> Result<Request<'_>, MessageError> {
    decode(body, request::read)
}

/// Reads the body of a response; keys and values stay where they are.
///
/// # Errors
///
/// The body is not valid MessagePack, or no response.
pub fn decode_response(body: &[u8]) -> Result<Response<'_>, MessageError> {
    decode(body, response::read)
}

fn encode(
    kind: FrameKind,
    ids: Ids,
    buffer: &mut FrameBuffer,
    write: impl FnOnce(&mut Writer<'_>),
) -> Result<(), EncodeError> {
    let start = codec::begin_frame(buffer);
    let mut out = Writer::new(buffer, BODY_LEN_BYTES_MAX as usize);
    write(&mut out);
    let is_written = !out.is_too_large();
    codec::end_frame(start, kind, ids, is_written, buffer)
}

fn decode<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<T, MessageError> {
    let mut input = Reader::new(body);
    let message = read(&mut input).map_err(|fault| fault.in_field("body"));
    match message {
        Ok(message) if input.rest_len_bytes() == 0 => Ok(message),
        // Bytes behind the item.
        Ok(_) => Err(Fault::Malformed {
            offset: body.len() - input.rest_len_bytes(),
        }),
        Err(malformed @ Fault::Malformed { .. }) => Err(malformed),
        // A refusal ends the reading early: what was not looked at may be no MessagePack at all.
        Err(refused) => Err(check_one_item(body).err().unwrap_or(refused)),
    }
}

fn check_one_item(body: &[u8]) -> Result<(), MessageError> {
    let mut input = Reader::new(body);
    input.skip()?;
    match input.rest_len_bytes() {
        0 => Ok(()),
        rest => Err(Fault::Malformed {
            offset: body.len() - rest,
        }),
    }
}

/// Text of this program.
const fn label(text: &'static str) -> Text<'static> {
    Text(std::borrow::Cow::Borrowed(text))
}
