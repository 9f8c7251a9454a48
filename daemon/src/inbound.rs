//! Frames of one connection, cut from the bytes as they come.
//!
//! A frame that lies whole and aligned in the receive buffer is read there. One that does not is
//! gathered once, in a buffer that grows with the bytes received and never with a length the peer
//! only claimed. Bytes that cannot be looked at yet (a limit is reached) are held in the same
//! buffer. Knows nothing of what a frame says.

use in_mem_ipc::FrameBuffer;
use in_mem_ipc::frame::{
    FRAME_ALIGN_BYTES, Frame, FrameError, FrameKind, HEADER_LEN_BYTES, Header, parse_frame,
    parse_header,
};

use crate::shares::Taken;
use crate::slow::Steps;

/// Capacity kept when nothing is held, bytes: one large frame does not pin its memory for the
/// life of a connection.
const KEPT_LEN_BYTES_MAX: usize = 64 << 10;

/// What a connection may send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expects {
    /// The hello, once.
    Hello,
    /// Requests, or a close.
    Requests,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InboundError {
    /// The bytes are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame of a kind that has no place here.
    #[error("a frame of kind {kind:?} is not expected here")]
    Unexpected {
        /// Its kind.
        kind: FrameKind,
    },
}

/// A whole frame that was taken out of the receive path; none by default.
#[derive(Debug, Default)]
pub(crate) struct OwnedFrame {
    buffer: FrameBuffer,
    start: usize,
    /// When the request has waited for too long, microseconds of the monotonic clock; none when it
    /// asked for no deadline.
    pub(crate) deadline_us: Option<u64>,
    /// When it took which step.
    pub(crate) steps: Steps,
    /// The memory that was reserved for it, if it is large.
    pub(crate) room: Option<Taken>,
}

impl OwnedFrame {
    /// The whole frame that lies at `start`.
    pub(crate) fn new(buffer: FrameBuffer, start: usize) -> Self {
        Self {
            buffer,
            start,
            deadline_us: None,
            steps: Steps::default(),
            room: None,
        }
    }

    /// Whether its deadline has passed.
    pub(crate) fn is_late(&self, now_us: u64) -> bool {
        self.deadline_us
            .is_some_and(|deadline_us| deadline_us <= now_us)
    }

    /// The frame; it was whole and valid when it was taken.
    pub(crate) fn frame(&self) -> Option<Frame<'_>> {
        parse_frame(self.buffer.get(self.start..).unwrap_or_default())
            .ok()
            .flatten()
    }
}

/// The bytes of a connection that are not consumed yet.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Begins with a frame; aligned.
    held: FrameBuffer,
    /// Bytes of `held` whose frames were handed out; a multiple of the frame alignment.
    consumed_len_bytes: usize,
    expects: Expects,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            held: FrameBuffer::new(),
            consumed_len_bytes: 0,
            expects: Expects::Hello,
        }
    }
}

impl Inbound {
    /// Sets what may come next.
    pub(crate) fn expect(&mut self, expects: Expects) {
        self.expects = expects;
    }

    /// Bytes held: part of a frame, or frames that could not be looked at yet.
    pub(crate) fn held_len_bytes(&self) -> usize {
        self.held.len() - self.consumed_len_bytes
    }

    /// The length of the frame that what is held begins with, bytes; 0 before its header has come.
    pub(crate) fn claimed_len_bytes(&self) -> usize {
        let bytes = self.held.get(self.consumed_len_bytes..).unwrap_or_default();
        match parse_header(bytes) {
            Ok(Some(header)) => header.frame_len_bytes() as usize,
            Ok(None) | Err(_) => 0,
        }
    }

