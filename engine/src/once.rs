//! Exactly-once requests of one run: which request of which client made which commit, and what it
//! was told.
//!
//! A client names each of its writes by a sequence that grows. The commit of such a write leaves
//! one entry here, in the same critical section, and the same facts in its record
//! (`attributes.rs`), so that recovery rebuilds the table by applying the log. A request is
//! looked up before anything else is done with it:
//!
//! ```text
//! entry with its sequence, same fingerprint        answered again, once it is published
//! entry with its sequence, another fingerprint     refused: invalid argument
//! no entry, sequence <= the client's dropped_to    refused: may have been committed
//! no client, registered_at <= evicted_below != 0   refused: session expired
//! otherwise                                        executed
//! ```
//!
//! Entries go, lowest sequence first, when the client no longer waits for them or holds more than
//! [`ONCE_RESULT_COUNT_MAX`]; whole clients go, the one that committed longest ago first, when
//! the run has too many or their results take too much memory. What went is never executed
//! again, so both leave a mark: `dropped_to` and `evicted_below`. A volatile commit leaves its
//! entry in memory alone: the guarantee lasts as long as its effect.
//!
//! Owned by the run's critical section. Every change is a function of the commits in their order,
//! so a table that only saw logged commits is the same again after recovery.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::errors::CommitError;
use crate::faults::Mutant;
use crate::limits::{
    ONCE_CLIENT_COUNT_MAX, ONCE_CLIENT_OVERHEAD_BYTES, ONCE_LEN_BYTES_MAX, ONCE_RESULT_COUNT_MAX,
    ONCE_RESULT_OVERHEAD_BYTES,
};
use crate::memory::MemoryUse;
use crate::once_image::OnceCapture;
use crate::once_result::decode_result;
use crate::program::Outcome;
use crate::shard::{CommitState, RunShard};
use crate::shared::Shared;
use crate::version_node::Stamp;

/// What makes a write an exactly-once request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceRequest {
    /// User id of the client's process: client ids of different users are different clients.
    pub user: u32,
    /// Its process id, for whoever reads the log.
    pub process: u32,
    /// Chosen by the client, once.
    pub client_id: [u8; 16],
    /// The version counter at the first greeting of the client id.
    pub registered_at: u64,
    /// Grows with each request of the client; at least 1.
    pub sequence: u64,
    /// The lowest sequence whose answer the client still waits for, at most `sequence`: what lies
    /// below is forgotten by the commit of this request.
    pub lowest_awaited: u64,
    /// Of the operation and its parameters: the same for each repeat.
    pub fingerprint: u64,
}

impl OnceRequest {
    fn client(&self) -> ClientKey {
        ClientKey {
            user: self.user,
            client_id: self.client_id,
        }
    }

    /// Refuses numbers that make no sense.
    pub(crate) fn validate(&self) -> Result<(), CommitError> {
        if self.sequence == 0 || self.sequence < self.lowest_awaited {
            return Err(CommitError::InvalidArgument {
                what: "request sequence",
            });
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientKey {
    pub(crate) user: u32,
    pub(crate) client_id: [u8; 16],
}

/// What one commit leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnceEntry {
    pub(crate) sequence: u64,
    pub(crate) fingerprint: u64,
    /// The commit version; [`u64::MAX`] for a commit that was given up half-way.
    pub(crate) version: u64,
    pub(crate) timestamp_us: u64,
    /// As `once_result.rs` encodes it.
    pub(crate) result: Arc<[u8]>,
}

impl OnceEntry {
    /// What the request was told.
    pub(crate) fn outcome(&self) -> Outcome {
        decode_result(&self.result, self.version, self.timestamp_us)
    }

    pub(crate) fn len_bytes(&self) -> usize {
        ONCE_RESULT_OVERHEAD_BYTES + self.result.len()
    }
}

/// The entry of a request in a run, whose critical section the caller is in.
///
/// # Errors
/// As [`OnceTable::find`].
pub(crate) fn find<'a>(
    shared: &Shared,
    shard: &RunShard,
    state: &'a CommitState,
    once: &OnceRequest,
) -> Result<Option<&'a OnceEntry>, CommitError> {
    let Some(table) = &state.once else {
        return Ok(None);
    };
    let found = table.find(once)?;
    if shared.planted.is(Mutant::OnceFoundWhenPublished) {
        return Ok(found.filter(|entry| entry.version <= shard.visible()));
    }
    Ok(found)
}

