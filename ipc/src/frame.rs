//! The frame: a fixed header, a body, zeros up to the next multiple of 16.
//!
//! ```text
//! offset  size  field
//!      0     4  magic, bytes 49 4D 46 52 ("IMFR")
//!      4     2  protocol_version u16
//!      6     1  kind u8: 1 hello, 2 hello reply, 3 request, 4 response, 5 push, 6 close
//!      7     1  flags u8, zero
//!      8     4  body_len_bytes u32, without the padding
//!     12     4  checksum u32, zero: reserved for one agreed in the hello
//!     16     8  request_id u64; zero outside requests and responses
//!     24     8  subscription_id u64; zero outside pushes
//!     32     n  body
//!   32+n  0-15  zeros, so that the next frame and its body begin at a multiple of 16
//! ```
//!
//! All integers are little-endian. A header is valid if and only if the magic matches, the kind
//! is known, the reserved fields and the ids its kind does not use are zero, the whole frame is
//! at most [`FRAME_LEN_BYTES_MAX`], and the version is [`PROTOCOL_VERSION`] or the kind is hello,
//! hello reply or close: their layout is the same in every version, so that two peers that do
//! not understand each other can still say so. The length is checked before a caller can
//! allocate by it. In a buffer that starts at a multiple of 16 every body is aligned for its
//! archive; a body that lies elsewhere is copied once.

use std::mem::size_of;

/// The version of the protocol this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The oldest version of the protocol this build understands.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// Largest frame with header and padding, bytes. Bounds the receive buffer of a connection; a
/// batch of the largest transaction (64 MiB) fits with 1 MiB to spare.
pub const FRAME_LEN_BYTES_MAX: u32 = 65 << 20;

/// Frames and bodies begin at multiples of this, bytes: the largest alignment of an archive.
pub const FRAME_ALIGN_BYTES: u32 = 16;

/// Size of the header, bytes.
pub const HEADER_LEN_BYTES: usize = SUBSCRIPTION_ID_OFFSET + size_of::<u64>();

/// Largest body, bytes.
pub const BODY_LEN_BYTES_MAX: u32 = FRAME_LEN_BYTES_MAX - HEADER_LEN;

/// Largest body of a hello, hello reply or close, bytes. They are read before a peer is trusted
/// with more.
pub const GREETING_LEN_BYTES_MAX: u32 = 16 << 10;

const HEADER_LEN: u32 = 32;

const MAGIC: [u8; 4] = *b"IMFR";

const MAGIC_OFFSET: usize = 0;
const VERSION_OFFSET: usize = MAGIC_OFFSET + size_of::<[u8; 4]>();
const KIND_OFFSET: usize = VERSION_OFFSET + size_of::<u16>();
const FLAGS_OFFSET: usize = KIND_OFFSET + size_of::<u8>();
const BODY_LEN_OFFSET: usize = FLAGS_OFFSET + size_of::<u8>();
const CHECKSUM_OFFSET: usize = BODY_LEN_OFFSET + size_of::<u32>();
const REQUEST_ID_OFFSET: usize = CHECKSUM_OFFSET + size_of::<u32>();
const SUBSCRIPTION_ID_OFFSET: usize = REQUEST_ID_OFFSET + size_of::<u64>();

const _: () = assert!(HEADER_LEN_BYTES == HEADER_LEN as usize);
const _: () = assert!(BODY_LEN_BYTES_MAX.is_multiple_of(FRAME_ALIGN_BYTES));
const _: () = assert!(FRAME_LEN_BYTES_MAX as usize == in_mem_model::limits::FRAME_LEN_BYTES_MAX);
const _: () = assert!(PROTOCOL_VERSION_MIN <= PROTOCOL_VERSION);

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// First frame of a client.
    Hello = 1,
    /// First frame of the server.
    HelloReply = 2,
    /// A request of the client.
    Request = 3,
    /// The answer to a request.
    Response = 4,
    /// Sent by the server unasked, for a subscription. Its body is that of a response.
    Push = 5,
    /// Last frame of either side, with the reason.
    Close = 6,
}

