//! The disk of the tokio-uring crate, for the background thread: large transfers, no hurry.
//!
//! It keeps a current-thread runtime inside and enters it only while it submits or waits, so it
//! has no thread of its own. The crate (0.5.0) has no linked operations and no write flags, so
//! both synced write forms are a write and then a data sync; and it knows no descriptors beneath a
//! directory, so opening, renaming and the like are plain calls.
//!
//! Invariant of the unsafe code here: a buffer handed to the crate keeps its address until it is
//! handed back.
#![expect(
    unsafe_code,
    reason = "the crate's buffer traits promise stable addresses"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio_uring::buf::{BoundedBuf, IoBuf, IoBufMut};
use tokio_uring::fs::File;

use super::calls::Files;
use super::root::RealRoot;
use super::{AlignedBuf, Completion, Disk, DiskKind, FileId, Op, Output, Ticket, WriteSync};

/// Submission entries of the runtime's ring. The background thread has a few transfers in flight;
/// when there are more, the crate submits what it has to make room.
const ENTRY_COUNT: u32 = 64;

/// A [`Disk`] of one tokio-uring runtime.
pub struct TokioUringDisk {
    files: Files,
    /// The crate owns its descriptors, so an open file used through it has a second one here.
    rings: BTreeMap<FileId, Rc<File>>,
    shared: Rc<Shared>,
    runtime: tokio_uring::Runtime,
    next_ticket: u64,
    in_flight_count: usize,
}

/// What the tasks of the runtime and the disk share.
#[derive(Default)]
struct Shared {
    finished: RefCell<VecDeque<Completion>>,
    waiter: RefCell<Option<Waker>>,
}

// SAFETY: moving an `AlignedBuf` moves a pointer; the bytes stay where they are. All `capacity`
// bytes are initialised, of which the first `len` count.
unsafe impl IoBuf for AlignedBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }
}

// SAFETY: as above, and `set_init` only ever makes more of the capacity count.
unsafe impl IoBufMut for AlignedBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, position: usize) {
        if self.len() < position {
            self.filled(position);
        }
    }
}

/// An operation for the ring.
enum Work {
    Write {
        offset: u64,
        buf: AlignedBuf,
        sync: WriteSync,
    },
    Read {
        offset: u64,
        len_bytes: usize,
        buf: AlignedBuf,
    },
    Sync,
    SyncAll,
    Allocate {
        len_bytes: u64,
    },
}

impl TokioUringDisk {
    /// A disk over `root` for the calling thread.
    ///
    /// # Errors
    /// When the kernel refuses a ring or the runtime its descriptors.
    pub fn new(root: RealRoot) -> io::Result<Self> {
        let mut builder = tokio_uring::builder();
        builder.entries(ENTRY_COUNT);
        Ok(Self {
            files: Files::new(root),
            rings: BTreeMap::new(),
            shared: Rc::default(),
            runtime: tokio_uring::Runtime::new(&builder)?,
            next_ticket: 0,
            in_flight_count: 0,
        })
    }

    /// The crate's handle of an open file, made at its first use.
    fn ring_file(&mut self, file: FileId) -> io::Result<Rc<File>> {
        if let Some(ring_file) = self.rings.get(&file) {
            return Ok(ring_file.clone());
        }
        let ring_file = Rc::new(ring_file(self.files.share(file)?.try_clone()?));
        self.rings.insert(file, ring_file.clone());
        Ok(ring_file)
    }

    /// Runs `work` as a task, or finishes it at once when there is no file.
    fn start(&mut self, ticket: Ticket, file: io::Result<Rc<File>>, work: Work) {
        let file = match file {
            Ok(file) => file,
            Err(error) => return self.finish(ticket, Err(error), work.into_buf()),
        };
        let shared = self.shared.clone();
        self.runtime.block_on(async move {
            tokio_uring::spawn(async move {
                let (result, buf) = work.run(&file).await;
                // Before the completion is seen, so that a file closed next is really closed.
                drop(file);
                shared.finished.borrow_mut().push_back(Completion {
                    ticket,
                    result,
                    buf,
                });
                if let Some(waiter) = shared.waiter.borrow_mut().take() {
                    waiter.wake();
                }
            });
        });
    }

    fn finish(&mut self, ticket: Ticket, result: io::Result<Output>, buf: Option<AlignedBuf>) {
        self.shared.finished.borrow_mut().push_back(Completion {
            ticket,
            result,
            buf,
        });
    }

