//! Each rule of the crash and fault model, shown on its own.

use std::collections::BTreeSet;

use super::super::{FileId, Op, OpenMode, WriteSync};
use super::*;

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

#[test]
fn synced_bytes_survive_every_power_loss() {
    let forms: [(WriteSync, bool); 3] = [
        (WriteSync::None, true),
        (WriteSync::Data, false),
        (WriteSync::LinkedSync, false),
    ];
    for (form, needs_sync) in forms {
        let world = world();
        let (mut disk, file) = with_file(&world, 4096, 1);
        assert_eq!(
            written(&mut disk, file, 1000, &[2; 2000], form).expect("writes"),
            2000
        );
        if needs_sync {
            sync(&mut disk, file).expect("syncs");
        }
        assert!(world.unsynced_is_empty());
        let images = contents(&world, 200);
        assert_eq!(images.len(), 1, "{form:?}");
        assert_eq!(
            images.first().cloned().flatten(),
            world.read_file("file"),
            "{form:?}"
        );
    }
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_at_sectors_and_at_bytes() {
    let world = world();
    let (mut disk, file) = with_file(&world, 4096, 1);
    written(&mut disk, file, 512, &[2; 2048], WriteSync::None).expect("writes");
    assert!(!world.unsynced_is_empty());
    let images = contents(&world, 2000);
    let of = |content: &Option<Vec<u8>>| content.clone().expect("the file stays");
    let (mut kept, mut lost, mut at_sector, mut at_byte, mut holes) = (0, 0, 0, 0, 0);
    for content in images.iter().map(of) {
        assert_eq!(content.len(), 4096);
        assert!(
            content[..512]
                .iter()
                .chain(&content[2560..])
                .all(|byte| *byte == 1)
        );
        let changes: Vec<usize> = (513..2560)
            .filter(|at| content[*at] != content[*at - 1])
            .collect();
        match (&changes[..], content[512]) {
            ([], 2) => kept += 1,
            ([], _) => lost += 1,
            (cuts, _) if cuts.iter().any(|cut| cut % 512 != 0) => at_byte += 1,
            ([_], _) => at_sector += 1,
            _ => holes += 1,
        }
    }
    let seen = (kept, lost, at_sector > 3, at_byte > 100, holes > 3);
    assert_eq!(
        seen,
        (1, 1, true, true, true),
        "{at_sector} {at_byte} {holes}"
    );
}

#[test]
fn a_later_write_may_be_kept_while_an_earlier_one_is_lost() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1024, 1);
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 512, &[3; 512], WriteSync::None).expect("writes");
    let images = contents(&world, 300);
    for (first, second) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
        let content = [[first; 512], [second; 512]].concat();
        assert!(images.contains(&Some(content)), "{first} {second}");
    }
}

#[test]
fn a_data_write_covers_its_own_bytes_and_nothing_before_it() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1024, 1);
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 256, &[3; 512], WriteSync::Data).expect("writes");
    let mut first_bytes = BTreeSet::new();
    for content in contents(&world, 300).into_iter().flatten() {
        assert_eq!(content[256..768], [3; 512]);
        first_bytes.insert(content[0]);
    }
    assert_eq!(first_bytes, BTreeSet::from([1, 2]));
    // A linked one covers both.
    written(&mut disk, file, 768, &[4; 256], WriteSync::LinkedSync).expect("writes");
    assert_eq!(contents(&world, 100).len(), 1);
}

#[test]
fn the_length_is_independent_of_the_bytes_and_new_bytes_are_zero_or_stale() {
    let world = world();
    world.write_file("old", &[7; 4096]);
    let (mut disk, file) = with_file(&world, 0, 0);
    run(&mut disk, Op::Unlink { path: "old".into() }).expect("removes");
    sync_dir(&mut disk, "");
    written(&mut disk, file, 0, &[2; 1024], WriteSync::None).expect("writes");
    let mut seen = BTreeSet::new();
    for content in contents(&world, 500).into_iter().flatten() {
        seen.insert((content.len(), content.first().copied()));
    }
    let expected = [(0, None), (1024, Some(0)), (1024, Some(2)), (1024, Some(7))];
    for image in expected {
        assert!(seen.contains(&image), "{image:?} is not among {seen:?}");
    }
}

