//! Page-aligned, zeroed memory shared with the kernel.
//!
//! A mapping is owned by exactly one structure of the reactor and is unmapped when that structure
//! is dropped, which the ring only allows once the kernel holds no operation on it.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Anonymous private memory of a fixed length.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl Mapping {
    /// Maps `len_bytes` of zeroed memory; pages become resident when first touched.
    pub(super) fn new(len_bytes: usize) -> io::Result<Self> {
        assert!(len_bytes > 0);
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len_bytes })
    }

    /// The first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Keeps the memory mapped for the life of the process.
    pub(super) fn leak(&mut self) {
        self.len_bytes = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len_bytes == 0 {
            return;
        }
        // SAFETY: the range is the one mapped in `new` and nothing borrows it any longer: slices
        // of it borrow the structure that owns this mapping.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len_bytes) };
        debug_assert!(unmapped.is_ok(), "an own mapping can be unmapped");
    }
}