/// Takes in what a commit leaves, whose memory was reserved.
pub(crate) fn insert(
    memory: &MemoryUse,
    state: &mut CommitState,
    once: &OnceRequest,
    stamp: Stamp,
    result: Arc<[u8]>,
) {
    let entry = OnceEntry {
        sequence: once.sequence,
        fingerprint: once.fingerprint,
        version: stamp.commit_version,
        timestamp_us: stamp.timestamp_us,
        result,
    };
    insert_entry(memory, state, once, entry);
}

/// Takes in an entry, and counts what the table takes with it.
pub(crate) fn insert_entry(
    memory: &MemoryUse,
    state: &mut CommitState,
    once: &OnceRequest,
    entry: OnceEntry,
) {
    let table = state.once.get_or_insert_default();
    let before = table.len_bytes;
    table.insert(once, entry);
    memory.changed(before, table.len_bytes);
}

/// Notes a commit that was given up half-way, so that no repeat is told that it did not happen.
/// The database takes no more commits.
pub(crate) fn insert_in_doubt(memory: &MemoryUse, shard: &RunShard, once: &OnceRequest) {
    let mut state = shard.commit.lock();
    let entry = OnceEntry {
        sequence: once.sequence,
        fingerprint: once.fingerprint,
        version: u64::MAX,
        timestamp_us: 0,
        result: Arc::default(),
    };
    insert_entry(memory, &mut state, once, entry);
}

/// The results kept for one client, by ascending sequence.
#[derive(Debug, Default, Clone)]
pub(crate) struct Client {
    pub(crate) entries: VecDeque<OnceEntry>,
    /// Sequences up to this one may have been committed and forgotten.
    pub(crate) dropped_to: u64,
    /// Its highest commit version.
    pub(crate) last_version: u64,
}

/// A client in its table.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listed {
    /// Shared with copies of the table, and copied before it changes.
    pub(crate) client: Arc<Client>,
    /// The client that committed last before it did, and the one that did so next after it.
    older: Option<ClientKey>,
    newer: Option<ClientKey>,
}

impl Listed {
    /// A client that is in no list yet.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client: Arc::new(client),
            older: None,
            newer: None,
        }
    }
}

/// The clients of a table.
pub(crate) type Clients = HashMap<ClientKey, Listed, ahash::RandomState>;

/// The table of one run.
#[derive(Debug, Default)]
pub(crate) struct OnceTable {
    /// Client ids are chosen by clients: hashed with a key.
    pub(crate) clients: Clients,
    /// Of all entries and clients, bytes.
    pub(crate) len_bytes: usize,
    /// The highest commit version among evicted clients; 0 as long as there is none.
    pub(crate) evicted_below: u64,
    /// The highest commit version taken in: what is applied again changes nothing.
    pub(crate) last_version: u64,
    /// A client that is about to be new, with memory for its first entry.
    spare: Option<Arc<Client>>,
    /// The client that committed longest ago, and the one that did so last: the ends of a list
    /// through all of them, so that the first to go is found without a search.
    oldest: Option<ClientKey>,
    newest: Option<ClientKey>,
    /// What a checkpoint under way needs of the past; see `once_image.rs`.
    pub(crate) capture: Option<Box<OnceCapture>>,
}

impl OnceTable {
    /// The entry of a request; none when it is to be executed.
    ///
    /// # Errors
    /// It is neither: nothing may be executed and nothing is known.
    pub(crate) fn find(&self, once: &OnceRequest) -> Result<Option<&OnceEntry>, CommitError> {
        let Some(Listed { client, .. }) = self.clients.get(&once.client()) else {
            if self.evicted_below != 0 && once.registered_at <= self.evicted_below {
                return Err(CommitError::SessionExpired {
                    registered_at: once.registered_at,
                    evicted_below: self.evicted_below,
                });
            }
            return Ok(None);
        };
        if let Ok(at) = client.position(once.sequence)
            && let Some(entry) = client.entries.get(at)
        {
            if entry.fingerprint != once.fingerprint {
                return Err(CommitError::OtherRequest {
                    sequence: once.sequence,
                });
            }
            return Ok(Some(entry));
        }
        if once.sequence <= client.dropped_to {
            return Err(CommitError::SequenceTooOld {
                sequence: once.sequence,
                dropped_to: client.dropped_to,
            });
        }
        Ok(None)
    }