impl FrameKind {
    const fn from_wire(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Hello),
            2 => Some(Self::HelloReply),
            3 => Some(Self::Request),
            4 => Some(Self::Response),
            5 => Some(Self::Push),
            6 => Some(Self::Close),
            _ => None,
        }
    }

    /// Whether its layout is the same in every version of the protocol.
    #[must_use]
    pub const fn is_greeting(self) -> bool {
        matches!(self, Self::Hello | Self::HelloReply | Self::Close)
    }

    /// Largest body of this kind, bytes.
    #[must_use]
    pub const fn body_len_bytes_max(self) -> u32 {
        if self.is_greeting() {
            GREETING_LEN_BYTES_MAX
        } else {
            BODY_LEN_BYTES_MAX
        }
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version of the protocol the sender speaks.
    pub protocol_version: u16,
    /// What the frame carries.
    pub kind: FrameKind,
    /// Size of the body without padding, bytes.
    pub body_len_bytes: u32,
    /// The id a response is matched by; 0 outside requests and responses.
    pub request_id: u64,
    /// The subscription a push belongs to; 0 outside pushes.
    pub subscription_id: u64,
}

/// Why bytes are not a frame. The connection they came from cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes do not begin like a frame.
    #[error("frame does not begin with the magic, but with {found:02x?}")]
    Magic {
        /// What they begin with.
        found: [u8; 4],
    },
    /// The peer speaks a version of the protocol this build does not.
    #[error("protocol version {found} is not supported")]
    Version {
        /// The version of the frame.
        found: u16,
    },
    /// The kind is not known.
    #[error("frame kind {found} is unknown")]
    Kind {
        /// The kind of the frame.
        found: u8,
    },
    /// The body is larger than frames of its kind may be. Nothing was allocated.
    #[error("frame body of {body_len_bytes} bytes exceeds {max} bytes")]
    TooLarge {
        /// The size the header claims, bytes.
        body_len_bytes: u32,
        /// The limit of the kind, bytes.
        max: u32,
    },
    /// A field or padding that has to be zero is not.
    #[error("reserved frame byte at offset {offset} is not zero")]
    Reserved {
        /// Offset of the field from the start of the frame, or of the padding.
        offset: usize,
    },
}

impl Header {
    /// The header of a frame of this kind, without ids.
    #[must_use]
    pub const fn new(kind: FrameKind, body_len_bytes: u32) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            kind,
            body_len_bytes,
            request_id: 0,
            subscription_id: 0,
        }
    }

    /// Size of the padding behind the body, bytes.
    #[must_use]
    pub const fn padding_len_bytes(&self) -> u32 {
        self.body_len_bytes.wrapping_neg() % FRAME_ALIGN_BYTES
    }

    /// Size of the whole frame with header and padding, bytes: where the next frame begins.
    #[must_use]
    pub const fn frame_len_bytes(&self) -> u32 {
        HEADER_LEN + self.body_len_bytes + self.padding_len_bytes()
    }

    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN_BYTES] {
        debug_assert!(self.body_len_bytes <= self.kind.body_len_bytes_max());
        let mut bytes = [0; HEADER_LEN_BYTES];
        put(&mut bytes, MAGIC_OFFSET, MAGIC);
        put(
            &mut bytes,
            VERSION_OFFSET,
            self.protocol_version.to_le_bytes(),
        );
        put(&mut bytes, KIND_OFFSET, [self.kind as u8]);
        put(
            &mut bytes,
            BODY_LEN_OFFSET,
            self.body_len_bytes.to_le_bytes(),
        );
        put(&mut bytes, REQUEST_ID_OFFSET, self.request_id.to_le_bytes());
        put(
            &mut bytes,
            SUBSCRIPTION_ID_OFFSET,
            self.subscription_id.to_le_bytes(),
        );
        bytes
    }
}

/// A whole frame, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// Its body, without padding; aligned if the buffer is.
    pub body: &'a [u8],
}