    /// The next whole frame, from what is held, then from `fresh`, which is cut by what was used.
    /// `None` when `fresh` is used up; a rest of it is held.
    pub(crate) fn next_frame<'s, 'f: 's>(
        &'s mut self,
        fresh: &mut &'f [u8],
    ) -> Result<Option<Frame<'s>>, InboundError> {
        self.forget_consumed();
        if self.held.is_empty() && is_aligned(fresh) {
            return self.next_in_place(fresh);
        }
        loop {
            let missing = self.missing_len_bytes()?;
            if missing == 0 {
                break;
            }
            if fresh.is_empty() {
                return Ok(None);
            }
            let (used, rest) = fresh.split_at(missing.min(fresh.len()));
            self.held.extend_from_slice(used);
            *fresh = rest;
        }
        let start = self.consumed_len_bytes;
        let bytes = self.held.get(start..).unwrap_or_default();
        let frame = parse_frame(bytes)?;
        if let Some(frame) = &frame {
            self.consumed_len_bytes += frame.header.frame_len_bytes() as usize;
        }
        Ok(frame)
    }

    /// A copy of the frame handed out last, for use beyond the receive buffers. A frame that was
    /// gathered alone is moved out instead of copied; `frame_bytes` are the bytes of one that was
    /// read in place.
    pub(crate) fn detach(&mut self, read_in_place: Option<&[u8]>, len_bytes: usize) -> OwnedFrame {
        let mut buffer = FrameBuffer::new();
        if let Some(bytes) = read_in_place {
            buffer.extend_from_slice(bytes);
            return OwnedFrame::new(buffer, 0);
        }
        let start = self.consumed_len_bytes - len_bytes;
        if self.held.len() == self.consumed_len_bytes {
            self.consumed_len_bytes = 0;
            std::mem::swap(&mut buffer, &mut self.held);
            return OwnedFrame::new(buffer, start);
        }
        let end = self.consumed_len_bytes;
        buffer.extend_from_slice(self.held.get(start..end).unwrap_or_default());
        OwnedFrame::new(buffer, 0)
    }

    /// Keeps bytes for later without looking at them.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    fn next_in_place<'s, 'f: 's>(
        &'s mut self,
        fresh: &mut &'f [u8],
    ) -> Result<Option<Frame<'s>>, InboundError> {
        let bytes = *fresh;
        if let Some(header) = parse_header(bytes)? {
            self.check_expected(&header)?;
        }
        match parse_frame(bytes)? {
            Some(frame) => {
                let end = frame.header.frame_len_bytes() as usize;
                *fresh = bytes.get(end..).unwrap_or_default();
                Ok(Some(frame))
            }
            None => {
                self.hold(bytes);
                *fresh = &[];
                Ok(None)
            }
        }
    }

    /// Drops the frames handed out, moving a rest to the front when new bytes will follow it.
    fn forget_consumed(&mut self) {
        if self.consumed_len_bytes == 0 {
            return;
        }
        let rest = self.held.len() - self.consumed_len_bytes;
        if rest == 0 {
            self.consumed_len_bytes = 0;
            if KEPT_LEN_BYTES_MAX < self.held.capacity() {
                self.held = FrameBuffer::new();
            }
            self.held.clear();
        } else if rest <= self.consumed_len_bytes {
            // Each byte is moved at most once for as many bytes consumed.
            self.held.copy_within(self.consumed_len_bytes.., 0);
            self.held.resize(rest, 0);
            self.consumed_len_bytes = 0;
        }
    }

    /// Bytes until the header, or else the frame, that `held` begins with is whole.
    fn missing_len_bytes(&self) -> Result<usize, InboundError> {
        let bytes = self.held.get(self.consumed_len_bytes..).unwrap_or_default();
        let whole = match parse_header(bytes)? {
            None => HEADER_LEN_BYTES,
            Some(header) => {
                self.check_expected(&header)?;
                header.frame_len_bytes() as usize
            }
        };
        Ok(whole.saturating_sub(bytes.len()))
    }

    fn check_expected(&self, header: &Header) -> Result<(), InboundError> {
        let kind = header.kind;
        match (self.expects, kind) {
            (Expects::Hello, FrameKind::Hello)
            | (Expects::Requests, FrameKind::Request)
            | (_, FrameKind::Close) => Ok(()),
            _ => Err(InboundError::Unexpected { kind }),
        }
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes
        .as_ptr()
        .addr()
        .is_multiple_of(FRAME_ALIGN_BYTES as usize)
}

