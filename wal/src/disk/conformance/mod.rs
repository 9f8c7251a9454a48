//! One suite for every implementation of the disk: what the trait promises, case by case.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::{
    AlignedBuf, Disk, DiskKind, FileId, IoUringDisk, Op, OpenDisk, OpenMode, Output, RealRoot,
    SimOptions, SimWorld, ThreadDisk, Ticket, TokioUringDisk, WriteSync,
};

mod names;
mod transfers;

/// A disk under test, and a way to look at the same directory again.
struct Subject {
    open: Box<dyn Fn() -> Box<dyn Disk>>,
    /// The directory of a real disk; it goes when the subject does.
    directory: Option<tempfile::TempDir>,
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    let world = SimWorld::new(SimOptions::new(1));
    subjects.push(Subject {
        open: Box::new(move || world.open_disk().expect("opens")),
        directory: None,
    });
    for place in places() {
        let mut real = |make: fn(RealRoot) -> Box<dyn Disk>| {
            let directory = tempfile::tempdir_in(&place).expect("a temporary directory");
            let root = RealRoot::open(directory.path()).expect("opens");
            let open = Box::new(move || make(root.clone()));
            subjects.push(Subject {
                open,
                directory: Some(directory),
            });
        };
        real(|root| Box::new(ThreadDisk::new(root)));
        real(|root| Box::new(IoUringDisk::new(root).expect("a ring")));
        real(|root| Box::new(TokioUringDisk::new(root).expect("a ring")));
    }
    subjects
}

/// File systems to run on: that of the temporary directory, and memory where there is one.
fn places() -> Vec<PathBuf> {
    let mut places = vec![std::env::temp_dir()];
    places.extend(Some(PathBuf::from("/dev/shm")).filter(|memory| memory.is_dir()));
    places
}

/// Runs one operation to its end.
fn run(disk: &mut dyn Disk, op: Op) -> io::Result<Output> {
    run_with_buf(disk, op).0
}

fn run_with_buf(disk: &mut dyn Disk, op: Op) -> (io::Result<Output>, Option<AlignedBuf>) {
    let ticket = disk.submit(op);
    let completion = disk.complete();
    assert_eq!(completion.ticket, ticket);
    (completion.result, completion.buf)
}

fn open(disk: &mut dyn Disk, path: &str, mode: OpenMode) -> io::Result<FileId> {
    match run(
        disk,
        Op::Open {
            path: path.to_owned(),
            mode,
        },
    )? {
        Output::File(file) => Ok(file),
        output => panic!("opening gave {output:?}"),
    }
}

fn create(disk: &mut dyn Disk, path: &str, bytes: &[u8]) -> FileId {
    let file = open(disk, path, OpenMode::CreateNew).expect("creates");
    write(disk, file, 0, bytes, WriteSync::None).expect("writes");
    file
}

fn write(
    disk: &mut dyn Disk,
    file: FileId,
    offset: u64,
    bytes: &[u8],
    sync: WriteSync,
) -> io::Result<usize> {
    let buf = AlignedBuf::from(bytes);
    let (result, buf) = run_with_buf(
        disk,
        Op::Write {
            file,
            offset,
            buf,
            sync,
        },
    );
    assert_eq!(
        &**buf.as_ref().expect("a write gives its buffer back"),
        bytes
    );
    match result? {
        Output::Written { count } => Ok(count),
        output => panic!("a write gave {output:?}"),
    }
}

fn read(disk: &mut dyn Disk, file: FileId, offset: u64, len_bytes: usize) -> io::Result<Vec<u8>> {
    // Old content longer than the read, so that a read that does not replace it shows.
    let buf = AlignedBuf::from(&[0xEE; 10_000][..]);
    let (result, buf) = run_with_buf(
        disk,
        Op::Read {
            file,
            offset,
            len_bytes,
            buf,
        },
    );
    let buf = buf.expect("a read gives its buffer back");
    match result? {
        Output::Read { count } => {
            assert_eq!(count, buf.len());
            Ok(buf.to_vec())
        }
        output => panic!("a read gave {output:?}"),
    }
}

fn len(disk: &mut dyn Disk, file: FileId) -> u64 {
    match run(disk, Op::FileLen { file }).expect("a length") {
        Output::Len(len) => len,
        output => panic!("a length gave {output:?}"),
    }
}

fn names(disk: &mut dyn Disk, path: &str) -> Vec<String> {
    match run(
        disk,
        Op::List {
            path: path.to_owned(),
        },
    )
    .expect("a listing")
    {
        Output::Names(mut names) => {
            names.sort();
            names
        }
        output => panic!("a listing gave {output:?}"),
    }
}

fn kind_of(result: io::Result<Output>) -> ErrorKind {
    result.expect_err("an error").kind()
}

fn check(case: fn(&mut dyn Disk)) {
    for subject in subjects() {
        let mut disk = (subject.open)();
        println!("{}", disk.kind());
        case(&mut *disk);
        assert_eq!(disk.in_flight_count(), 0);
    }
}

#[test]
fn every_implementation_is_a_subject_on_every_file_system() {
    let kinds: Vec<DiskKind> = subjects()
        .iter()
        .map(|subject| (subject.open)().kind())
        .collect();
    let real = [DiskKind::Thread, DiskKind::IoUring, DiskKind::TokioUring];
    let expected = [&[DiskKind::Simulated][..], &real.repeat(places().len())].concat();
    assert_eq!(kinds, expected);
}