/// Reads the header of the frame that `buffer` begins with; `None` when fewer bytes are there
/// than a header has. A result says only that the header is valid, not that the body has come.
///
/// # Errors
///
/// The bytes are no frame this build can read, whatever follows them.
#[inline]
pub fn parse_header(buffer: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(bytes) = buffer.first_chunk::<HEADER_LEN_BYTES>() else {
        return Ok(None);
    };
    let found = take(bytes, MAGIC_OFFSET);
    if found != MAGIC {
        return Err(FrameError::Magic { found });
    }
    let [kind] = take(bytes, KIND_OFFSET);
    let kind = FrameKind::from_wire(kind).ok_or(FrameError::Kind { found: kind })?;
    let protocol_version = u16::from_le_bytes(take(bytes, VERSION_OFFSET));
    if protocol_version != PROTOCOL_VERSION && !kind.is_greeting() {
        return Err(FrameError::Version {
            found: protocol_version,
        });
    }
    let body_len_bytes = u32::from_le_bytes(take(bytes, BODY_LEN_OFFSET));
    if body_len_bytes > kind.body_len_bytes_max() {
        return Err(FrameError::TooLarge {
            body_len_bytes,
            max: kind.body_len_bytes_max(),
        });
    }
    let header = Header {
        protocol_version,
        kind,
        body_len_bytes,
        request_id: u64::from_le_bytes(take(bytes, REQUEST_ID_OFFSET)),
        subscription_id: u64::from_le_bytes(take(bytes, SUBSCRIPTION_ID_OFFSET)),
    };
    check_reserved(bytes, &header)?;
    Ok(Some(header))
}

/// Reads the frame that `buffer` begins with; `None` when not all of it has come. Call
/// [`parse_header`] to learn how much that is.
///
/// # Errors
///
/// The bytes are no frame this build can read, whatever follows them.
#[inline]
pub fn parse_frame(buffer: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(header) = parse_header(buffer)? else {
        return Ok(None);
    };
    let body_end = HEADER_LEN_BYTES + header.body_len_bytes as usize;
    let frame_end = header.frame_len_bytes() as usize;
    let (Some(body), Some(padding)) = (
        buffer.get(HEADER_LEN_BYTES..body_end),
        buffer.get(body_end..frame_end),
    ) else {
        return Ok(None);
    };
    if padding.iter().any(|byte| *byte != 0) {
        return Err(FrameError::Reserved { offset: body_end });
    }
    Ok(Some(Frame { header, body }))
}

#[inline]
fn check_reserved(bytes: &[u8; HEADER_LEN_BYTES], header: &Header) -> Result<(), FrameError> {
    let is_zero = |offset: usize, is_zero: bool| {
        if is_zero {
            Ok(())
        } else {
            Err(FrameError::Reserved { offset })
        }
    };
    let carries_request = matches!(header.kind, FrameKind::Request | FrameKind::Response);
    let carries_subscription = header.kind == FrameKind::Push;
    is_zero(FLAGS_OFFSET, take(bytes, FLAGS_OFFSET) == [0; 1])?;
    is_zero(CHECKSUM_OFFSET, take(bytes, CHECKSUM_OFFSET) == [0; 4])?;
    is_zero(REQUEST_ID_OFFSET, carries_request || header.request_id == 0)?;
    is_zero(
        SUBSCRIPTION_ID_OFFSET,
        carries_subscription || header.subscription_id == 0,
    )
}

/// The `N` bytes of a header at `offset`, a constant of this file.
#[inline]
fn take<const N: usize>(bytes: &[u8; HEADER_LEN_BYTES], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(source) = bytes.get(offset..offset + N) {
        field.copy_from_slice(source);
    }
    field
}

/// Writes the `N` bytes of a header at `offset`, a constant of this file.
#[inline]
fn put<const N: usize>(bytes: &mut [u8; HEADER_LEN_BYTES], offset: usize, field: [u8; N]) {
    if let Some(target) = bytes.get_mut(offset..offset + N) {
        target.copy_from_slice(&field);
    }
}
