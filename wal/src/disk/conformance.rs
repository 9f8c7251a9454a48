//! One suite for every implementation of the disk: what the trait promises, case by case.

use std::io::{self, ErrorKind};

use super::{
    AlignedBuf, Disk, DiskKind, FileId, IoUringDisk, Op, OpenDisk, OpenMode, Output, RealRoot,
    SimOptions, SimWorld, ThreadDisk, Ticket, TokioUringDisk, WriteSync,
};

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
    let mut real = |make: fn(RealRoot) -> Box<dyn Disk>| {
        let directory = tempfile::tempdir().expect("a temporary directory");
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
    subjects
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
fn every_write_form_reads_back_and_reports_its_whole_length() {
    check(|disk| {
        for (index, sync) in [WriteSync::None, WriteSync::Data, WriteSync::LinkedSync]
            .into_iter()
            .enumerate()
        {
            let file = create(disk, &format!("file-{index}"), b"");
            let bytes = vec![7; 5000];
            assert_eq!(write(disk, file, 0, &bytes, sync).expect("writes"), 5000);
            assert_eq!(read(disk, file, 0, 5000).expect("reads"), bytes);
            assert_eq!(write(disk, file, 1000, b"inside", sync).expect("writes"), 6);
            assert_eq!(
                read(disk, file, 998, 10).expect("reads"),
                b"\x07\x07inside\x07\x07"
            );
            assert_eq!(len(disk, file), 5000);
            assert_eq!(write(disk, file, 0, b"", sync).expect("writes nothing"), 0);
        }
    });
}

#[test]
fn a_read_at_the_end_is_short_and_behind_it_empty() {
    check(|disk| {
        let file = create(disk, "file", b"0123456789");
        assert_eq!(read(disk, file, 4, 100).expect("reads"), b"456789");
        assert_eq!(read(disk, file, 10, 100).expect("reads"), b"");
        assert_eq!(read(disk, file, 1000, 100).expect("reads"), b"");
        assert_eq!(read(disk, file, 2, 0).expect("reads"), b"");
    });
}

#[test]
fn a_write_behind_the_end_leaves_zeros_between() {
    check(|disk| {
        let file = create(disk, "file", b"ab");
        write(disk, file, 6, b"cd", WriteSync::None).expect("writes");
        assert_eq!(read(disk, file, 0, 100).expect("reads"), b"ab\0\0\0\0cd");
    });
}

#[test]
fn the_modes_of_opening_create_empty_or_refuse() {
    check(|disk| {
        for mode in [
            OpenMode::Read,
            OpenMode::ReadDirect,
            OpenMode::Write,
            OpenMode::WriteDirect,
        ] {
            let error = open(disk, "file", mode).expect_err("nothing to open");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{mode:?}");
        }
        create(disk, "file", b"content");
        let error = open(disk, "file", OpenMode::CreateNew).expect_err("it is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let reader = open(disk, "file", OpenMode::Read).expect("opens");
        assert!(write(disk, reader, 0, b"x", WriteSync::None).is_err());
        assert_eq!(read(disk, reader, 0, 100).expect("reads"), b"content");
        let writer = open(disk, "file", OpenMode::Write).expect("opens");
        write(disk, writer, 0, b"C", WriteSync::None).expect("writes");
        assert_eq!(read(disk, writer, 0, 100).expect("reads"), b"Content");
        let emptied = open(disk, "file", OpenMode::CreateTruncate).expect("opens");
        assert_eq!(len(disk, emptied), 0);
        assert_eq!(read(disk, reader, 0, 100).expect("reads"), b"");
        open(disk, "other", OpenMode::CreateTruncate).expect("creates");
        assert_eq!(names(disk, ""), ["file", "other"]);
    });
}

#[test]
fn direct_transfers_of_whole_blocks_agree_with_ordinary_ones() {
    check(|disk| {
        let ordinary = create(disk, "file", &[0; 16_384]);
        run(disk, Op::Sync { file: ordinary }).expect("syncs");
        let direct = open(disk, "file", OpenMode::WriteDirect).expect("opens");
        for (block, sync) in [
            (0, WriteSync::None),
            (1, WriteSync::Data),
            (2, WriteSync::LinkedSync),
        ] {
            let bytes = [u8::try_from(block + 1).expect("small"); 4096];
            let count = write(disk, direct, block * 4096, &bytes, sync).expect("writes");
            assert_eq!(count, 4096);
        }
        let whole = read(disk, ordinary, 0, 16_384).expect("reads");
        assert_eq!(
            whole.chunks(4096).map(|block| block[0]).collect::<Vec<_>>(),
            [1, 2, 3, 0]
        );
        let around = open(disk, "file", OpenMode::ReadDirect).expect("opens");
        assert_eq!(read(disk, around, 0, 16_384).expect("reads"), whole);
        assert_eq!(read(disk, around, 12_288, 8192).expect("reads"), [0; 4096]);
    });
}

#[test]
fn a_closed_file_is_refused_by_every_operation() {
    check(|disk| {
        let file = create(disk, "file", b"content");
        run(disk, Op::Close { file }).expect("closes");
        assert!(run(disk, Op::Close { file }).is_err());
        assert!(write(disk, file, 0, b"x", WriteSync::None).is_err());
        assert!(write(disk, file, 0, b"x", WriteSync::LinkedSync).is_err());
        assert!(read(disk, file, 0, 1).is_err());
        assert!(run(disk, Op::Sync { file }).is_err());
        assert!(run(disk, Op::FileLen { file }).is_err());
        assert!(run(disk, Op::SetLen { file, len_bytes: 1 }).is_err());
        assert!(run(disk, Op::Allocate { file, len_bytes: 1 }).is_err());
        let again = open(disk, "file", OpenMode::Read).expect("opens");
        assert_ne!(again, file);
    });
}

#[test]
fn lengths_are_set_and_reserved_space_reads_as_zeros() {
    check(|disk| {
        let file = create(disk, "file", b"0123456789");
        run(disk, Op::SetLen { file, len_bytes: 4 }).expect("cuts");
        run(disk, Op::SetLen { file, len_bytes: 6 }).expect("extends");
        assert_eq!(read(disk, file, 0, 100).expect("reads"), b"0123\0\0");
        run(
            disk,
            Op::Allocate {
                file,
                len_bytes: 8192,
            },
        )
        .expect("reserves");
        assert_eq!(len(disk, file), 8192);
        assert_eq!(read(disk, file, 4, 8192).expect("reads"), [0; 8188]);
        run(
            disk,
            Op::Allocate {
                file,
                len_bytes: 100,
            },
        )
        .expect("is reserved already");
        assert_eq!(len(disk, file), 8192);
        run(disk, Op::Sync { file }).expect("syncs");
    });
}

#[test]
fn names_are_created_renamed_removed_and_listed() {
    check(|disk| {
        let rename = |from: &str, to: &str| Op::Rename {
            from: from.into(),
            to: to.into(),
        };
        run(disk, Op::CreateDir { path: "WAL".into() }).expect("creates");
        let again = run(disk, Op::CreateDir { path: "WAL".into() });
        assert_eq!(kind_of(again), ErrorKind::AlreadyExists);
        create(disk, "WAL/a", b"a");
        create(disk, "WAL/b", b"b");
        create(disk, "top", b"");
        assert_eq!(names(disk, ""), ["WAL", "top"]);
        assert_eq!(names(disk, "WAL"), ["a", "b"]);
        run(disk, rename("WAL/a", "WAL/b")).expect("replaces");
        let file = open(disk, "WAL/b", OpenMode::Read).expect("opens");
        assert_eq!(read(disk, file, 0, 10).expect("reads"), b"a");
        run(disk, rename("WAL/b", "moved")).expect("moves");
        assert_eq!(names(disk, "WAL"), [""; 0]);
        run(disk, Op::SyncDir { path: "WAL".into() }).expect("syncs");
        run(
            disk,
            Op::SyncDir {
                path: String::new(),
            },
        )
        .expect("syncs");
        run(
            disk,
            Op::Unlink {
                path: "moved".into(),
            },
        )
        .expect("removes");
        // An open file outlives its name.
        assert_eq!(read(disk, file, 0, 10).expect("reads"), b"a");
        assert_eq!(
            kind_of(run(
                disk,
                Op::Unlink {
                    path: "moved".into()
                }
            )),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind_of(run(disk, rename("moved", "x"))),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind_of(run(disk, Op::SyncDir { path: "no".into() })),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind_of(run(disk, Op::List { path: "no".into() })),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind_of(run(disk, Op::List { path: "top".into() })),
            ErrorKind::NotADirectory
        );
        assert!(run(disk, Op::Unlink { path: "WAL".into() }).is_err());
        assert!(open(disk, "top/x", OpenMode::CreateNew).is_err());
        assert!(open(disk, "no/x", OpenMode::CreateNew).is_err());
        assert_eq!(names(disk, ""), ["WAL", "top"]);
    });
}

#[test]
fn no_path_leaves_the_directory() {
    check(|disk| {
        create(disk, "file", b"");
        for path in [
            "..",
            ".",
            "../file",
            "/file",
            "/etc/passwd",
            "a/../file",
            "./file",
            "file/",
        ] {
            for mode in [OpenMode::Read, OpenMode::CreateTruncate] {
                assert!(open(disk, path, mode).is_err(), "{path} {mode:?}");
            }
            let path = path.to_owned();
            assert!(
                run(disk, Op::Unlink { path: path.clone() }).is_err(),
                "{path}"
            );
            let rename = Op::Rename {
                from: "file".to_owned(),
                to: path.clone(),
            };
            assert!(run(disk, rename).is_err(), "{path}");
            assert!(
                run(disk, Op::CreateDir { path: path.clone() }).is_err(),
                "{path}"
            );
            assert!(
                run(disk, Op::List { path: path.clone() }).is_err(),
                "{path}"
            );
            assert!(
                run(disk, Op::SyncDir { path: path.clone() }).is_err(),
                "{path}"
            );
        }
        assert!(
            run(
                disk,
                Op::Unlink {
                    path: String::new()
                }
            )
            .is_err()
        );
        assert!(open(disk, "", OpenMode::CreateNew).is_err());
        assert_eq!(names(disk, ""), ["file"]);
    });
}

#[test]
fn many_operations_in_flight_each_finish_once_with_their_own_buffer() {
    const COUNT: u64 = 300;
    check(|disk| {
        let file = create(disk, "file", b"");
        let mut open_tickets: Vec<(Ticket, u8)> = Vec::new();
        for index in 0..COUNT {
            let byte = u8::try_from(index % 251).expect("small");
            let sync = if index % 50 == 0 {
                WriteSync::LinkedSync
            } else {
                WriteSync::None
            };
            let buf = AlignedBuf::from(&[byte; 100][..]);
            let ticket = disk.submit(Op::Write {
                file,
                offset: index * 100,
                buf,
                sync,
            });
            open_tickets.push((ticket, byte));
        }
        assert_eq!(disk.in_flight_count(), 300);
        for left in (0..300).rev() {
            let done = disk.complete();
            assert_eq!(disk.in_flight_count(), left);
            let at = open_tickets
                .iter()
                .position(|(ticket, _)| *ticket == done.ticket);
            let (_, byte) = open_tickets.remove(at.expect("a ticket in flight"));
            assert_eq!(&**done.buf.as_ref().expect("its buffer"), &[byte; 100]);
            assert_eq!(
                done.result.expect("written"),
                Output::Written { count: 100 }
            );
        }
        assert_eq!(len(disk, file), COUNT * 100);
        for index in 0..COUNT {
            let byte = u8::try_from(index % 251).expect("small");
            assert_eq!(
                read(disk, file, index * 100, 100).expect("reads"),
                [byte; 100]
            );
        }
    });
}

#[test]
fn operations_in_flight_take_effect_when_the_disk_is_dropped() {
    for subject in subjects() {
        let mut disk = (subject.open)();
        println!("{}", disk.kind());
        let file = create(&mut *disk, "file", b"");
        for index in 0..20_u64 {
            let buf = AlignedBuf::from(&[9; 4096][..]);
            disk.submit(Op::Write {
                file,
                offset: index * 4096,
                buf,
                sync: WriteSync::LinkedSync,
            });
        }
        drop(disk);
        let mut disk = (subject.open)();
        let file = open(&mut *disk, "file", OpenMode::Read).expect("opens");
        assert_eq!(
            read(&mut *disk, file, 0, 20 * 4096).expect("reads"),
            [9; 20 * 4096]
        );
    }
}

#[test]
fn a_link_is_never_followed_and_files_are_private() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    for subject in subjects() {
        let Some(directory) = &subject.directory else {
            continue;
        };
        let mut disk = (subject.open)();
        println!("{}", disk.kind());
        let outside = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(outside.path().join("secret"), b"secret").expect("writes");
        symlink(outside.path().join("secret"), directory.path().join("file")).expect("links");
        symlink(outside.path(), directory.path().join("WAL")).expect("links");
        for path in ["file", "WAL/secret", "WAL/new"] {
            for mode in [OpenMode::Read, OpenMode::Write, OpenMode::CreateTruncate] {
                assert!(open(&mut *disk, path, mode).is_err(), "{path} {mode:?}");
            }
        }
        assert!(run(&mut *disk, Op::List { path: "WAL".into() }).is_err());
        assert!(
            run(
                &mut *disk,
                Op::Unlink {
                    path: "WAL/secret".into()
                }
            )
            .is_err()
        );
        assert_eq!(
            std::fs::read(outside.path().join("secret")).expect("reads"),
            b"secret"
        );
        create(&mut *disk, "mine", b"");
        run(&mut *disk, Op::CreateDir { path: "dir".into() }).expect("creates");
        let mode = |name: &str| {
            let metadata = std::fs::metadata(directory.path().join(name)).expect("exists");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode("mine"), 0o600);
        assert_eq!(mode("dir"), 0o700);
    }
}

#[test]
fn every_implementation_is_a_subject() {
    let kinds: Vec<DiskKind> = subjects()
        .iter()
        .map(|subject| (subject.open)().kind())
        .collect();
    assert_eq!(
        kinds,
        [
            DiskKind::Simulated,
            DiskKind::Thread,
            DiskKind::IoUring,
            DiskKind::TokioUring
        ]
    );
}
