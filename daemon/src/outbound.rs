//! Replies of one connection on their way out: one buffer fills while the other is sent.
//!
//! Small replies of a turn leave together in one send. A large one keeps the buffer it was made in:
//! it is queued as it is, never copied behind others. Knows the total that waits, so that a peer
//! that does not read can be stopped from asking; never blocks and never drops a reply.

use std::collections::VecDeque;

use in_mem_ipc::FrameBuffer;

/// Capacity of a buffer kept for reuse, bytes.
const KEPT_LEN_BYTES_MAX: usize = 256 << 10;

/// Replies up to this length are copied behind others, bytes: that costs less than a send.
const JOINED_LEN_BYTES_MAX: usize = 16 << 10;

/// The reply buffers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Whole buffers, before what fills.
    queue: VecDeque<FrameBuffer>,
    queue_len_bytes: usize,
    filling: FrameBuffer,
    spare: FrameBuffer,
    sending_len_bytes: usize,
}

impl Outbound {
    /// Where replies are encoded.
    pub(crate) fn buffer(&mut self) -> &mut FrameBuffer {
        if KEPT_LEN_BYTES_MAX < self.filling.len() {
            self.enqueue_filling();
        }
        &mut self.filling
    }

    /// Takes back the end of what was encoded last.
    pub(crate) fn retract(&mut self, len_bytes: usize) {
        let rest = self.filling.len() - len_bytes;
        self.filling.resize(rest, 0);
    }

    /// Queues replies that were encoded elsewhere.
    pub(crate) fn append(&mut self, replies: FrameBuffer) {
        if self.filling.is_empty() {
            self.filling = replies;
        } else if replies.len() <= JOINED_LEN_BYTES_MAX {
            self.buffer().extend_from_slice(&replies);
        } else {
            self.enqueue_filling();
            self.filling = replies;
        }
    }

    fn enqueue_filling(&mut self) {
        let spare = std::mem::replace(&mut self.spare, FrameBuffer::new());
        let filled = std::mem::replace(&mut self.filling, spare);
        self.queue_len_bytes += filled.len();
        self.queue.push_back(filled);
    }

    /// Bytes the peer has not taken yet.
    pub(crate) fn queued_len_bytes(&self) -> usize {
        self.queue_len_bytes + self.filling.len() + self.sending_len_bytes
    }

    /// Whether a send is in flight.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending_len_bytes > 0
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued_len_bytes() == 0
    }

    /// What to send now: the first that waits, unless a send is in flight.
    pub(crate) fn take_ready(&mut self) -> Option<FrameBuffer> {
        if self.sending_len_bytes > 0 {
            return None;
        }
        if let Some(first) = self.queue.pop_front() {
            self.queue_len_bytes -= first.len();
            self.sending_len_bytes = first.len();
            return Some(first);
        }
        if self.filling.is_empty() {
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

    /// Everything that waits, as if it had been sent.
    #[cfg(test)]
    pub(crate) fn drain(&mut self) -> FrameBuffer {
        let mut all = FrameBuffer::new();
        self.sending_len_bytes = 0;
        while let Some(ready) = self.take_ready() {
            all.extend_from_slice(&ready);
            self.sent(ready);
        }
        all
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

    /// What was lost: each answer of a worker was copied behind the earlier ones on the reactor,
    /// up to 65 MiB at a time.
    #[test]
    fn a_large_answer_keeps_its_buffer_and_its_place() {
        let mut outbound = Outbound::default();
        let mut places = Vec::new();
        for byte in 1..=3 {
            outbound.buffer().extend_from_slice(&[byte; 16]);
            let mut large = FrameBuffer::new();
            large.resize(1 << 20, byte);
            places.push(large.as_ptr());
            outbound.append(large);
        }
        outbound.append(FrameBuffer::new());
        assert_eq!(outbound.queued_len_bytes(), 3 * ((1 << 20) + 16));
        let mut sent = Vec::new();
        while let Some(buffer) = outbound.take_ready() {
            sent.push((buffer.len(), buffer[0], buffer.as_ptr()));
            outbound.sent(buffer);
        }
        let large: Vec<_> = sent.iter().filter(|(len, ..)| 1 << 20 == *len).collect();
        assert_eq!(large.iter().map(|(.., at)| *at).collect::<Vec<_>>(), places);
        let order: Vec<u8> = sent.iter().map(|(_, byte, _)| *byte).collect();
        assert_eq!(order, [1, 1, 2, 2, 3, 3]);
        assert!(outbound.is_empty());
    }
}
