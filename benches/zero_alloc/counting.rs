//! An allocator that counts, per thread, what a thread asks of it.
//!
//! It counts `alloc`, `alloc_zeroed` and `realloc`, and the bytes asked for; freeing is not
//! counted. A target registers it with `#[global_allocator]`, and proves with
//! [`assert_that_a_box_is_counted`] that it did. The counters are plain cells of the thread,
//! initialised without allocating, so counting neither locks nor recurses.
//!
//! Invariant of the unsafe code here: every call is handed to the system allocator unchanged.
#![expect(unsafe_code, reason = "implementing GlobalAlloc is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The allocator to register.
pub(crate) struct Counting;

/// What one thread has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Calls.
    pub(crate) count: u64,
    /// Bytes; of a reallocation its new length.
    pub(crate) len_bytes: u64,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { count: 0, len_bytes: 0 }) };
}

fn note(len_bytes: usize) {
    // A thread that is ending has no counter any more, and is not measured.
    let _ = ASKED.try_with(|asked| {
        let Asked {
            count,
            len_bytes: before,
        } = asked.get();
        asked.set(Asked {
            count: count + 1,
            len_bytes: before + len_bytes as u64,
        });
    });
}

/// What the calling thread asks for while `body` runs.
pub(crate) fn asked_by(body: impl FnOnce()) -> Asked {
    let before = ASKED.get();
    body();
    let after = ASKED.get();
    Asked {
        count: after.count - before.count,
        len_bytes: after.len_bytes - before.len_bytes,
    }
}

/// Proves that this allocator is the registered one and counts every way to ask.
pub(crate) fn assert_that_a_box_is_counted() {
    let boxed = asked_by(|| drop(std::hint::black_box(Box::new(7_u64))));
    assert_eq!(
        boxed,
        Asked {
            count: 1,
            len_bytes: 8
        },
        "one Box is counted"
    );
    let zeroed = asked_by(|| drop(std::hint::black_box(vec![0_u8; 64])));
    assert_eq!(
        zeroed,
        Asked {
            count: 1,
            len_bytes: 64
        },
        "zeroed memory is counted"
    );
    let grown = asked_by(|| {
        let mut bytes = std::hint::black_box(Vec::<u8>::with_capacity(8));
        bytes.reserve_exact(16);
        drop(std::hint::black_box(bytes));
    });
    assert_eq!(
        grown,
        Asked {
            count: 2,
            len_bytes: 24
        },
        "growing in place is counted"
    );
}

// SAFETY: every method hands its arguments to the system allocator as they are and returns its
// answer; counting touches only cells of the calling thread and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len_bytes: usize) -> *mut u8 {
        note(len_bytes);
        // SAFETY: the caller keeps the contract of `realloc`; `pointer` came from this allocator,
        // which is to say from the system's.
        unsafe { System.realloc(pointer, layout, len_bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
