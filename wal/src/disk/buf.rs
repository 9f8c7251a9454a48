//! The byte buffer of all disk operations: owned, growable and aligned.
//!
//! Direct I/O wants the address, the offset and the length of a transfer aligned to the device's
//! block; 4 KiB serves every block size in use. A buffer is owned by exactly one party at any
//! time: the caller, or the operation that carries it.
//!
//! Invariants of the unsafe code here: `ptr` is dangling iff `capacity` is 0, else it is an
//! allocation of `capacity` bytes at [`ALIGN_BYTES`]; all `capacity` bytes are initialised
//! (allocations start zeroed), also those behind `len`; `len <= capacity`.
#![expect(unsafe_code, reason = "an aligned allocation has no safe constructor")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// Alignment of a buffer's address and granularity of its capacity, bytes. 4 KiB: the largest
/// logical block of the devices we run on, and the page size.
pub const ALIGN_BYTES: usize = 4096;

const _: () = assert!(ALIGN_BYTES.is_power_of_two());

/// Where an empty buffer points: aligned as well.
const DANGLING_ADDRESS: NonZero<usize> = NonZero::new(ALIGN_BYTES).expect("not zero");

/// A growable byte buffer whose first byte is 4 KiB-aligned.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer is the only owner of its allocation and hands out borrows by Rust's rules.
unsafe impl Send for AlignedBuf {}
// SAFETY: a shared reference gives only `&[u8]`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer without an allocation.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ptr: NonNull::without_provenance(DANGLING_ADDRESS),
            capacity: 0,
            len: 0,
        }
    }

    /// An empty buffer that holds at least `len_bytes` without reallocating.
    #[must_use]
    pub fn with_capacity(len_bytes: usize) -> Self {
        let mut buf = Self::new();
        buf.reserve_total(len_bytes);
        buf
    }

    /// A buffer of `len_bytes` zeros.
    #[must_use]
    pub fn zeroed(len_bytes: usize) -> Self {
        let mut buf = Self::with_capacity(len_bytes);
        buf.resize(len_bytes);
        buf
    }

    /// Bytes it can hold without reallocating: 0, or a multiple of [`ALIGN_BYTES`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `additional` more bytes.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self
            .len
            .checked_add(additional)
            .expect("a buffer fits the address space");
        self.reserve_total(wanted);
    }

    /// Appends a copy of `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let start = self.len;
        self.len += bytes.len();
        if let Some(target) = self.get_mut(start..) {
            target.copy_from_slice(bytes);
        }
    }

    /// Sets the length; new bytes are zero.
    pub fn resize(&mut self, len_bytes: usize) {
        self.reserve_total(len_bytes);
        let start = self.len;
        self.len = len_bytes;
        if let Some(grown) = self.get_mut(start..) {
            grown.fill(0);
        }
    }

    /// Appends zeros up to the next multiple of `block_bytes`; none if it is there already.
    ///
    /// # Panics
    /// When `block_bytes` is 0.
    pub fn pad_to(&mut self, block_bytes: usize) {
        self.resize(self.len.next_multiple_of(block_bytes));
    }

    /// Keeps the first `len_bytes`; nothing happens when it is not longer.
    pub fn truncate(&mut self, len_bytes: usize) {
        self.len = self.len.min(len_bytes);
    }

    /// Empties the buffer and keeps its allocation.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Empties the buffer and lends `len_bytes` for a read to fill; end with [`Self::filled`].
    pub(super) fn room_for_read(&mut self, len_bytes: usize) -> &mut [u8] {
        self.clear();
        self.reserve_total(len_bytes);
        // SAFETY: `ptr` points at `capacity >= len_bytes` initialised bytes (or is dangling and
        // `len_bytes` is 0), borrowed mutably for as long as the slice lives.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), len_bytes) }
    }

    /// Says how many bytes a read has put at the start.
    ///
    /// # Panics
    /// When that is more than there is room for.
    pub(super) fn filled(&mut self, len_bytes: usize) {
        assert!(
            len_bytes <= self.capacity,
            "a read filled more than the buffer holds"
        );
        self.len = len_bytes;
    }

    /// Grows the allocation to at least `len_bytes`, at least doubling it, and keeps the content.
    fn reserve_total(&mut self, len_bytes: usize) {
        if len_bytes <= self.capacity {
            return;
        }
        let capacity = len_bytes.max(self.capacity.saturating_mul(2));
        let capacity = capacity
            .checked_next_multiple_of(ALIGN_BYTES)
            .expect("a buffer fits the address space");
        let layout = layout_of(capacity);
        // SAFETY: `capacity >= len_bytes > 0`, so the layout has a size.
        let Some(ptr) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        let mut grown = Self {
            ptr,
            capacity,
            len: self.len,
        };
        grown.copy_from_slice(self);
        *self = grown;
    }
}