    /// Takes the memory that [`Self::insert`] of this request will need.
    pub(crate) fn reserve(&mut self, once: &OnceRequest) {
        match self.clients.get_mut(&once.client()) {
            Some(listed) => Arc::make_mut(&mut listed.client).entries.reserve(1),
            None => {
                self.clients.reserve(1);
                let spare = self.spare.get_or_insert_default();
                Arc::make_mut(spare).entries.reserve(1);
            }
        }
        if let Some(capture) = &mut self.capture {
            capture.journal.reserve(1);
        }
    }

    /// Takes in what a commit leaves, and lets go of what is no longer to be kept. Allocates
    /// nothing after [`Self::reserve`]. Commits come in version order; one that was taken in
    /// already changes nothing.
    pub(crate) fn insert(&mut self, once: &OnceRequest, entry: OnceEntry) {
        if entry.version <= self.last_version {
            return;
        }
        self.last_version = entry.version;
        if let Some(capture) = &mut self.capture {
            capture.journal.push((*once, entry.clone()));
        }
        let key = once.client();
        if !self.clients.contains_key(&key) {
            let listed = Listed {
                client: self.spare.take().unwrap_or_default(),
                ..Listed::default()
            };
            self.len_bytes += ONCE_CLIENT_OVERHEAD_BYTES;
            self.clients.insert(key, listed);
        }
        self.make_newest(key);
        let listed = self.clients.get_mut(&key);
        let listed = listed.expect("a client was inserted if it was missing");
        let client = Arc::make_mut(&mut listed.client);
        client.last_version = entry.version;
        // Otherwise the request would have been found instead of executed.
        if let Err(at) = client.position(entry.sequence) {
            self.len_bytes += entry.len_bytes();
            client.entries.insert(at, entry);
        }
        self.len_bytes -= client.forget(once.lowest_awaited);
        self.evict(key);
    }

    /// Lists the clients of a table that was put together by hand, in the order of their last
    /// commits.
    pub(crate) fn list_clients(&mut self) {
        let last = |(key, listed): (&ClientKey, &Listed)| (listed.client.last_version, *key);
        let mut keys: Vec<(u64, ClientKey)> = self.clients.iter().map(last).collect();
        keys.sort_unstable();
        (self.oldest, self.newest) = (None, None);
        for listed in self.clients.values_mut() {
            (listed.older, listed.newer) = (None, None);
        }
        for (_, key) in keys {
            self.make_newest(key);
        }
    }

    /// Nothing was ever taken in.
    pub(crate) fn is_empty(&self) -> bool {
        self.last_version == 0
    }

    /// Puts a client, new or not, at the end of the list.
    fn make_newest(&mut self, key: ClientKey) {
        if self.newest == Some(key) {
            return;
        }
        self.unlink(key);
        let older = self.newest.replace(key);
        if let Some(client) = self.clients.get_mut(&key) {
            client.older = older;
        }
        match older.and_then(|older| self.clients.get_mut(&older)) {
            Some(older) => older.newer = Some(key),
            None => self.oldest = Some(key),
        }
    }

    /// Takes a client out of the list; nothing for one that is not in it.
    fn unlink(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let (older, newer) = (client.older.take(), client.newer.take());
        match older.and_then(|older| self.clients.get_mut(&older)) {
            Some(older) => older.newer = newer,
            None if self.oldest == Some(key) => self.oldest = newer,
            None => {}
        }
        match newer.and_then(|newer| self.clients.get_mut(&newer)) {
            Some(newer) => newer.older = older,
            None if self.newest == Some(key) => self.newest = older,
            None => {}
        }
    }

    /// Lets clients go until the rest fits: never the one that has just committed.
    fn evict(&mut self, kept: ClientKey) {
        while ONCE_CLIENT_COUNT_MAX < self.clients.len() || ONCE_LEN_BYTES_MAX < self.len_bytes {
            let Some(key) = self.oldest.filter(|key| *key != kept) else {
                return;
            };
            self.unlink(key);
            if let Some(Listed { client, .. }) = self.clients.remove(&key) {
                let entries_len: usize = client.entries.iter().map(OnceEntry::len_bytes).sum();
                self.len_bytes -= ONCE_CLIENT_OVERHEAD_BYTES + entries_len;
                self.evicted_below = self.evicted_below.max(client.last_version);
            }
        }
    }

