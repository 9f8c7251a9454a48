//! The wire of in-mem: what clients and the daemon say to each other.
//!
//! Owns the frame, the hello, the close notice, the requests, the responses and the table of
//! operation names. Promises that reading what a peer sent never panics, never reads past the
//! bytes given and allocates nothing before a length was checked; that encoding into a warm
//! buffer allocates nothing for operations on one key. It refuses to know sockets, threads,
//! clocks and storage: every function here is a pure function of its arguments.
//!
//! A peer reads a frame in place: [`frame::parse_header`], then [`codec::access_request`] or
//! [`codec::access_response`] on the body. It writes one with [`codec::encode_request`] or
//! [`codec::encode_response`]. In a session that agreed on it, [`message_pack`] takes the place of
//! [`codec`]: the same messages for clients in other languages.

pub mod bytes;
pub mod close;
pub mod codec;
pub mod convert;
pub mod encoding;
pub mod fields;
pub mod frame;
pub mod hello;
pub mod message_pack;
pub mod once;
pub mod operation;
pub mod request;
pub mod response;

#[cfg(test)]
mod tests;

pub use bytes::{Bytes, Text};
pub use codec::FrameBuffer;
pub use encoding::Encoding;
pub use operation::OperationKind;
pub use request::{ArchivedRequest, Operation, Request, RequestHeader};
pub use response::{ArchivedResponse, Response};
