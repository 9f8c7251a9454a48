//! Each rule of the crash and fault model, shown on its own.

use std::collections::BTreeSet;

use super::super::{AlignedBuf, FileId, Op, OpenMode, Output, Ticket, WriteSync};
use super::*;

mod data;
mod faults;
mod names;
mod world;

fn world() -> SimWorld {
    SimWorld::new(SimOptions::new(42))
}

fn run(disk: &mut SimDisk, op: Op) -> io::Result<Output> {
    disk.submit(op);
    disk.complete().result
}

fn open(disk: &mut SimDisk, path: &str, mode: OpenMode) -> FileId {
    match run(
        disk,
        Op::Open {
            path: path.to_owned(),
            mode,
        },
    ) {
        Ok(Output::File(file)) => file,
        other => panic!("opening {path} gave {other:?}"),
    }
}

fn write(disk: &mut SimDisk, file: FileId, offset: u64, bytes: &[u8], sync: WriteSync) -> Ticket {
    disk.submit(Op::Write {
        file,
        offset,
        buf: AlignedBuf::from(bytes),
        sync,
    })
}

fn written(
    disk: &mut SimDisk,
    file: FileId,
    offset: u64,
    bytes: &[u8],
    sync: WriteSync,
) -> io::Result<usize> {
    write(disk, file, offset, bytes, sync);
    match disk.complete().result? {
        Output::Written { count } => Ok(count),
        output => panic!("a write gave {output:?}"),
    }
}

fn read(disk: &mut SimDisk, file: FileId, len_bytes: usize) -> io::Result<Vec<u8>> {
    disk.submit(Op::Read {
        file,
        offset: 0,
        len_bytes,
        buf: AlignedBuf::new(),
    });
    let done = disk.complete();
    let buf = done.buf.expect("a buffer");
    done.result.map(|_| buf.to_vec())
}

fn sync(disk: &mut SimDisk, file: FileId) -> io::Result<Output> {
    run(disk, Op::Sync { file })
}

fn sync_dir(disk: &mut SimDisk, path: &str) {
    run(
        disk,
        Op::SyncDir {
            path: path.to_owned(),
        },
    )
    .expect("syncs");
}

fn rename(disk: &mut SimDisk, from: &str, to: &str) {
    run(
        disk,
        Op::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        },
    )
    .expect("renames");
}

/// A durable file "file" of `len` bytes of `byte`, opened for writing.
fn with_file(world: &SimWorld, len: usize, byte: u8) -> (SimDisk, FileId) {
    world.write_file("file", &vec![byte; len]);
    let mut disk = world.disk();
    let file = open(&mut disk, "file", OpenMode::Write);
    (disk, file)
}

/// What "file" holds in each of `count` images.
fn contents(world: &SimWorld, count: u64) -> BTreeSet<Option<Vec<u8>>> {
    (0..count)
        .map(|seed| world.crash(seed, CrashMode::Subset).read_file("file"))
        .collect()
}

fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error()
}