#[test]
fn a_length_covered_by_a_durable_write_is_never_cut() {
    let world = world();
    let (mut disk, file) = with_file(&world, 0, 0);
    written(&mut disk, file, 0, &[1; 512], WriteSync::None).expect("writes");
    written(&mut disk, file, 512, &[2; 512], WriteSync::Data).expect("writes");
    written(&mut disk, file, 1024, &[3; 512], WriteSync::None).expect("writes");
    for content in contents(&world, 300).into_iter().flatten() {
        assert!(1024 <= content.len(), "{}", content.len());
        assert_eq!(content[512..1024], [2; 512]);
    }
}

#[test]
fn a_cut_or_a_reservation_is_kept_or_lost() {
    let world = world();
    let (mut disk, file) = with_file(&world, 1000, 1);
    run(
        &mut disk,
        Op::SetLen {
            file,
            len_bytes: 100,
        },
    )
    .expect("cuts");
    run(
        &mut disk,
        Op::Allocate {
            file,
            len_bytes: 8192,
        },
    )
    .expect("reserves");
    let lens: BTreeSet<usize> = contents(&world, 300)
        .into_iter()
        .flatten()
        .map(|content| content.len())
        .collect();
    assert!(
        lens.is_superset(&BTreeSet::from([100, 1000, 8192])),
        "{lens:?}"
    );
    sync(&mut disk, file).expect("syncs");
    assert_eq!(contents(&world, 50).len(), 1);
}

#[test]
fn after_a_failed_sync_bytes_read_as_new_until_reboot_and_as_old_after() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Sync).times(1));
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    assert_eq!(
        errno(&sync(&mut disk, file).expect_err("fails")),
        Some(libc::EIO)
    );
    // Trying again reports success and saves nothing.
    sync(&mut disk, file).expect("says so");
    assert_eq!(read(&mut disk, file, 512).expect("reads"), [2; 512]);
    assert_eq!(world.kill(1).read_file("file"), Some(vec![2; 512]));
    assert_eq!(
        world.kill(1).crash(1, CrashMode::Prefix).read_file("file"),
        Some(vec![1; 512])
    );
    assert_eq!(contents(&world, 100), BTreeSet::from([Some(vec![1; 512])]));
    // Around the cache the truth shows.
    let direct = open(&mut disk, "file", OpenMode::ReadDirect);
    assert_eq!(read(&mut disk, direct, 512).expect("reads"), [1; 512]);
    // What is written after it is saved again.
    written(&mut disk, file, 0, &[3; 100], WriteSync::LinkedSync).expect("writes");
    let expected = [vec![3; 100], vec![1; 412]].concat();
    assert_eq!(contents(&world, 100), BTreeSet::from([Some(expected)]));
}

#[test]
fn a_failed_synced_write_is_in_the_cache_or_not_and_never_durable() {
    for form in [WriteSync::Data, WriteSync::LinkedSync] {
        let mut shown = BTreeSet::new();
        for seed in 0..40 {
            let world = SimWorld::new(SimOptions::new(seed));
            let (mut disk, file) = with_file(&world, 512, 1);
            world.add_rule(FaultRule::new(Fault::Io).on(OpKind::WriteSynced));
            let error = written(&mut disk, file, 0, &[2; 512], form).expect_err("fails");
            assert_eq!(errno(&error), Some(libc::EIO));
            shown.insert(world.read_file("file").expect("exists")[511]);
            let certain = world.crash_choosing(true, |_| WriteFate::Lost);
            assert_eq!(certain.read_file("file"), Some(vec![1; 512]), "seed {seed}");
        }
        assert_eq!(shown, BTreeSet::from([1, 2]), "{form:?}");
    }
}

#[test]
fn an_error_of_background_writing_is_told_by_the_next_sync_once() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    world.add_rule(FaultRule::new(Fault::WritebackError).times(1));
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("is not told");
    assert_eq!(
        errno(&sync(&mut disk, file).expect_err("is told")),
        Some(libc::EIO)
    );
    sync(&mut disk, file).expect("is not told twice");
    assert_eq!(contents(&world, 50), BTreeSet::from([Some(vec![1; 512])]));
    world.add_rule(FaultRule::new(Fault::WritebackError).times(1));
    let result = written(&mut disk, file, 0, &[3; 512], WriteSync::Data);
    assert_eq!(errno(&result.expect_err("is told")), Some(libc::EIO));
    assert_eq!(contents(&world, 50), BTreeSet::from([Some(vec![1; 512])]));
}

