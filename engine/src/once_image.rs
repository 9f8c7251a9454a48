//! Exactly-once tables as they were at the watermark of a checkpoint, and their bytes in a
//! snapshot.
//!
//! A table changes with every commit, and what it forgets is gone, so it cannot be read later as
//! it was. Instead each table is copied, by sharing its clients, by the first commit after the
//! checkpoint has asked for it, before that commit changes it; what is committed from then on is
//! noted. Once the watermark is known, the noted commits at or below it are taken into the copy
//! by the rules of the table itself. A table nobody has touched is as it was.
//!
//! Volatile commits leave no entry here. What they made a table forget stays forgotten: a repeat
//! is then refused instead of answered, and never executed twice.
//!
//! In section 0 of a snapshot, behind its meta, little-endian:
//!
//! ```text
//! state   := version u8 (= 1) | next_id_count u32 (= 0) | digest_count u32 (= 0)
//!            | table_count u32 | tables, by run id
//! table   := run_id 16 | evicted_below u64 | last_version u64 | client_count u32 | clients
//! client  := user u32 | client_id 16 | dropped_to u64 | last_version u64
//!            | entry_count u32 | entries, by sequence
//! entry   := sequence u64 | fingerprint u64 | version u64 | timestamp u64
//!            | result_len u32 | result, as `once_result.rs` draws it
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use in_mem_model::RunId;
use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

use crate::limits::{ONCE_CLIENT_OVERHEAD_BYTES, ONCE_RESULT_LEN_BYTES_MAX};
use crate::once::{Client, ClientKey, Clients, Listed, OnceEntry, OnceRequest, OnceTable};
use crate::once_result::is_logged;
use crate::snapshot_bytes::{array, number_u32, number_u64, write_u32, write_u64};
use crate::store::ShardedStore;

const STATE_VERSION: u8 = 1;

/// A table as it was when a checkpoint asked for it, and what was committed since.
#[derive(Debug)]
pub(crate) struct OnceCapture {
    /// The checkpoint.
    epoch: u64,
    clients: Clients,
    len_bytes: usize,
    evicted_below: u64,
    last_version: u64,
    pub(crate) journal: Vec<(OnceRequest, OnceEntry)>,
}

/// The table of one run at a watermark.
pub(crate) struct OnceImage {
    pub(crate) run: RunId,
    table: OnceTable,
}

impl OnceTable {
    /// Keeps the table as it is for the checkpoint `epoch`, unless that was done; 0 asks for
    /// nothing. In the critical section, before a version is assigned.
    pub(crate) fn capture_for(&mut self, epoch: u64) {
        let is_kept = self
            .capture
            .as_ref()
            .is_some_and(|capture| capture.epoch == epoch);
        if epoch == 0 || is_kept {
            return;
        }
        self.capture = Some(Box::new(OnceCapture {
            epoch,
            clients: self.clients.clone(),
            len_bytes: self.len_bytes,
            evicted_below: self.evicted_below,
            last_version: self.last_version,
            journal: Vec::new(),
        }));
    }

    /// What is to be kept of it at `watermark`.
    fn keep_logged(&mut self, watermark: u64) {
        let is_kept = |entry: &OnceEntry| entry.version <= watermark && is_logged(&entry.result);
        for Listed { client, .. } in self.clients.values_mut() {
            let is_whole = client.last_version <= watermark && client.entries.iter().all(is_kept);
            if !is_whole {
                let client = Arc::make_mut(client);
                client.entries.retain(is_kept);
                client.last_version = client.last_version.min(watermark);
            }
        }
        self.clients
            .retain(|_, kept| !kept.client.entries.is_empty() || kept.client.dropped_to != 0);
        self.last_version = self.last_version.min(watermark);
        self.evicted_below = self.evicted_below.min(watermark);
    }
}

/// Asks every table to be kept as it is now. When it returns, what was committed before is in
/// every table, and what is committed from now on is noted.
pub(crate) fn begin_capture(store: &ShardedStore, epoch: u64) {
    store.once_capture.store(epoch, Ordering::SeqCst);
    for shard in store.shards() {
        // Whoever is inside has not seen the request; whoever enters later does.
        drop(shard.commit.lock());
    }
}

/// The tables at `watermark`, by run id. Every commit at or below it is published, and so was
/// every one before [`begin_capture`] returned.
pub(crate) fn end_capture(store: &ShardedStore, watermark: u64) -> Vec<OnceImage> {
    let epoch = store.once_capture.load(Ordering::SeqCst);
    let mut images = Vec::new();
    for shard in store.shards() {
        let mut table = OnceTable::default();
        let mut journal = Vec::new();
        {
            let mut state = shard.commit.lock();
            let Some(live) = state.once.as_deref_mut() else {
                continue;
            };
            match live.capture.take().filter(|kept| kept.epoch == epoch) {
                Some(kept) => {
                    table.clients = kept.clients;
                    table.len_bytes = kept.len_bytes;
                    table.evicted_below = kept.evicted_below;
                    table.last_version = kept.last_version;
                    journal = kept.journal;
                }
                None => {
                    table.clients = live.clients.clone();
                    table.len_bytes = live.len_bytes;
                    table.evicted_below = live.evicted_below;
                    table.last_version = live.last_version;
                }
            }
        }
        table.list_clients();
        for (once, entry) in journal {
            if entry.version <= watermark {
                table.insert(&once, entry);
            }
        }
        table.keep_logged(watermark);
        if !table.clients.is_empty() || table.evicted_below != 0 {
            let run = shard.run_id;
            images.push(OnceImage { run, table });
        }
    }
    give_up_capture(store);
    images
}

