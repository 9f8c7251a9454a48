//! Encoding messages into frames, and reading them where they lie.
//!
//! Encoding appends one whole frame to a buffer the caller keeps; into a warm buffer, messages
//! on one key allocate nothing. Reading is checked access only: the bytes come from another
//! process. No shared pointers and no recursive types exist on this wire, so the check is one
//! pass bounded by the body.

use std::mem::MaybeUninit;

use rkyv::api::low::{self, LowSerializer, LowValidator};
use rkyv::api::serialize_using;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::{ArenaHandle, SubAllocator};
use rkyv::ser::{Allocator, Positional, Serializer, Writer};
use rkyv::util::{AlignedVec, with_arena};
use rkyv::{Portable, Serialize};

use crate::frame::{
    BODY_LEN_BYTES_MAX, FRAME_ALIGN_BYTES, FRAME_LEN_BYTES_MAX, FrameKind, HEADER_LEN_BYTES, Header,
};
use crate::request::{ArchivedRequest, Request};
use crate::response::{ArchivedResponse, Response};

/// Size of the scratch space on the stack that resolves lists, bytes. Longer lists than about 30
/// entries are encoded again with the arena of the thread, which costs 30 ns and may allocate.
const SCRATCH_LEN_BYTES: usize = 512;

/// Room made at once for a frame, bytes: enough for one key and a small value.
const FRAME_RESERVE_BYTES: usize = 256;

/// A body ends with its root, so its length is a multiple of this, bytes.
const ARCHIVE_ALIGN_BYTES: usize = 8;

/// What a frame is filled up with.
const PADDING: [u8; FRAME_ALIGN_BYTES as usize] = [0; FRAME_ALIGN_BYTES as usize];

const _: () = assert!(align_of::<ArchivedRequest<'static>>() == ARCHIVE_ALIGN_BYTES);
const _: () = assert!(align_of::<ArchivedResponse<'static>>() == ARCHIVE_ALIGN_BYTES);

/// A byte buffer whose start is aligned for frames.
pub type FrameBuffer = AlignedVec<16>;

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The body does not begin at a multiple of 16. Copy it to where it does.
    #[error("body is not aligned to {FRAME_ALIGN_BYTES} bytes")]
    Misaligned,
    /// The body is no valid archive. The peer that sent it cannot be trusted with another.
    #[error("body is not a valid archive")]
    Malformed,
}

/// Why a message cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame would be larger than frames may be. The buffer is as it was.
    #[error("message exceeds the largest frame of {max} bytes")]
    TooLarge {
        /// The limit, bytes.
        max: u32,
    },
}

/// Appends a request as one frame. The buffer must hold whole frames or nothing.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
#[inline]
pub fn encode_request(
    request: &Request<'_>,
    request_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        request,
        FrameKind::Request,
        Ids::of_request(request_id),
        buffer,
    )
}

/// Appends a response as one frame. The buffer must hold whole frames or nothing.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
#[inline]
pub fn encode_response(
    response: &Response<'_>,
    request_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        response,
        FrameKind::Response,
        Ids::of_request(request_id),
        buffer,
    )
}

/// Appends a push as one frame; its body is a response, read with [`access_response`]. The buffer
/// must hold whole frames or nothing.
///
/// # Errors
///
/// The frame would be too large; the buffer is as it was.
#[inline]
pub fn encode_push(
    response: &Response<'_>,
    subscription_id: u64,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    encode(
        response,
        FrameKind::Push,
        Ids::of_push(subscription_id),
        buffer,
    )
}

/// Reads the body of a request in place.
///
/// # Errors
///
/// The body is misaligned or no valid archive.
#[inline]
pub fn access_request(body: &[u8]) -> Result<&ArchivedRequest<'static>, WireError> {
    access(body)
}

/// Reads the body of a response in place.
///
/// # Errors
///
/// The body is misaligned or no valid archive.
#[inline]
pub fn access_response(body: &[u8]) -> Result<&ArchivedResponse<'static>, WireError> {
    access(body)
}

impl Request<'static> {
    /// Copies a request out of its archive.
    ///
    /// # Errors
    ///
    /// The archive holds a length this process cannot allocate.
    pub fn from_archived(archived: &ArchivedRequest<'static>) -> Result<Self, WireError> {
        low::deserialize::<Self, Failure>(archived).map_err(|Failure| WireError::Malformed)
    }
}

impl Response<'static> {
    /// Copies a response out of its archive.
    ///
    /// # Errors
    ///
    /// The archive holds a length this process cannot allocate.
    pub fn from_archived(archived: &ArchivedResponse<'static>) -> Result<Self, WireError> {
        low::deserialize::<Self, Failure>(archived).map_err(|Failure| WireError::Malformed)
    }
}

