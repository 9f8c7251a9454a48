//! Writeset buffers, recycled so that a commit allocates nothing.
//!
//! Bounded in count and in the size of what it keeps; a buffer too large is freed.

use parking_lot::Mutex;

use crate::limits::{POOL_BUFFER_LEN_BYTES_MAX, POOL_COUNT_MAX};

pub(crate) struct Pool {
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            buffers: Mutex::new(Vec::with_capacity(POOL_COUNT_MAX)),
        }
    }

    pub(super) fn take(&self) -> Vec<u8> {
        self.buffers.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.buffers.lock();
        if is_kept(&buffer) && buffers.len() < POOL_COUNT_MAX {
            buffers.push(buffer);
        }
    }

    /// Takes over all of `spent`, emptying it, under one lock.
    pub(crate) fn give_all(&self, spent: &mut Vec<Vec<u8>>) {
        spent.retain(is_kept);
        let mut buffers = self.buffers.lock();
        let room = POOL_COUNT_MAX.saturating_sub(buffers.len());
        spent.truncate(room);
        for mut buffer in spent.drain(..) {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

fn is_kept(buffer: &Vec<u8>) -> bool {
    buffer.capacity() != 0 && buffer.capacity() <= POOL_BUFFER_LEN_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_the_pool_stays_bounded() {
        let pool = Pool::new();
        let mut spent: Vec<Vec<u8>> = (0..POOL_COUNT_MAX + 5).map(|_| vec![1; 10]).collect();
        spent.push(vec![0; POOL_BUFFER_LEN_BYTES_MAX + 1]);
        pool.give_all(&mut spent);
        assert!(spent.is_empty());
        pool.give(vec![2; 3]);
        assert_eq!(pool.buffers.lock().len(), POOL_COUNT_MAX);
        let buffer = pool.take();
        assert!(buffer.is_empty());
        assert!(buffer.capacity() >= 10);
    }
}