#[test]
fn a_lost_sync_error_loses_the_bytes_in_silence() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    world.add_rule(FaultRule::new(Fault::SyncErrorLost));
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    sync(&mut disk, file).expect("lies");
    written(&mut disk, file, 0, &[3; 512], WriteSync::Data).expect("lies");
    written(&mut disk, file, 0, &[4; 512], WriteSync::LinkedSync).expect("lies");
    assert_eq!(read(&mut disk, file, 512).expect("reads"), [4; 512]);
    assert_eq!(contents(&world, 50), BTreeSet::from([Some(vec![1; 512])]));
}

#[test]
fn a_short_write_reports_its_count_and_breaks_its_link() {
    for form in [WriteSync::None, WriteSync::Data, WriteSync::LinkedSync] {
        let world = world();
        let (mut disk, file) = with_file(&world, 4096, 1);
        written(&mut disk, file, 0, &[9; 512], WriteSync::None).expect("writes");
        world.add_rule(FaultRule::new(Fault::ShortWrite));
        let count = written(&mut disk, file, 512, &[2; 2048], form).expect("writes");
        assert!(count < 2048, "{count}");
        let content = world.read_file("file").expect("exists");
        assert!(content[512..512 + count].iter().all(|byte| *byte == 2));
        assert!(content[512 + count..].iter().all(|byte| *byte == 1));
        // The earlier write is still unsynced: no sync happened.
        assert!(!world.unsynced_is_empty(), "{form:?}");
        let lost = world
            .crash_choosing(true, |_| WriteFate::Lost)
            .read_file("file");
        assert_eq!(lost.expect("exists")[0], 1, "{form:?}");
    }
}

#[test]
fn a_broken_link_leaves_the_bytes_unsynced() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    world.add_rule(FaultRule::new(Fault::BrokenLink));
    let error = written(&mut disk, file, 0, &[2; 512], WriteSync::LinkedSync).expect_err("fails");
    assert_eq!(errno(&error), Some(libc::ECANCELED));
    let images = contents(&world, 100);
    assert!(images.contains(&Some(vec![1; 512])));
    assert!(images.contains(&Some(vec![2; 512])));
}

#[test]
fn plain_faults_have_their_errno_and_no_effect() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    for (fault, expected) in [
        (Fault::NoSpace, libc::ENOSPC),
        (Fault::Interrupted, libc::EINTR),
    ] {
        world.add_rule(FaultRule::new(fault).on(OpKind::Write).times(1));
        let error = written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect_err("fails");
        assert_eq!(errno(&error), Some(expected));
        world.add_rule(FaultRule::new(fault).on(OpKind::Create).times(1));
        let create = Op::Open {
            path: "new".into(),
            mode: OpenMode::CreateNew,
        };
        assert_eq!(
            errno(&run(&mut disk, create).expect_err("fails")),
            Some(expected)
        );
    }
    world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Read));
    assert_eq!(
        errno(&read(&mut disk, file, 512).expect_err("fails")),
        Some(libc::EIO)
    );
    world.clear_faults();
    assert_eq!(read(&mut disk, file, 512).expect("reads"), [1; 512]);
    assert_eq!(world.paths(), ["file"]);
    assert!(world.unsynced_is_empty());
}

#[test]
fn a_short_read_and_bit_rot_change_what_is_read_and_not_the_file() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 0);
    world.add_rule(FaultRule::new(Fault::ShortRead).times(1));
    assert!(read(&mut disk, file, 512).expect("reads").len() < 512);
    world.add_rule(FaultRule::new(Fault::BitRot).times(1));
    let rotten = read(&mut disk, file, 512).expect("reads");
    assert_eq!(rotten.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(read(&mut disk, file, 512).expect("reads"), [0; 512]);
    assert_eq!(world.fired().len(), 2);
}

