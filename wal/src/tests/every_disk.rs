//! The disks that the claims about a log are checked on: simulated, thread and io_uring.
//!
//! The real ones work in a temporary directory of their own, which goes with the last handle on
//! it. What a test needs to look at or to damage goes through the disk too.

use std::io;
use std::sync::Arc;

use crate::disk::{
    Disk, DiskKind, DiskPreference, OpenDisk, OpenMode, RealDisk, RealRoot, SimOptions, SimWorld,
    WriteFate,
};
use crate::files;
use crate::harness::World;

/// A directory on one kind of disk.
#[derive(Clone)]
pub(super) struct TestDisk(Arc<Place>);

enum Place {
    Simulated(SimWorld),
    Real {
        disk: RealDisk,
        _directory: tempfile::TempDir,
    },
}

/// A new, empty directory on each of the three disks, one after the other. Where the kernel gives
/// no ring that one is left out, and the output says so. A test that fails names its disk.
pub(super) fn every_disk() -> impl Iterator<Item = TestDisk> {
    let kinds = [DiskKind::Simulated, DiskKind::Thread, DiskKind::IoUring];
    kinds.into_iter().filter_map(TestDisk::new)
}

impl TestDisk {
    fn new(kind: DiskKind) -> Option<Self> {
        let preference = match kind {
            DiskKind::Simulated => {
                let world = SimWorld::new(SimOptions::new(42));
                return Some(Self(Arc::new(Place::Simulated(world))));
            }
            DiskKind::Thread => DiskPreference::Thread,
            DiskKind::IoUring | DiskKind::TokioUring => DiskPreference::Auto,
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = RealRoot::open(directory.path()).expect("opens");
        let disk = RealDisk::probe(root, preference);
        if let Some(refusal) = disk.refusal() {
            println!("SKIPPED: needs io_uring: {refusal}");
            return None;
        }
        assert_eq!(disk.kind(), kind);
        Some(Self(Arc::new(Place::Real {
            disk,
            _directory: directory,
        })))
    }

    fn opener(&self) -> &dyn OpenDisk {
        match &*self.0 {
            Place::Simulated(world) => world,
            Place::Real { disk, .. } => disk,
        }
    }

    /// The world of the simulated disk, which shows what a crash would leave.
    pub(super) fn simulated(&self) -> Option<&SimWorld> {
        match &*self.0 {
            Place::Simulated(world) => Some(world),
            Place::Real { .. } => None,
        }
    }

    /// What a power loss now leaves when all that was not synced is lost. A real disk has no such
    /// image and shows itself.
    pub(super) fn after_power_loss(&self) -> Self {
        let Some(world) = self.simulated() else {
            return self.clone();
        };
        let image = world.crash_choosing(true, |_| WriteFate::Lost);
        Self(Arc::new(Place::Simulated(image)))
    }

    /// A disk for the calling thread.
    pub(super) fn disk(&self) -> Box<dyn Disk> {
        self.open_disk().expect("a disk")
    }

    /// The names in `WAL/`, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        files::list(&mut *self.disk(), "WAL").expect("a listing")
    }

    /// The content of a file, if it is there.
    pub(super) fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        match files::read_file(&mut *self.disk(), path, 1 << 30) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Puts a file there, durably; one of that name is replaced.
    pub(super) fn write_file(&self, path: &str, bytes: &[u8]) {
        files::write_new_file(&mut *self.disk(), path, bytes).expect("writes");
    }

    /// Changes one byte of a file.
    pub(super) fn flip_byte(&self, path: &str, offset: u64, mask: u8) {
        let bytes = self.read_file(path).expect("a file");
        let at = usize::try_from(offset).expect("an offset");
        let mut disk = self.disk();
        let file = files::open(&mut *disk, path, OpenMode::Write).expect("opens");
        files::write_all(&mut *disk, file, offset, &[bytes[at] ^ mask]).expect("writes");
        files::close(&mut *disk, file);
    }

    /// Takes a file away.
    pub(super) fn remove_file(&self, path: &str) {
        files::unlink(&mut *self.disk(), path).expect("removes");
    }
}

impl OpenDisk for TestDisk {
    fn open_disk(&self) -> io::Result<Box<dyn Disk>> {
        self.opener().open_disk()
    }

    fn kind(&self) -> DiskKind {
        self.opener().kind()
    }

    fn open_background_disk(&self) -> io::Result<Box<dyn Disk>> {
        self.opener().open_background_disk()
    }

    fn background_kind(&self) -> DiskKind {
        self.opener().background_kind()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.opener().free_bytes()
    }
}

impl World for TestDisk {
    fn op_count(&self) -> u64 {
        self.simulated().map_or(0, SimWorld::op_count)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kind = match self {
                Self::Simulated(world) => world.kind(),
                Self::Real { disk, .. } => disk.kind(),
            };
            eprintln!("FAILED on the {kind} disk");
        }
    }
}

#[test]
fn all_three_disks_take_part_where_the_kernel_gives_a_ring() {
    let kinds: Vec<DiskKind> = every_disk().map(|disk| disk.disk().kind()).collect();
    let wanted = [DiskKind::Simulated, DiskKind::Thread, DiskKind::IoUring];
    let has_ring = TestDisk::new(DiskKind::IoUring).is_some();
    assert_eq!(kinds, wanted[..2 + usize::from(has_ring)]);
}
