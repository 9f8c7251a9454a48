//! The device as it is, without any of our code in the way: what `fio --direct=1 --sync=dsync
//! --iodepth=1 --bs=4k --rw=write` measures, over a file that was written before.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};

use super::rounds::Distribution;

/// Bytes of one write: a log block of the largest kind.
const BLOCK_LEN_BYTES: usize = 4096;

/// Blocks of the file written over and over.
const BLOCK_COUNT: u64 = 4096;

/// A file for raw durable writes.
pub(crate) struct RawDevice {
    file: File,
    memory: Vec<u8>,
    next_block: u64,
}

impl RawDevice {
    /// Creates the file in `directory` and writes all of it once.
    pub(crate) fn new(directory: &Path) -> Self {
        let path = directory.join("raw");
        let mut file = File::create(&path).expect("creates a file");
        let zeros = vec![0_u8; BLOCK_LEN_BYTES];
        for _ in 0..BLOCK_COUNT {
            file.write_all(&zeros).expect("writes");
        }
        file.sync_all().expect("syncs");
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(&path)
            .expect("opens around the page cache");
        Self {
            file,
            memory: vec![7; 2 * BLOCK_LEN_BYTES],
            next_block: 0,
        }
    }

    /// One durable write of a block.
    pub(crate) fn write(&mut self) {
        let start = self.memory.as_ptr().align_offset(BLOCK_LEN_BYTES);
        let block = self
            .memory
            .get(start..start + BLOCK_LEN_BYTES)
            .expect("one block is aligned");
        let offset = self.next_block * BLOCK_LEN_BYTES as u64;
        let written = pwritev2(
            &self.file,
            &[IoSlice::new(block)],
            offset,
            ReadWriteFlags::DSYNC,
        );
        assert_eq!(
            written,
            Ok(BLOCK_LEN_BYTES),
            "the device takes whole blocks"
        );
        self.next_block = (self.next_block + 1) % BLOCK_COUNT;
    }

    /// Durable writes one after the other for `time`, into `latencies`; writes per second.
    pub(crate) fn measure(&mut self, time: Duration, latencies: &mut Distribution) -> f64 {
        let started = Instant::now();
        let mut count = 0_u32;
        loop {
            let before = Instant::now();
            self.write();
            latencies.record(before.elapsed());
            count += 1;
            if time < started.elapsed() {
                return f64::from(count) / started.elapsed().as_secs_f64();
            }
        }
    }
}
