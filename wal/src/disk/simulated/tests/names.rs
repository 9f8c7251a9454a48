//! What a power loss does to names.

use super::*;

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
