//! The simulated disk: deterministic, able to lose power at any moment and to fail in every way
//! a disk is known to.
//!
//! A [`SimWorld`] is one machine's disk; [`SimDisk`]s are its users. Everything that happens
//! follows from the seed and the order of submissions. The crash model, per file: synced bytes
//! are safe; each unsynced write is kept, lost or torn, at 512 bytes or at any byte, later ones
//! perhaps kept while earlier ones are lost; the length is independent of the bytes, which read
//! as zero or stale where they were never written. Per directory: unsynced creates, renames and
//! removals are kept as a prefix, or in the harsher mode as any subset. A file's sync does not
//! make its name durable. After a failed sync its bytes read as new until reboot and as the old
//! ones after.
//!
//! An operation takes effect when its completion is drawn, in any order among those in flight.
//! Images share all content with their world, so hundreds of thousands can be made.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Disk, DiskKind, OpenDisk};

mod crash;
mod disk;
mod fault;
mod file;
mod media;
mod names;
mod pages;
mod rng;
mod state;
#[cfg(test)]
mod tests;

pub use disk::SimDisk;
pub use fault::{Fault, FaultRule, Fired, Lie, OpKind};
pub use file::{UnsyncedWrite, WriteFate};
pub use rng::SimRng;

use crash::{Asked, Drawn};
use media::{DiskId, Media, Request};
use names::Node;
use pages::Pages;
use state::State;

/// How a simulated disk is made.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Everything drawn follows from it.
    pub seed: u64,
    /// What [`OpenDisk::block_bytes`] says, and the alignment direct I/O is held to.
    pub block_bytes: u32,
    /// Space for file content, bytes; `None` for no limit.
    pub capacity_bytes: Option<u64>,
}

impl SimOptions {
    /// A disk of 512-byte blocks without a limit.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            block_bytes: 512,
            capacity_bytes: None,
        }
    }
}

/// What a power loss does to names that no directory sync covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashMode {
    /// Of each directory's changes the oldest ones are kept, up to any point.
    Prefix,
    /// Any of them are kept.
    Subset,
}

/// The world as it was when an operation had just been submitted: with it in flight, and not yet
/// anything done to it.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The operation's number. What was acknowledged while [`SimWorld::op_count`] was at most
    /// this was acknowledged before this moment.
    pub op_index: u64,
    /// Its kind.
    pub kind: OpKind,
    /// The file or directory it is about.
    pub path: Arc<str>,
    /// A world that only serves to make images: every operation on it fails.
    pub world: SimWorld,
}

/// One machine's disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimWorld {
    state: Arc<Mutex<State>>,
}

/// The error of every operation after [`SimWorld::crash_at`].
#[derive(Debug)]
struct SimulatedCrash;

impl fmt::Display for SimulatedCrash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated machine has lost its power")
    }
}

impl std::error::Error for SimulatedCrash {}

/// Whether an error says that the simulated machine is off, so that nothing can be learnt from it.
#[must_use]
pub fn is_simulated_crash(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<SimulatedCrash>())
}

impl SimWorld {
    /// An empty disk.
    #[must_use]
    pub fn new(options: SimOptions) -> Self {
        Self::from_media(
            Media::new(options.capacity_bytes, options.block_bytes),
            options,
        )
    }

    /// A handle for one user of the disk.
    #[must_use]
    pub fn disk(&self) -> SimDisk {
        let mut state = self.state();
        state.next_disk += 1;
        SimDisk::new(self.clone(), DiskId(state.next_disk))
    }

    /// Operations submitted so far; the number the next one gets.
    #[must_use]
    pub fn op_count(&self) -> u64 {
        self.state().op_count
    }

    /// Lets the operation with this number meet a fault.
    pub fn fail_at(&self, op_index: u64, fault: Fault) {
        self.state().faults.insert(op_index, fault);
    }

    /// Adds a rule; the first rule that hits an operation decides.
    pub fn add_rule(&self, rule: FaultRule) {
        self.state().rules.push(rule);
    }