#[test]
fn a_failed_rename_or_removal_may_have_happened() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let world = SimWorld::new(SimOptions::new(seed));
        world.write_file("a", b"a");
        world.add_rule(FaultRule::new(Fault::Io).on(OpKind::Rename));
        let mut disk = world.disk();
        run(
            &mut disk,
            Op::Rename {
                from: "a".into(),
                to: "b".into(),
            },
        )
        .expect_err("fails");
        outcomes.insert(world.paths());
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_full_disk_shows_as_a_short_write_then_as_an_error_and_room_helps() {
    let world = world();
    let (mut disk, file) = with_file(&world, 4096, 1);
    world.set_capacity(Some(3 * 4096));
    assert_eq!(world.free_bytes().expect("free"), 2 * 4096);
    // Inside reserved space nothing is needed.
    run(
        &mut disk,
        Op::Allocate {
            file,
            len_bytes: 8192,
        },
    )
    .expect("reserves");
    let result = run(
        &mut disk,
        Op::Allocate {
            file,
            len_bytes: 16_384,
        },
    );
    assert_eq!(errno(&result.expect_err("no room")), Some(libc::ENOSPC));
    let other = open(&mut disk, "other", OpenMode::CreateNew);
    let count = written(&mut disk, other, 100, &[2; 10_000], WriteSync::Data).expect("writes");
    assert_eq!(count, 4096 - 100);
    let result = written(&mut disk, other, 4096, &[2; 100], WriteSync::None);
    assert_eq!(errno(&result.expect_err("no room")), Some(libc::ENOSPC));
    assert_eq!(
        written(&mut disk, file, 0, &[3; 8192], WriteSync::Data).expect("writes"),
        8192
    );
    assert_eq!(world.used_bytes(), 3 * 4096);
    // An open file keeps its space after its name is gone.
    run(
        &mut disk,
        Op::Unlink {
            path: "other".into(),
        },
    )
    .expect("removes");
    assert_eq!(world.used_bytes(), 3 * 4096);
    run(&mut disk, Op::Close { file: other }).expect("closes");
    assert_eq!(world.used_bytes(), 2 * 4096);
    assert_eq!(
        written(&mut disk, file, 8192, &[4; 4096], WriteSync::Data).expect("room"),
        4096
    );
}

#[test]
fn names_without_a_directory_sync_are_kept_as_a_prefix_or_as_any_subset() {
    let world = world();
    world.write_file("WAL/old", b"old");
    let mut disk = world.disk();
    for name in ["WAL/a", "WAL/b"] {
        let file = open(&mut disk, name, OpenMode::CreateNew);
        written(&mut disk, file, 0, name.as_bytes(), WriteSync::LinkedSync).expect("writes");
    }
    run(
        &mut disk,
        Op::Unlink {
            path: "WAL/old".into(),
        },
    )
    .expect("removes");
    let sets = |mode| -> BTreeSet<Vec<String>> {
        (0..400)
            .map(|seed| world.crash(seed, mode).paths())
            .collect()
    };
    let prefixes: [&[&str]; 4] = [
        &["WAL/old"],
        &["WAL/a", "WAL/old"],
        &["WAL/a", "WAL/b", "WAL/old"],
        &["WAL/a", "WAL/b"],
    ];
    let prefixes: BTreeSet<Vec<String>> = prefixes
        .iter()
        .map(|set| set.iter().map(|name| (*name).to_owned()).collect())
        .collect();
    assert_eq!(sets(CrashMode::Prefix), prefixes);
    assert_eq!(sets(CrashMode::Subset).len(), 8);
    sync_dir(&mut disk, "WAL");
    assert_eq!(sets(CrashMode::Subset).len(), 1);
    assert!(world.unsynced_is_empty());
}

#[test]
fn a_synced_file_without_a_synced_name_may_vanish() {
    let world = world();
    let mut disk = world.disk();
    run(&mut disk, Op::CreateDir { path: "WAL".into() }).expect("creates");
    let file = open(&mut disk, "WAL/a", OpenMode::CreateNew);
    written(&mut disk, file, 0, b"bytes", WriteSync::LinkedSync).expect("writes");
    sync_dir(&mut disk, "WAL");
    // The name is durable in a directory that is not.
    let has_file = |seed| {
        world
            .crash(seed, CrashMode::Prefix)
            .read_file("WAL/a")
            .is_some()
    };
    assert!((0..50).any(|seed| !has_file(seed)));
    sync_dir(&mut disk, "");
    assert!((0..50).all(has_file));
}