    /// Waits for the next completion while something is in flight.
    fn wait(&mut self) -> Completion {
        let shared = &self.shared;
        let completion = self.runtime.block_on(poll_fn(|context| {
            if let Some(completion) = shared.finished.borrow_mut().pop_front() {
                return Poll::Ready(completion);
            }
            *shared.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        }));
        self.in_flight_count -= 1;
        completion
    }
}

impl Work {
    async fn run(self, file: &File) -> (io::Result<Output>, Option<AlignedBuf>) {
        match self {
            Self::Write { offset, buf, sync } => {
                let (result, buf) = write(file, offset, buf, sync).await;
                (result, Some(buf))
            }
            Self::Read {
                offset,
                len_bytes,
                buf,
            } => {
                let (result, buf) = read(file, offset, len_bytes, buf).await;
                (result, Some(buf))
            }
            Self::Sync => (file.sync_data().await.map(|()| Output::Done), None),
            Self::SyncAll => (file.sync_all().await.map(|()| Output::Done), None),
            Self::Allocate { len_bytes } => (
                file.fallocate(0, len_bytes, 0).await.map(|()| Output::Done),
                None,
            ),
        }
    }

    fn into_buf(self) -> Option<AlignedBuf> {
        match self {
            Self::Write { buf, .. } => Some(buf),
            Self::Read { mut buf, .. } => {
                buf.clear();
                Some(buf)
            }
            Self::Sync | Self::SyncAll | Self::Allocate { .. } => None,
        }
    }
}

fn ring_file(fd: OwnedFd) -> File {
    File::from_std(fd.into())
}

async fn write(
    file: &File,
    offset: u64,
    mut buf: AlignedBuf,
    sync: WriteSync,
) -> (io::Result<Output>, AlignedBuf) {
    let len_bytes = buf.len();
    let result = loop {
        let (result, back) = file.write_at(buf, offset).submit().await;
        buf = back;
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    let count = match result {
        Ok(count) => count,
        Err(error) => return (Err(error), buf),
    };
    let needs_sync = match sync {
        WriteSync::None => false,
        WriteSync::Data => true,
        WriteSync::LinkedSync => count == len_bytes,
    };
    if needs_sync && let Err(error) = file.sync_data().await {
        return (Err(error), buf);
    }
    (Ok(Output::Written { count }), buf)
}

async fn read(
    file: &File,
    offset: u64,
    len_bytes: usize,
    mut buf: AlignedBuf,
) -> (io::Result<Output>, AlignedBuf) {
    loop {
        buf.room_for_read(len_bytes);
        let (result, back) = file.read_at(buf.slice(..len_bytes), offset).await;
        buf = back.into_inner();
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                buf.clear();
                return (Err(error), buf);
            }
            Ok(count) => {
                buf.filled(count);
                return (Ok(Output::Read { count }), buf);
            }
        }
    }
}

impl Disk for TokioUringDisk {
    fn submit(&mut self, op: Op) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight_count += 1;
        match op {
            Op::Write {
                file,
                offset,
                buf,
                sync,
            } => {
                let file = self.ring_file(file);
                self.start(ticket, file, Work::Write { offset, buf, sync });
            }
            // The crate refuses to make an empty slice of a buffer.
            Op::Read {
                file,
                offset,
                len_bytes,
                buf,
            } if 0 < len_bytes => {
                let file = self.ring_file(file);
                self.start(
                    ticket,
                    file,
                    Work::Read {
                        offset,
                        len_bytes,
                        buf,
                    },
                );
            }
            Op::Sync { file } => {
                let file = self.ring_file(file);
                self.start(ticket, file, Work::Sync);
            }
            Op::Allocate { file, len_bytes } => {
                let file = self.ring_file(file);
                self.start(ticket, file, Work::Allocate { len_bytes });
            }
            Op::SyncDir { path } => {
                let directory = self.files.open_directory(&path).map_err(io::Error::from);
                let directory = directory.map(|fd| Rc::new(ring_file(fd)));
                self.start(ticket, directory, Work::SyncAll);
            }
            op => {
                if let Op::Close { file } = &op {
                    self.rings.remove(file);
                }
                let (result, buf) = self.files.perform(op);
                self.finish(ticket, result, buf);
            }
        }
        ticket
    }

    fn complete(&mut self) -> Completion {
        assert!(
            self.in_flight_count != 0,
            "complete is called only while something is in flight"
        );
        self.wait()
    }

    fn in_flight_count(&self) -> usize {
        self.in_flight_count
    }

    fn kind(&self) -> DiskKind {
        DiskKind::TokioUring
    }
}

impl Drop for TokioUringDisk {
    fn drop(&mut self) {
        while self.in_flight_count != 0 {
            self.wait();
        }
    }
}
