//! The two encodings of the same messages, and which of them a session speaks.
//!
//! The hello agrees on one; every request and response of the session has it.

use crate::codec::{self, EncodeError, FrameBuffer};
use crate::hello::{ENCODING_MESSAGE_PACK, ENCODING_RKYV};
use crate::message_pack;
use crate::request::Request;
use crate::response::Response;

/// How requests and responses are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// Archives read in place, as [`crate::codec`] makes them: for clients in Rust.
    #[default]
    Rkyv,
    /// Maps, as [`crate::message_pack`] makes them: for clients in any language.
    MessagePack,
}

impl Encoding {
    /// Every encoding, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Rkyv, Self::MessagePack];

    /// The number in the hello.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Rkyv => ENCODING_RKYV,
            Self::MessagePack => ENCODING_MESSAGE_PACK,
        }
    }

    /// The encoding of a number in the hello.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            ENCODING_RKYV => Some(Self::Rkyv),
            ENCODING_MESSAGE_PACK => Some(Self::MessagePack),
            _ => None,
        }
    }

    /// The name in `system.capabilities`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rkyv => "rkyv",
            Self::MessagePack => "message_pack",
        }
    }

    /// Appends a request as one frame. The buffer must hold whole frames or nothing.
    ///
    /// # Errors
    ///
    /// The frame would be too large; the buffer is as it was.
    #[inline]
    pub fn encode_request(
        self,
        request: &Request<'_>,
        request_id: u64,
        buffer: &mut FrameBuffer,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Rkyv => codec::encode_request(request, request_id, buffer),
            Self::MessagePack => message_pack::encode_request(request, request_id, buffer),
        }
    }

    /// Appends a response as one frame. The buffer must hold whole frames or nothing.
    ///
    /// # Errors
    ///
    /// The frame would be too large; the buffer is as it was.
    #[inline]
    pub fn encode_response(
        self,
        response: &Response<'_>,
        request_id: u64,
        buffer: &mut FrameBuffer,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Rkyv => codec::encode_response(response, request_id, buffer),
            Self::MessagePack => message_pack::encode_response(response, request_id, buffer),
        }
    }

    /// Appends a push as one frame; its body is a response. The buffer must hold whole frames or
    /// nothing.
    ///
    /// # Errors
    ///
    /// The frame would be too large; the buffer is as it was.
    pub fn encode_push(
        self,
        response: &Response<'_>,
        subscription_id: u64,
        buffer: &mut FrameBuffer,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Rkyv => codec::encode_push(response, subscription_id, buffer),
            Self::MessagePack => message_pack::encode_push(response, subscription_id, buffer),
        }
    }
}