/// Writes behind what a buffer holds, and no further than the largest frame: a message that is
/// too large stops there instead of filling memory first.
struct FrameWriter<'a> {
    buffer: &'a mut FrameBuffer,
    end_max: usize,
}

impl Positional for FrameWriter<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.buffer.len()
    }
}

impl Writer<Failure> for FrameWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.end_max - self.buffer.len() < bytes.len() {
            return Err(Failure);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

/// The ids of a header; each kind of frame uses one of them.
#[derive(Clone, Copy)]
pub(crate) struct Ids {
    request_id: u64,
    subscription_id: u64,
}

impl Ids {
    /// Those of a request or a response.
    pub(crate) const fn of_request(request_id: u64) -> Self {
        Self {
            request_id,
            subscription_id: 0,
        }
    }

    /// Those of a push.
    pub(crate) const fn of_push(subscription_id: u64) -> Self {
        Self {
            request_id: 0,
            subscription_id,
        }
    }
}

type FrameSerializer<'a, A> = LowSerializer<FrameWriter<'a>, A, Failure>;

#[inline]
fn encode<T>(
    message: &T,
    kind: FrameKind,
    ids: Ids,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError>
where
    T: for<'a> Serialize<FrameSerializer<'a, SubAllocator<'a>>>
        + for<'a> Serialize<FrameSerializer<'a, ArenaHandle<'a>>>,
{
    let start = begin_frame(buffer);
    let body_start = buffer.len();
    let mut scratch = [MaybeUninit::uninit(); SCRATCH_LEN_BYTES];
    let mut written = encode_body(message, buffer, SubAllocator::new(&mut scratch));
    if written.is_err() {
        buffer.resize(body_start, 0);
        written = with_arena(|arena| encode_body(message, buffer, arena.acquire()));
    }
    end_frame(start, kind, ids, written.is_ok(), buffer)
}

/// Appends room for the header of a frame; returns where it begins.
#[inline]
pub(crate) fn begin_frame(buffer: &mut FrameBuffer) -> usize {
    let start = buffer.len();
    assert!(
        start.is_multiple_of(FRAME_ALIGN_BYTES as usize),
        "a frame begins at a multiple of 16"
    );
    buffer.reserve(FRAME_RESERVE_BYTES);
    buffer.extend_from_slice(&[0; HEADER_LEN_BYTES]);
    start
}

/// Writes the header of the frame that begins at `start`, and its padding; takes the frame back if
/// its body was not written whole.
#[inline]
pub(crate) fn end_frame(
    start: usize,
    kind: FrameKind,
    ids: Ids,
    is_written: bool,
    buffer: &mut FrameBuffer,
) -> Result<(), EncodeError> {
    if !is_written {
        buffer.resize(start, 0);
        return Err(EncodeError::TooLarge {
            max: FRAME_LEN_BYTES_MAX,
        });
    }
    let body_start = start + HEADER_LEN_BYTES;
    let body_len_bytes = u32::try_from(buffer.len() - body_start).unwrap_or(u32::MAX);
    let header = Header {
        request_id: ids.request_id,
        subscription_id: ids.subscription_id,
        ..Header::new(kind, body_len_bytes)
    };
    if let Some(target) = buffer.get_mut(start..body_start) {
        target.copy_from_slice(&header.encode());
    }
    let padding_len_bytes = header.padding_len_bytes() as usize;
    buffer.extend_from_slice(PADDING.get(..padding_len_bytes).unwrap_or_default());
    Ok(())
}

#[inline]
fn encode_body<'a, T, A>(
    message: &T,
    buffer: &'a mut FrameBuffer,
    allocator: A,
) -> Result<(), Failure>
where
    T: Serialize<FrameSerializer<'a, A>>,
    A: Allocator<Failure>,
{
    let end_max = buffer.len() + BODY_LEN_BYTES_MAX as usize;
    let writer = FrameWriter { buffer, end_max };
    serialize_using(message, &mut Serializer::new(writer, allocator, ())).map(|_position| ())
}

#[inline]
fn access<T>(body: &[u8]) -> Result<&T, WireError>
where
    T: Portable + for<'a> CheckBytes<LowValidator<'a, Failure>>,
{
    if body.len() < size_of::<T>() {
        return Err(WireError::Malformed);
    }
    if !body
        .as_ptr()
        .addr()
        .is_multiple_of(FRAME_ALIGN_BYTES as usize)
    {
        return Err(WireError::Misaligned);
    }
    low::access::<T, Failure>(body).map_err(|Failure| WireError::Malformed)
}