#[test]
fn an_unsynced_rename_leaves_the_old_file_or_the_new_one_whole() {
    let world = world();
    world.write_file("MANIFEST", b"old");
    let mut disk = world.disk();
    let file = open(&mut disk, "MANIFEST.new", OpenMode::CreateTruncate);
    written(&mut disk, file, 0, b"new", WriteSync::LinkedSync).expect("writes");
    rename(&mut disk, "MANIFEST.new", "MANIFEST");
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        for mode in [CrashMode::Prefix, CrashMode::Subset] {
            seen.extend(world.crash(seed, mode).read_file("MANIFEST"));
        }
    }
    assert_eq!(seen, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
    sync_dir(&mut disk, "");
    let image = world.crash(3, CrashMode::Subset);
    assert_eq!(image.read_file("MANIFEST").as_deref(), Some(&b"new"[..]));
    assert_eq!(image.paths(), ["MANIFEST"]);
}

#[test]
fn a_rename_between_directories_needs_both_synced() {
    let world = world();
    world.write_file("A/file", b"x");
    world.write_file("B/other", b"y");
    let mut disk = world.disk();
    rename(&mut disk, "A/file", "B/file");
    sync_dir(&mut disk, "A");
    let places: BTreeSet<Vec<String>> = (0..50)
        .map(|seed| world.crash(seed, CrashMode::Prefix).paths())
        .collect();
    assert_eq!(
        places.len(),
        2,
        "here or there, never both or neither: {places:?}"
    );
    sync_dir(&mut disk, "B");
    assert!((0..50).all(|seed| world.crash(seed, CrashMode::Prefix).paths().len() == 2));
    assert!(world.unsynced_is_empty());
}

#[test]
fn a_kill_keeps_the_cache_and_what_is_unsynced() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    open(&mut disk, "new", OpenMode::CreateNew);
    let killed = world.kill(5);
    assert_eq!(killed.read_file("file"), Some(vec![2; 512]));
    assert_eq!(killed.paths(), ["file", "new"]);
    assert!(!killed.unsynced_is_empty());
    assert_eq!(killed.fingerprint(), world.fingerprint());
    let images = contents(&killed, 50);
    assert!(images.contains(&Some(vec![1; 512])));
    // The old process's descriptors mean nothing to a new one.
    let mut disk = killed.disk();
    assert_eq!(
        errno(&sync(&mut disk, file).expect_err("closed")),
        Some(libc::EBADF)
    );
}

#[test]
fn an_operation_in_flight_has_happened_or_not() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    write(&mut disk, file, 0, &[2; 512], WriteSync::LinkedSync);
    disk.submit(Op::Rename {
        from: "file".into(),
        to: "moved".into(),
    });
    assert!(!world.unsynced_is_empty());
    for make in [SimWorld::kill, |world: &SimWorld, seed| {
        world.crash(seed, CrashMode::Prefix)
    }] {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let image = make(&world, seed);
            let content = image.read_file("file").or_else(|| image.read_file("moved"));
            seen.insert((image.paths(), content.expect("under one name")[0]));
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
    // The world itself goes on.
    disk.complete();
    disk.complete();
    assert_eq!(world.paths(), ["moved"]);
}

#[test]
fn from_the_crash_on_nothing_takes_effect_and_everything_fails() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    let crash_index = world.op_count() + 1;
    world.crash_at(crash_index);
    written(&mut disk, file, 0, &[2; 512], WriteSync::Data).expect("writes");
    assert!(!world.has_crashed());
    let error = written(&mut disk, file, 0, &[3; 512], WriteSync::Data).expect_err("no power");
    assert!(is_simulated_crash(&error));
    assert!(!is_simulated_crash(&io::Error::from_raw_os_error(
        libc::EIO
    )));
    assert!(world.has_crashed());
    let create = Op::Open {
        path: "new".into(),
        mode: OpenMode::CreateNew,
    };
    assert!(is_simulated_crash(
        &run(&mut disk, create).expect_err("no power")
    ));
    drop(disk);
    assert_eq!(world.paths(), ["file"]);
    let images = contents(&world, 100);
    assert!(images.contains(&Some(vec![2; 512])));
    assert!(images.contains(&Some(vec![3; 512])));
    assert!(images.len() > 3, "torn as well");
    assert!(
        images.iter().flatten().flatten().all(|byte| *byte != 1),
        "what was acked is there"
    );
}