/// Lets go of what was kept.
pub(crate) fn give_up_capture(store: &ShardedStore) {
    store.once_capture.store(0, Ordering::SeqCst);
    for shard in store.shards() {
        let kept = {
            let mut state = shard.commit.lock();
            state
                .once
                .as_deref_mut()
                .and_then(|table| table.capture.take())
        };
        // What was noted may be much: it is let go of outside the critical section.
        drop(kept);
    }
}

/// Writes what section 0 holds behind its meta.
pub(crate) fn write_state(
    images: &[OnceImage],
    sink: &mut dyn BlockSink,
) -> Result<(), SnapshotError> {
    sink.write(&[STATE_VERSION])?;
    write_u32(sink, 0)?;
    write_u32(sink, 0)?;
    write_u32(sink, images.len())?;
    for image in images {
        sink.write(image.run.as_bytes())?;
        write_u64(sink, image.table.evicted_below)?;
        write_u64(sink, image.table.last_version)?;
        write_u32(sink, image.table.clients.len())?;
        let mut clients: Vec<(&ClientKey, &Listed)> = image.table.clients.iter().collect();
        clients.sort_unstable_by_key(|(key, _)| **key);
        for (key, Listed { client, .. }) in clients {
            sink.write(&key.user.to_le_bytes())?;
            sink.write(&key.client_id)?;
            write_u64(sink, client.dropped_to)?;
            write_u64(sink, client.last_version)?;
            write_u32(sink, client.entries.len())?;
            for entry in &client.entries {
                write_u64(sink, entry.sequence)?;
                write_u64(sink, entry.fingerprint)?;
                write_u64(sink, entry.version)?;
                write_u64(sink, entry.timestamp_us)?;
                write_u32(sink, entry.result.len())?;
                sink.write(&entry.result)?;
            }
        }
    }
    Ok(())
}

/// Reads what section 0 holds behind its meta into an empty store.
pub(crate) fn read_state(
    store: &ShardedStore,
    watermark: u64,
    source: &mut dyn BlockSource,
) -> Result<(), SnapshotError> {
    let [version] = array(source)?;
    if version != STATE_VERSION {
        return Err(source.meaningless("version of the snapshot's state"));
    }
    for what in ["next ids", "digests"] {
        if number_u32(source)? != 0 {
            return Err(source.meaningless(what));
        }
    }
    let mut after = None;
    for _ in 0..number_u32(source)? {
        let run = RunId(array(source)?);
        if after.is_some_and(|after| run <= after) {
            return Err(source.meaningless("order of runs"));
        }
        after = Some(run);
        let table = read_table(watermark, source)?;
        store.memory.changed(0, table.len_bytes);
        store.shard_or_new(run).commit.lock().once = Some(Box::new(table));
    }
    match source.is_at_end()? {
        true => Ok(()),
        false => Err(source.meaningless("what follows the exactly-once tables")),
    }
}

fn read_table(watermark: u64, source: &mut dyn BlockSource) -> Result<OnceTable, SnapshotError> {
    let mut table = OnceTable::default();
    table.evicted_below = number_u64(source)?;
    table.last_version = number_u64(source)?;
    if watermark < table.evicted_below.max(table.last_version) {
        return Err(source.meaningless("version of an exactly-once table"));
    }
    for _ in 0..number_u32(source)? {
        let key = ClientKey {
            user: number_u32(source)?,
            client_id: array(source)?,
        };
        let client = read_client(watermark, source)?;
        table.len_bytes += ONCE_CLIENT_OVERHEAD_BYTES;
        let entries = client.entries.iter().map(OnceEntry::len_bytes);
        table.len_bytes += entries.sum::<usize>();
        let listed = Listed::new(client);
        if table.clients.insert(key, listed).is_some() {
            return Err(source.meaningless("repeated client"));
        }
    }
    table.list_clients();
    Ok(table)
}

fn read_client(watermark: u64, source: &mut dyn BlockSource) -> Result<Client, SnapshotError> {
    let mut client = Client {
        dropped_to: number_u64(source)?,
        last_version: number_u64(source)?,
        ..Client::default()
    };
    let mut after = 0;
    for _ in 0..number_u32(source)? {
        let sequence = number_u64(source)?;
        let fingerprint = number_u64(source)?;
        let version = number_u64(source)?;
        let timestamp_us = number_u64(source)?;
        let len = usize::try_from(number_u32(source)?).unwrap_or(usize::MAX);
        if sequence <= after || watermark < version || ONCE_RESULT_LEN_BYTES_MAX < len {
            return Err(source.meaningless("exactly-once entry"));
        }
        after = sequence;
        let mut result = vec![0; len];
        source.read(&mut result)?;
        client.entries.push_back(OnceEntry {
            sequence,
            fingerprint,
            version,
            timestamp_us,
            result: result.into(),
        });
    }
    Ok(client)
}
