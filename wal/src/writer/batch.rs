//! The batch being built: its bytes, its tokens and what they cost.
//!
//! One batch exists at a time. Bytes: a place for the mark, then records; the mark is filled and
//! the padding added by `seal`, when the batch is submitted.

use std::collections::VecDeque;
use std::io;

use super::{Entry, Failure, Pool, is_strict};
use crate::codec::StorageCodec;
use crate::config::LogConfig;
use crate::disk::AlignedBuf;
use crate::format::mark::{MARK_LEN_BYTES, Mark};
use crate::format::record::{RECORD_OVERHEAD_BYTES, RecordHead};
use crate::limits::{WRITER_BUFFER_KEPT_LEN_BYTES_MAX, WRITER_BUFFER_LEN_BYTES};
use crate::lsn::Lsn;
use crate::sink::Stage;

/// A token and the end of its record, bytes from the mark.
struct Flying<T> {
    token: T,
    end_bytes: u32,
}

pub(super) struct Batch<T> {
    database_uuid: [u8; 16],
    log_block_len_bytes: u32,
    len_bytes_max: u64,
    buf: AlignedBuf,
    flying: Vec<Flying<T>>,
    spent: Vec<Vec<u8>>,
    /// From the mark to the last record.
    len_bytes: u32,
    needs_sync: bool,
    buffered_count: u64,
    cost_count: u64,
    cost_bytes: u64,
    /// That of the last record; 0 without one.
    txn_id_highest: u64,
}

impl<T> Batch<T> {
    pub(super) fn new(config: &LogConfig, database_uuid: [u8; 16]) -> Self {
        Self {
            database_uuid,
            log_block_len_bytes: config.log_block_len_bytes,
            len_bytes_max: u64::from(config.batch_len_bytes_max),
            buf: AlignedBuf::with_capacity(WRITER_BUFFER_LEN_BYTES),
            flying: Vec::new(),
            spent: Vec::new(),
            len_bytes: MARK_LEN_BYTES,
            needs_sync: false,
            buffered_count: 0,
            cost_count: 0,
            cost_bytes: 0,
            txn_id_highest: 0,
        }
    }

    pub(super) fn log_block_len_bytes(&self) -> u64 {
        u64::from(self.log_block_len_bytes)
    }

    pub(super) fn record_count(&self) -> u64 {
        self.flying.len() as u64
    }

    pub(super) fn buffered_count(&self) -> u64 {
        self.buffered_count
    }

    /// The id of its last record, the highest; 0 without a record.
    pub(super) fn txn_id_highest(&self) -> u64 {
        self.txn_id_highest
    }

    pub(super) fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    pub(super) fn len_bytes(&self) -> u32 {
        self.len_bytes
    }

    /// How many reservations it uses up, and their cost.
    pub(super) fn costs(&self) -> (u64, u64) {
        (self.cost_count, self.cost_bytes)
    }

    /// A batch without records took room for its mark alone.
    pub(super) fn cost_of_mark(&mut self, cost_bytes: u64) {
        self.cost_count = 1;
        self.cost_bytes = cost_bytes;
    }

    pub(super) fn end_offset(&self, mark: &Mark) -> u32 {
        mark.own_lsn.offset() + self.len_bytes
    }

    /// Empties it, with room for the mark.
    pub(super) fn clear(&mut self) {
        assert!(
            self.flying.is_empty(),
            "tokens of the batch before were landed"
        );
        self.buf.clear();
        self.buf.resize(MARK_LEN_BYTES as usize);
        self.len_bytes = MARK_LEN_BYTES;
        self.needs_sync = false;
        self.buffered_count = 0;
        self.cost_count = 0;
        self.cost_bytes = 0;
        self.txn_id_highest = 0;
    }

    /// Takes records from the front of `backlog` for as long as they fit `room_len_bytes` and the
    /// batch limit. The first one always fits: its room was reserved.
    pub(super) fn fill(
        &mut self,
        backlog: &mut VecDeque<Entry<T>>,
        room_len_bytes: u64,
        codec: &dyn StorageCodec,
    ) -> Result<(), Failure> {
        self.clear();
        while let Some(entry) = backlog.front() {
            let stored_max = codec.max_encoded_len(entry.writeset.len()) as u64;
            let end_max = self.buf.len() as u64 + u64::from(RECORD_OVERHEAD_BYTES) + stored_max;
            let is_first = self.flying.is_empty();
            assert!(
                !is_first || end_max <= room_len_bytes,
                "admission kept room for a record"
            );
            if !is_first && self.len_bytes_max.min(room_len_bytes) < end_max {
                break;
            }
            let head = RecordHead {
                txn_id: entry.txn_id,
                run_id: entry.run_id,
                timestamp_us: entry.timestamp_us,
            };
            let stored = codec.encode(&entry.writeset).map_err(|error| Failure {
                stage: Stage::Encode,
                source: io::Error::other(error),
            })?;
            head.encode_into(&stored, &mut self.buf);
            drop(stored);
            assert!(self.buf.len() as u64 <= end_max, "a codec keeps its bound");
            let Some(entry) = backlog.pop_front() else {
                break;
            };
            self.take(entry);
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry<T>) {
        self.len_bytes = u32::try_from(self.buf.len()).expect("a segment is below 4 GiB");
        self.txn_id_highest = entry.txn_id;
        self.cost_count += 1;
        self.cost_bytes += entry.cost_bytes;
        if is_strict(entry.need) {
            self.needs_sync = true;
        } else {
            self.buffered_count += 1;
        }
        self.flying.push(Flying {
            token: entry.token,
            end_bytes: self.len_bytes,
        });
        self.spent.push(entry.writeset);
    }

    /// Fills the mark, pads to the block, and hands the bytes over for the write.
    pub(super) fn seal(&mut self, mark: &Mark) -> AlignedBuf {
        assert_eq!(
            mark.batch_len_bytes, self.len_bytes,
            "the mark describes this batch"
        );
        let bytes = mark.encode(self.database_uuid);
        let place = self
            .buf
            .get_mut(..bytes.len())
            .expect("clear kept room for the mark");
        place.copy_from_slice(&bytes);
        self.buf.pad_to(self.log_block_len_bytes as usize);
        std::mem::take(&mut self.buf)
    }

    /// The buffer comes back; one that grew far is not kept.
    pub(super) fn take_back(&mut self, buf: AlignedBuf) {
        if buf.capacity() <= WRITER_BUFFER_KEPT_LEN_BYTES_MAX {
            self.buf = buf;
        }
    }

    /// Moves the tokens, with the ends of their records, to `reached`.
    pub(super) fn land(&mut self, own_lsn: Lsn, reached: &mut Vec<(T, Lsn)>) {
        reached.extend(self.flying.drain(..).map(|flying| {
            let end_lsn = Lsn::new(own_lsn.segment(), own_lsn.offset() + flying.end_bytes);
            (flying.token, end_lsn)
        }));
    }

    /// Takes the tokens of a batch that will never land.
    pub(super) fn fail(&mut self) -> impl Iterator<Item = T> + use<'_, T> {
        self.flying.drain(..).map(|flying| flying.token)
    }

    pub(super) fn recycle(&mut self, pool: &Pool) {
        if !self.spent.is_empty() {
            pool.give_all(&mut self.spent);
        }
    }
}