#[test]
fn a_moment_is_kept_for_each_operation_with_it_in_flight() {
    let world = world();
    let (mut disk, file) = with_file(&world, 512, 1);
    world.record_moments();
    let first_index = world.op_count();
    written(&mut disk, file, 0, &[2; 512], WriteSync::None).expect("writes");
    sync(&mut disk, file).expect("syncs");
    sync_dir(&mut disk, "");
    let moments = world.take_moments();
    let seen: Vec<_> = moments
        .iter()
        .map(|moment| (moment.kind, &*moment.path))
        .collect();
    let expected = [
        (OpKind::Write, "file"),
        (OpKind::Sync, "file"),
        (OpKind::SyncDir, ""),
    ];
    assert_eq!(seen, expected);
    assert_eq!(moments[0].op_index, first_index);
    let empty: Vec<bool> = moments
        .iter()
        .map(|moment| moment.world.unsynced_is_empty())
        .collect();
    assert_eq!(empty, [false, false, true]);
    let first = contents(&moments[0].world, 50);
    assert!(first.contains(&Some(vec![1; 512])));
    assert!(first.contains(&Some(vec![2; 512])));
    assert_eq!(
        contents(&moments[2].world, 50),
        BTreeSet::from([Some(vec![2; 512])])
    );
    assert!(world.take_moments().is_empty());
}

#[test]
fn the_seed_decides_everything() {
    let history = |seed| {
        let world = SimWorld::new(SimOptions::new(seed));
        world.add_rule(FaultRule::new(Fault::ShortWrite).chance(300));
        let (mut disk, file) = with_file(&world, 4096, 1);
        for index in 0..50_u64 {
            write(&mut disk, file, index * 64, &[3; 700], WriteSync::None);
        }
        let order: Vec<Ticket> = (0..50).map(|_| disk.complete().ticket).collect();
        let images: Vec<u64> = (0..20)
            .map(|seed| world.crash(seed, CrashMode::Subset).fingerprint())
            .collect();
        (order, images, world.fired().len())
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1).0, history(2).0);
    let (order, images, fired) = history(1);
    assert!(!order.is_sorted(), "operations finish in any order");
    assert!(images.iter().collect::<BTreeSet<_>>().len() > 10);
    assert!((5..30).contains(&fired), "{fired}");
}

#[test]
fn a_delayed_operation_finishes_after_all_others() {
    let world = world();
    let (mut disk, file) = with_file(&world, 4096, 1);
    world.add_rule(FaultRule::new(Fault::Delay).times(1));
    let delayed = write(&mut disk, file, 0, &[2; 64], WriteSync::None);
    for _ in 0..20 {
        write(&mut disk, file, 64, &[3; 64], WriteSync::None);
    }
    let order: Vec<Ticket> = (0..21).map(|_| disk.complete().ticket).collect();
    assert_eq!(order.last(), Some(&delayed));
}

#[test]
fn faults_hit_the_operations_they_name_and_only_where_they_make_sense() {
    let world = world();
    world.write_file("WAL/a", b"");
    let mut disk = world.disk();
    let file = open(&mut disk, "WAL/a", OpenMode::Write);
    let rule = FaultRule::new(Fault::Io)
        .on(OpKind::Write)
        .under("WAL/")
        .after(2)
        .times(1);
    world.add_rule(rule);
    world.fail_at(world.op_count() + 5, Fault::ShortRead);
    world.fail_at(world.op_count() + 6, Fault::NoSpace);
    let mut failed = Vec::new();
    for index in 0..8 {
        if written(&mut disk, file, 0, b"x", WriteSync::None).is_err() {
            failed.push(index);
        }
    }
    assert_eq!(failed, [2, 6]);
    let fired = world.fired();
    assert_eq!(fired.len(), 2);
    assert_eq!(
        (fired[0].fault, fired[1].fault),
        (Fault::Io, Fault::NoSpace)
    );
    assert_eq!(
        (fired[1].kind, fired[1].path.as_str()),
        (OpKind::Write, "WAL/a")
    );
}