#[cfg(test)]
mod tests {
    use in_mem_ipc::codec::encode_request;
    use in_mem_ipc::request::kv::KeyValue;
    use in_mem_ipc::{Operation, Request, RequestHeader};

    use super::*;

    /// Frames of growing size, and where each begins.
    fn stream(count: u64) -> FrameBuffer {
        let mut buffer = FrameBuffer::new();
        for id in 1..=count {
            let value = vec![7; usize::try_from(id * 37 % 5_000).unwrap()];
            let put = KeyValue {
                key: "key".into(),
                value: value.into(),
            };
            let operation = Operation::KvPut(put);
            let request = Request {
                header: RequestHeader::default(),
                operation,
            };
            encode_request(&request, id, &mut buffer).unwrap();
        }
        buffer
    }

    /// Reads every frame out of pieces of one length; returns the ids.
    fn read_in_pieces(stream: &[u8], piece: usize, offset: usize) -> Vec<u64> {
        let mut inbound = Inbound::default();
        inbound.expect(Expects::Requests);
        let mut ids = Vec::new();
        for part in stream.chunks(piece) {
            let mut backing = FrameBuffer::new();
            backing.extend_from_slice(&[0; 16][..offset]);
            backing.extend_from_slice(part);
            let mut fresh = &backing[offset..];
            while let Some(frame) = inbound.next_frame(&mut fresh).unwrap() {
                assert!(is_aligned(frame.body));
                ids.push(frame.header.request_id);
            }
            assert!(fresh.is_empty());
        }
        assert_eq!(inbound.held_len_bytes(), 0);
        ids
    }

    #[test]
    fn frames_come_out_whole_in_order_and_aligned_however_they_are_cut() {
        let stream = stream(60);
        let expected: Vec<u64> = (1..=60).collect();
        for piece in [
            1,
            7,
            16,
            31,
            32,
            33,
            100,
            1_000,
            4_096,
            16_384,
            stream.len(),
        ] {
            for offset in [0, 5] {
                assert_eq!(
                    read_in_pieces(&stream, piece, offset),
                    expected,
                    "{piece} {offset}"
                );
            }
        }
    }

    #[test]
    fn held_bytes_are_read_before_fresh_ones() {
        let stream = stream(30);
        let (first, second) = stream.split_at(stream.len() / 3 + 5);
        let mut inbound = Inbound::default();
        inbound.expect(Expects::Requests);
        inbound.hold(first);
        let mut ids = Vec::new();
        let mut fresh = second;
        while let Some(frame) = inbound.next_frame(&mut fresh).unwrap() {
            ids.push(frame.header.request_id);
        }
        assert_eq!(ids, (1..=30).collect::<Vec<u64>>());
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let header = Header::new(FrameKind::Request, in_mem_ipc::frame::BODY_LEN_BYTES_MAX);
        let mut inbound = Inbound::default();
        inbound.expect(Expects::Requests);
        let bytes = header.encode();
        assert_eq!(inbound.next_frame(&mut bytes.as_slice()), Ok(None));
        assert!(inbound.held.capacity() < 4_096);
        let mut too_large = bytes;
        too_large[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut inbound = Inbound::default();
        inbound.expect(Expects::Requests);
        let refused = inbound.next_frame(&mut too_large.as_slice());
        assert!(matches!(
            refused,
            Err(InboundError::Frame(FrameError::TooLarge { .. }))
        ));
    }

    #[test]
    fn a_request_before_the_hello_is_refused_by_its_header() {
        let stream = stream(1);
        let mut inbound = Inbound::default();
        let refused = inbound.next_frame(&mut &stream[..HEADER_LEN_BYTES]);
        assert_eq!(
            refused,
            Err(InboundError::Unexpected {
                kind: FrameKind::Request
            })
        );
    }
}
