//! The provided-buffer ring: memory the kernel receives into without being told where.
//!
//! Owns one block of equal buffers and the ring of descriptors that offers them to the kernel. A
//! buffer is either offered (the kernel may write it at any time) or taken (named by exactly one
//! [`Received`], which cannot be copied); only taken buffers are ever read. Offering goes through
//! the ring's tail with Release, which pairs with the kernel's Acquire load.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::mapping::Mapping;

/// Buffers offered to the kernel at once; a power of two. 256 of 16 KiB are 4 MiB per reactor,
/// which bounds what one turn can receive before the rest waits in the sockets.
const BUFFER_COUNT: u16 = 256;

/// Length of one buffer, bytes. A multiple of 16, so that a stream of 16-byte padded frames stays
/// aligned over the buffer's edge.
const BUFFER_LEN_BYTES: u32 = 16 << 10;

/// The one buffer group of a reactor's ring.
pub(super) const BUFFER_GROUP: u16 = 0;

const _: () = assert!(BUFFER_COUNT.is_power_of_two());
const _: () = assert!(BUFFER_LEN_BYTES.is_multiple_of(16));

/// Bytes received for one connection: a claim on one taken buffer, given back by
/// `Ring::recycle`.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the reactor"]
pub(crate) struct Received {
    buffer: u16,
    len_bytes: u32,
}

/// The buffers and the ring that offers them.
#[derive(Debug)]
pub(super) struct ReceiveBuffers {
    entries: Mapping,
    memory: Mapping,
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps the buffers, registers their ring and offers all of them.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = Mapping::new(usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(BUFFER_COUNT) * BUFFER_LEN_BYTES as usize)?;
        let address = entries.base().as_ptr().expose_provenance() as u64;
        // SAFETY: `entries` is page-aligned, holds BUFFER_COUNT entries and lives in the ring
        // structure, which is dropped only after the kernel's last operation ended.
        unsafe {
            submitter.register_buf_ring_with_flags(address, BUFFER_COUNT, BUFFER_GROUP, 0)?;
        }
        let mut buffers = Self {
            entries,
            memory,
            tail: 0,
        };
        for buffer in 0..BUFFER_COUNT {
            buffers.offer(buffer);
        }
        Ok(buffers)
    }

    /// Takes the buffer the kernel filled.
    pub(super) fn take(&self, buffer: u16, len_bytes: u32) -> Received {
        assert!(
            buffer < BUFFER_COUNT,
            "the kernel names only buffers it was offered"
        );
        assert!(
            len_bytes <= BUFFER_LEN_BYTES,
            "the kernel respects the length of a buffer"
        );
        Received { buffer, len_bytes }
    }

    /// The bytes of a taken buffer; 16-byte aligned.
    pub(super) fn bytes(&self, received: &Received) -> &[u8] {
        let start = self.start_of(received.buffer);
        // SAFETY: the buffer is taken: the kernel gave it back and does not write it before it is
        // offered again, which consumes `received`. `take` checked number and length.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), received.len_bytes as usize) }
    }

    /// Gives a taken buffer back to the kernel.
    pub(super) fn recycle(&mut self, received: Received) {
        self.offer(received.buffer);
    }

    /// Keeps the memory mapped: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.entries.leak();
        self.memory.leak();
    }

    fn start_of(&self, buffer: u16) -> NonNull<u8> {
        let offset = usize::from(buffer) * BUFFER_LEN_BYTES as usize;
        assert!(offset < self.memory.len_bytes());
        // SAFETY: the offset is inside the mapping, as just asserted.
        unsafe { self.memory.base().add(offset) }
    }

    /// Writes the descriptor behind the tail, then publishes the new tail.
    fn offer(&mut self, buffer: u16) {
        let start = self.start_of(buffer);
        let index = usize::from(self.tail & (BUFFER_COUNT - 1));
        let base = self.entries.base().cast::<BufRingEntry>();
        // SAFETY: the index is below the number of entries. The kernel reads entries only below
        // the published tail, so this one is ours until the store below.
        let entry = unsafe { base.add(index).as_mut() };
        entry.set_addr(start.as_ptr().expose_provenance() as u64);
        entry.set_len(BUFFER_LEN_BYTES);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `tail` yields the address of the tail word inside the first entry (the kernel's
        // layout), aligned to 2 and inside the mapping; the kernel reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(base.as_ptr()).cast_mut()) };
        // Release; pairs with the kernel's Acquire load of the tail.
        tail.store(self.tail, Ordering::Release);
    }
}
