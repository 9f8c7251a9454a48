//! Reading, writing, lengths, and many operations at once.

use super::*;

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

/// Set in the child process of the test below.
const IS_CHILD: &str = "IN_MEM_WAL_SHORT_WRITE_CHILD";

#[test]
fn a_short_write_is_reported_and_is_no_error() {
    // A limit on the file size makes the kernel write short. It is the process's, so the case
    // runs in a process of its own.
    let name = "disk::conformance::transfers::a_short_write_is_reported_and_is_no_error";
    if std::env::var_os(IS_CHILD).is_none() {
        let program = std::env::current_exe().expect("this program");
        let mut child = std::process::Command::new(program);
        let child = child
            .args(["--exact", name, "--nocapture"])
            .env(IS_CHILD, "1");
        let output = child.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let case_count = text.matches("whole, short, refused").count();
        assert_eq!(case_count, 9 * places().len());
        return;
    }
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGXFSZ);
    signals.thread_block().expect("blocks");
    let before = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let limit = rustix::process::Rlimit {
        current: Some(8192),
        maximum: before.maximum,
    };
    for subject in subjects()
        .into_iter()
        .filter(|subject| subject.directory.is_some())
    {
        let mut disk = (subject.open)();
        for sync in [WriteSync::None, WriteSync::Data, WriteSync::LinkedSync] {
            let file = create(&mut *disk, &format!("{sync:?}"), b"");
            rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).expect("limits");
            let counts = [(0, 4096), (4096, 10_000), (8192, 4096)]
                .map(|(at, len)| write(&mut *disk, file, at, &vec![7; len], sync));
            rustix::process::setrlimit(rustix::process::Resource::Fsize, before).expect("lifts");
            let [whole, short, refused] = counts;
            assert_eq!(whole.expect("fits"), 4096);
            assert_eq!(short.expect("is short"), 4096);
            assert_eq!(
                refused.expect_err("no room").kind(),
                ErrorKind::FileTooLarge
            );
            println!("{} {sync:?}: whole, short, refused", disk.kind());
        }
    }
}