#[test]
fn a_lying_disk_loses_what_it_said_was_synced() {
    let file_lies: [fn(String) -> Lie; 2] = [
        |path_prefix| Lie::NoFileSync { path_prefix },
        |path_prefix| Lie::LostSync { path_prefix },
    ];
    for lie in file_lies {
        for form in [WriteSync::None, WriteSync::Data, WriteSync::LinkedSync] {
            let world = world();
            let (mut disk, file) = with_file(&world, 512, 1);
            world.lie(lie("other".into()));
            written(&mut disk, file, 0, &[2; 512], form).expect("writes");
            sync(&mut disk, file).expect("syncs");
            assert_eq!(contents(&world, 50).len(), 1);
            world.lie(lie(String::new()));
            written(&mut disk, file, 0, &[3; 512], form).expect("writes");
            sync(&mut disk, file).expect("lies");
            assert!(contents(&world, 50).contains(&Some(vec![2; 512])));
        }
    }
    let world = world();
    world.lie(Lie::NoDirectorySync {
        path_prefix: String::new(),
    });
    let mut disk = world.disk();
    open(&mut disk, "new", OpenMode::CreateNew);
    sync_dir(&mut disk, "");
    assert!((0..50).any(|seed| world.crash(seed, CrashMode::Prefix).paths().is_empty()));
}

#[test]
fn the_fate_of_each_write_can_be_chosen() {
    let world = world();
    let (mut disk, file) = with_file(&world, 2048, 1);
    written(&mut disk, file, 100, &[2; 1500], WriteSync::None).expect("writes");
    let made = |fate: WriteFate| {
        let image = world.crash_choosing(true, |write| {
            assert_eq!(
                (write.path, write.offset, write.bytes.len()),
                ("file", 100, 1500)
            );
            fate.clone()
        });
        let content = image.read_file("file").expect("exists");
        (0..2048)
            .filter(|at| content[*at] == 2)
            .collect::<Vec<usize>>()
    };
    assert_eq!(made(WriteFate::Kept), (100..1600).collect::<Vec<_>>());
    assert!(made(WriteFate::Lost).is_empty());
    assert_eq!(
        made(WriteFate::Prefix { len_bytes: 7 }),
        (100..107).collect::<Vec<_>>()
    );
    assert_eq!(
        made(WriteFate::Suffix { from_bytes: 1490 }),
        (1590..1600).collect::<Vec<_>>()
    );
    // Sectors are those of the file: 100..512, 512..1024, 1024..1536, 1536..1600.
    let kept = vec![true, false, false, true];
    let expected: Vec<usize> = (100..512).chain(1536..1600).collect();
    assert_eq!(made(WriteFate::Sectors { kept }), expected);
}

#[test]
fn direct_transfers_must_be_aligned() {
    let world = world();
    world.write_file("file", &[0; 4096]);
    let mut disk = world.disk();
    let file = open(&mut disk, "file", OpenMode::WriteDirect);
    for (offset, len) in [(1, 512), (0, 100)] {
        let result = written(&mut disk, file, offset, &vec![1; len], WriteSync::None);
        assert_eq!(errno(&result.expect_err("refused")), Some(libc::EINVAL));
    }
    assert!(read(&mut disk, file, 100).is_err());
    assert_eq!(
        written(&mut disk, file, 512, &[1; 512], WriteSync::Data).expect("fits"),
        512
    );
}

#[test]
fn tests_can_reach_into_the_files() {
    let world = world();
    world.write_file("WAL/a", &[1, 2, 3]);
    let before = world.fingerprint();
    assert!(world.flip_byte("WAL/a", 1, 0xFF));
    assert!(!world.flip_byte("WAL/a", 3, 0xFF));
    assert_eq!(world.read_file("WAL/a"), Some(vec![1, 0xFD, 3]));
    assert_ne!(world.fingerprint(), before);
    assert!(world.truncate("WAL/a", 1));
    assert_eq!(
        world.crash(0, CrashMode::Prefix).read_file("WAL/a"),
        Some(vec![1])
    );
    world.remove_file("WAL/a");
    assert!(!world.truncate("WAL/a", 1));
    assert_eq!(world.read_file("WAL/a"), None);
    let mut disk = world.disk();
    open(&mut disk, "WAL/b", OpenMode::CreateNew);
}

#[test]
fn a_long_life_leaves_no_unreachable_files_behind() {
    let world = world();
    let mut disk = world.disk();
    for round in 0..200_u64 {
        let file = open(&mut disk, "new", OpenMode::CreateTruncate);
        written(&mut disk, file, 0, &[1; 8192], WriteSync::LinkedSync).expect("writes");
        run(&mut disk, Op::Close { file }).expect("closes");
        rename(&mut disk, "new", "kept");
        if round % 3 == 0 {
            sync_dir(&mut disk, "");
        }
    }
    assert!(world.state().media.files.len() < 6);
    assert_eq!(world.used_bytes(), 8192);
}
