//! Whether the disk has too little room for the data to grow, as whoever watches it says.
//!
//! The engine looks at no disk here: asking how much is free is a call into the kernel that may
//! take long, so it is done elsewhere, and a commit reads one word. What is refused is refused
//! early, while prepared log is left for deletions and the end of runs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::errors::CommitError;

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct DiskRoom {
    /// What has to be free, bytes; 0 while there is enough.
    free_len_bytes_min: AtomicU64,
    free_len_bytes: AtomicU64,
}

impl DiskRoom {
    /// So much is free and less than has to be; none when there is enough.
    pub(crate) fn say(&self, low: Option<(u64, u64)>) {
        let (free_len_bytes, free_len_bytes_min) = low.unwrap_or_default();
        // Relaxed: each number stands for itself, and the first is only told.
        self.free_len_bytes.store(free_len_bytes, Ordering::Relaxed);
        self.free_len_bytes_min
            .store(free_len_bytes_min, Ordering::Relaxed);
    }

    /// Refuses a logged commit that could grow the data.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        match self.free_len_bytes_min.load(Ordering::Relaxed) {
            0 => Ok(()),
            free_len_bytes_min => Err(CommitError::LowDisk {
                free_len_bytes: self.free_len_bytes.load(Ordering::Relaxed),
                free_len_bytes_min,
            }),
        }
    }
}
