//! What each fault, each lie and a full disk do.

use super::*;

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