    /// Calls `visit` with everything logged that the table says, in a fixed order: for tests and
    /// for checks after recovery.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&[u8], &[u64], &[u8])) {
        if self.last_version == 0 {
            return;
        }
        visit(&[], &[self.evicted_below], &[]);
        let mut keys: Vec<&ClientKey> = self.clients.keys().collect();
        keys.sort_unstable();
        for key in keys {
            let Some(Listed { client, .. }) = self.clients.get(key) else {
                continue;
            };
            visit(
                &key.client_id,
                &[u64::from(key.user), client.dropped_to, client.last_version],
                &[],
            );
            for entry in &client.entries {
                let numbers = [
                    entry.sequence,
                    entry.fingerprint,
                    entry.version,
                    entry.timestamp_us,
                ];
                visit(&key.client_id, &numbers, &entry.result);
            }
        }
    }
}

impl Client {
    /// Where an entry is, or would be.
    fn position(&self, sequence: u64) -> Result<usize, usize> {
        self.entries
            .binary_search_by_key(&sequence, |entry| entry.sequence)
    }

    /// Forgets what nobody waits for and what is too much; what that freed, bytes.
    fn forget(&mut self, lowest_awaited: u64) -> usize {
        let mut freed_len_bytes = 0;
        self.dropped_to = self.dropped_to.max(lowest_awaited.saturating_sub(1));
        while let Some(first) = self.entries.front() {
            let is_awaited = lowest_awaited <= first.sequence;
            if is_awaited && self.entries.len() <= ONCE_RESULT_COUNT_MAX {
                break;
            }
            self.dropped_to = self.dropped_to.max(first.sequence);
            freed_len_bytes += first.len_bytes();
            self.entries.pop_front();
        }
        freed_len_bytes
    }
}

#[cfg(test)]
impl OnceTable {
    /// What it takes by its own count, and counted anew.
    pub(crate) fn recount(&self) -> (usize, usize) {
        let of_client = |listed: &Listed| {
            let entries: usize = listed.client.entries.iter().map(OnceEntry::len_bytes).sum();
            ONCE_CLIENT_OVERHEAD_BYTES + entries
        };
        (self.len_bytes, self.clients.values().map(of_client).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64, sequence: u64) -> OnceRequest {
        let mut client_id = [0; 16];
        client_id[..8].copy_from_slice(&number.to_le_bytes());
        OnceRequest {
            user: 1,
            process: 1,
            client_id,
            registered_at: 0,
            sequence,
            lowest_awaited: 0,
            fingerprint: 0,
        }
    }

    /// Clients in the order of the list, one way and the other.
    fn listed(table: &OnceTable) -> (Vec<ClientKey>, Vec<ClientKey>) {
        let walk = |from: Option<ClientKey>, next: fn(&Listed) -> Option<ClientKey>| {
            std::iter::successors(from, |key| next(&table.clients[key])).collect()
        };
        (
            walk(table.oldest, |listed| listed.newer),
            walk(table.newest, |listed| listed.older),
        )
    }

    #[test]
    fn the_list_of_clients_is_in_the_order_of_their_last_commits() {
        let seed = 0x0_11CE;
        println!("seed {seed}");
        let mut rng = in_mem_wal::disk::SimRng::new(seed);
        let mut table = OnceTable::default();
        for version in 1..4_000 {
            let number = rng.below(ONCE_CLIENT_COUNT_MAX as u64 + 40);
            let once = request(number, version);
            let entry = OnceEntry {
                sequence: version,
                fingerprint: 0,
                version,
                timestamp_us: 0,
                result: Arc::default(),
            };
            table.insert(&once, entry);
            let newest = table
                .newest
                .map(|key| table.clients[&key].client.last_version);
            assert_eq!(newest, Some(version));
        }
        let (up, mut down) = listed(&table);
        down.reverse();
        assert_eq!(up, down);
        assert_eq!(up.len(), table.clients.len());
        assert_eq!(up.len(), ONCE_CLIENT_COUNT_MAX);
        assert!(up.is_sorted_by_key(|key| table.clients[key].client.last_version));
        let oldest = table.clients[&up[0]].client.last_version;
        assert!(table.evicted_below < oldest, "the oldest went first");
        let (kept, counted) = table.recount();
        assert_eq!(kept, counted);
    }
}