    /// Takes back every rule and every fault asked for.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.faults.clear();
    }

    /// The faults that happened, oldest first.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.state().fired.clone()
    }

    /// Makes the disk break its contract from now on.
    pub fn lie(&self, lie: Lie) {
        self.state().media.lies.push(lie);
    }

    /// Sets the space for file content; `None` for no limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        let mut state = self.state();
        state.media.capacity_bytes = capacity_bytes;
        state.options.capacity_bytes = capacity_bytes;
    }

    /// Space taken by files that have a name or are open, bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().media.used_bytes()
    }

    /// Stops the world when the operation with this number is submitted: it and every later one
    /// has no effect and fails with an error that [`is_simulated_crash`] knows. Images show it,
    /// and what else was in flight, kept, lost or torn.
    pub fn crash_at(&self, op_index: u64) {
        self.state().crash_at = Some(op_index);
    }

    /// Whether [`Self::crash_at`] has come true.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.state().stopped_with.is_some()
    }

    /// Keeps a [`Moment`] for every operation submitted from now on.
    pub fn record_moments(&self) {
        self.state().moments.get_or_insert_default();
    }

    /// The moments kept since the last call; recording goes on.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Moment> {
        self.state()
            .moments
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The disk after a power loss now, one of many it can come up as.
    #[must_use]
    pub fn crash(&self, image_seed: u64, mode: CrashMode) -> Self {
        let state = self.state();
        let mut chooser = Drawn::new(image_seed, state.media.stale.clone());
        let media = crash::lose_power(&state.media, &state.in_flight(), mode, &mut chooser);
        Self::from_media(media, state.options_of_image(image_seed))
    }

    /// The disk after a power loss now, with the fate of each unsynced write chosen by `ask`.
    /// Unsynced changes of names are all kept or all lost; lengths follow what is kept.
    #[must_use]
    pub fn crash_choosing(
        &self,
        keeps_names: bool,
        mut ask: impl FnMut(UnsyncedWrite<'_>) -> WriteFate,
    ) -> Self {
        let state = self.state();
        let mut chooser = Asked {
            keeps_names,
            ask: &mut ask,
        };
        let mode = CrashMode::Prefix;
        let media = crash::lose_power(&state.media, &state.in_flight(), mode, &mut chooser);
        Self::from_media(media, state.options_of_image(0))
    }

    /// The disk as a new process finds it when the old one is killed now: the page cache stays,
    /// what was unsynced is still unsynced.
    #[must_use]
    pub fn kill(&self, image_seed: u64) -> Self {
        let state = self.state();
        let mut rng = SimRng::new(image_seed ^ 0x0C11_1000);
        let media = crash::kill(&state.media, &state.in_flight(), &mut rng);
        Self::from_media(media, state.options_of_image(image_seed))
    }

    /// A number that differs, but for chance, when any name or any byte that a reader finds does.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.state().media.fingerprint()
    }

    /// Whether a power loss now would leave exactly what a reader finds.
    #[must_use]
    pub fn unsynced_is_empty(&self) -> bool {
        let state = self.state();
        let changes = |request: &Request| {
            !matches!(
                OpKind::of(&request.op),
                OpKind::Open
                    | OpKind::Close
                    | OpKind::Read
                    | OpKind::Sync
                    | OpKind::FileLen
                    | OpKind::SyncDir
                    | OpKind::List
            )
        };
        state.media.names.is_synced()
            && state.media.files.values().all(|file| file.is_synced())
            && !state.in_flight().iter().any(changes)
    }

    /// Every file a reader finds, by path.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let state = self.state();
        let file = |(path, node): (&str, Node)| (node != Node::Directory).then(|| path.to_owned());
        state.media.names.live().filter_map(file).collect()
    }

    /// A file's content as a reader finds it.
    #[must_use]
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.media.names.find_file(path).ok()?;
        let content = state.media.files.get(&inode)?.cache();
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(0, &mut bytes);
        Some(bytes)
    }

    /// Puts a file there, and the directories above it, all durable.
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        let mut content = Pages::default();
        content.write(0, bytes);
        self.state().media.put_file(path, content);
    }

    /// Takes a file away for good.
    pub fn remove_file(&self, path: &str) {
        let mut state = self.state();
        state.media.names.remove_durable(path);
        state.media.drop_unreachable();
    }

    /// Inverts the bits of `mask` in one byte of a file, on the device and in the cache; false
    /// when there is no such byte. What was unsynced of the file is durable afterwards.
    pub fn flip_byte(&self, path: &str, offset: u64, mask: u8) -> bool {
        self.alter(path, |content| content.flip(offset, mask))
    }

    /// Sets a file's length, on the device and in the cache; false when there is no such file.
    /// What was unsynced of the file is durable afterwards.
    pub fn truncate(&self, path: &str, len_bytes: u64) -> bool {
        self.alter(path, |content| {
            content.set_len(len_bytes);
            true
        })
    }

    fn alter(&self, path: &str, change: impl FnOnce(&mut Pages) -> bool) -> bool {
        let mut state = self.state();
        let Ok(inode) = state.media.names.find_file(path) else {
            return false;
        };
        let Some(file) = state.media.files.get(&inode) else {
            return false;
        };
        let mut content = file.cache().clone();
        let is_changed = change(&mut content);
        state.media.put_file(path, content);
        is_changed
    }

    fn from_media(media: Media, options: SimOptions) -> Self {
        let state = State::new(media, options);
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimWorld")
            .field("options", &state.options)
            .field("op_count", &state.op_count)
            .finish_non_exhaustive()
    }
}

impl OpenDisk for SimWorld {
    fn open_disk(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(self.disk()))
    }

    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn block_bytes(&self) -> u32 {
        self.state().options.block_bytes
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        let free = |capacity: u64| capacity.saturating_sub(state.media.used_bytes());
        Ok(state.media.capacity_bytes.map_or(u64::MAX, free))
    }
}