fn layout_of(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN_BYTES).expect("a buffer fits the address space")
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if self.capacity != 0 {
            // SAFETY: the allocation was made by `reserve_total` with this layout, and only here
            // is it given back.
            unsafe { dealloc(self.ptr.as_ptr(), layout_of(self.capacity)) };
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= capacity` initialised bytes, borrowed for as long as the slice lives.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Default for AlignedBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl From<&[u8]> for AlignedBuf {
    fn from(bytes: &[u8]) -> Self {
        let mut buf = Self::with_capacity(bytes.len());
        buf.extend_from_slice(bytes);
        buf
    }
}

impl PartialEq for AlignedBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuf {}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len_bytes", &self.len)
            .field("capacity_bytes", &self.capacity)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(buf: &AlignedBuf) -> usize {
        buf.as_ptr() as usize
    }

    #[test]
    fn every_allocation_is_aligned_and_a_multiple_of_the_alignment() {
        for len_bytes in [1, 511, 4096, 4097, 70_000] {
            let buf = AlignedBuf::with_capacity(len_bytes);
            assert_eq!(address(&buf) % ALIGN_BYTES, 0, "{len_bytes}");
            assert_eq!(buf.capacity() % ALIGN_BYTES, 0, "{len_bytes}");
            assert!(len_bytes <= buf.capacity(), "{len_bytes}");
        }
        assert_eq!(AlignedBuf::new().capacity(), 0);
        assert!(AlignedBuf::new().is_empty());
    }

    #[test]
    fn content_survives_growth() {
        let mut buf = AlignedBuf::new();
        let mut expected = Vec::new();
        for round in 0..200_u8 {
            let piece = vec![round; usize::from(round) * 3];
            buf.extend_from_slice(&piece);
            expected.extend_from_slice(&piece);
            assert_eq!(&*buf, &expected[..]);
            assert_eq!(address(&buf) % ALIGN_BYTES, 0);
        }
    }

    #[test]
    fn a_fixed_capacity_is_reused_without_reallocation() {
        let mut buf = AlignedBuf::with_capacity(8192);
        let before = address(&buf);
        for _ in 0..10 {
            buf.clear();
            buf.extend_from_slice(&[7; 5000]);
            buf.pad_to(4096);
            assert_eq!(buf.len(), 8192);
            assert_eq!(address(&buf), before);
            assert_eq!(buf.capacity(), 8192);
        }
    }

    #[test]
    fn bytes_that_come_back_after_a_truncate_are_zero() {
        let mut buf = AlignedBuf::from(&[0xAA; 1000][..]);
        buf.truncate(10);
        buf.truncate(500);
        assert_eq!(buf.len(), 10);
        buf.resize(1000);
        assert_eq!(&buf[..10], &[0xAA; 10]);
        assert!(buf[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn padding_reaches_the_next_block_and_is_zero() {
        let mut buf = AlignedBuf::from(&[1; 513][..]);
        buf.pad_to(512);
        assert_eq!(buf.len(), 1024);
        assert!(buf[513..].iter().all(|byte| *byte == 0));
        buf.pad_to(512);
        assert_eq!(buf.len(), 1024);
    }

    #[test]
    fn a_read_replaces_the_content() {
        let mut buf = AlignedBuf::from(&[1; 100][..]);
        buf.room_for_read(4)[..3].copy_from_slice(b"abc");
        buf.filled(3);
        assert_eq!(&*buf, b"abc");
        assert_eq!(buf, AlignedBuf::from(&b"abc"[..]));
        assert_eq!(buf.clone(), buf);
    }

    #[test]
    fn a_buffer_moves_between_threads() {
        let buf = AlignedBuf::zeroed(3);
        let back = std::thread::spawn(move || buf).join().expect("joins");
        assert_eq!(&*back, &[0, 0, 0]);
    }
}
