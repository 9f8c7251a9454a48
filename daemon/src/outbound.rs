//! Replies of one connection on their way out: one buffer fills while the other is sent.
//!
//! All replies of a turn leave in one send. Knows the total that waits, so that a peer that does
//! not read can be stopped from asking; never blocks and never drops a reply.

use in_mem_ipc::FrameBuffer;

/// Capacity of a buffer kept for reuse, bytes.
const KEPT_LEN_BYTES_MAX: usize = 256 << 10;

/// The reply buffers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    filling: FrameBuffer,
    spare: FrameBuffer,
    sending_len_bytes: usize,
}

impl Outbound {
    /// Where replies are encoded.
    pub(crate) fn buffer(&mut self) -> &mut FrameBuffer {
        &mut self.filling
    }

    /// Queues replies that were encoded elsewhere.
    pub(crate) fn append(&mut self, replies: FrameBuffer) {
        if self.filling.is_empty() {
            self.filling = replies;
        } else {
            self.filling.extend_from_slice(&replies);
        }
    }

    /// Bytes the peer has not taken yet.
    pub(crate) fn queued_len_bytes(&self) -> usize {
        self.filling.len() + self.sending_len_bytes
    }

    /// Whether a send is in flight.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending_len_bytes > 0
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued_len_bytes() == 0
    }

    /// What to send now: all that waits, unless a send is in flight.
    pub(crate) fn take_ready(&mut self) -> Option<FrameBuffer> {
        if self.sending_len_bytes > 0 || self.filling.is_empty() {
            return None;
        }
        self.sending_len_bytes = self.filling.len();
        let spare = std::mem::replace(&mut self.spare, FrameBuffer::new());
        Some(std::mem::replace(&mut self.filling, spare))
    }

    /// The send is done; its buffer comes back.
    pub(crate) fn sent(&mut self, mut buffer: FrameBuffer) {
        self.sending_len_bytes = 0;
        if buffer.capacity() <= KEPT_LEN_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_made_during_a_send_leave_together_after_it() {
        let mut outbound = Outbound::default();
        outbound.buffer().extend_from_slice(b"first");
        let first = outbound.take_ready().unwrap();
        outbound.buffer().extend_from_slice(b"second");
        outbound.buffer().extend_from_slice(b"third");
        assert!(outbound.take_ready().is_none());
        assert_eq!(outbound.queued_len_bytes(), 16);
        outbound.sent(first);
        assert_eq!(outbound.take_ready().unwrap().as_slice(), b"secondthird");
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let mut outbound = Outbound::default();
        outbound.buffer().extend_from_slice(&vec![1; 1 << 20]);
        let large = outbound.take_ready().unwrap();
        outbound.sent(large);
        assert!(outbound.is_empty());
        assert_eq!(outbound.spare.capacity(), 0);
    }
}
