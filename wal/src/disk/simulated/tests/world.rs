//! What becomes of a whole world: kills, crashes, moments, seeds.

use super::*;

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
