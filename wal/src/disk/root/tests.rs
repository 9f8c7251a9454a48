//! Which directories are accepted, and who gets the lock.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("exists")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_missing_directory_is_not_created_by_open_but_by_open_or_create() {
    let scratch = scratch();
    let path = scratch.path().join("above/data.inmem");
    assert!(matches!(
        RealRoot::open(&path),
        Err(RootError::NotFound { .. })
    ));
    assert!(!path.exists());
    let root = RealRoot::open_or_create(&path).expect("creates");
    assert_eq!(root.path(), path);
    assert_eq!(
        (mode(&path), mode(&scratch.path().join("above"))),
        (0o700, 0o700)
    );
    RealRoot::open_or_create(&path).expect("is there already");
    RealRoot::open(&path).expect("opens");
}

#[test]
fn links_and_other_kinds_of_file_are_refused() {
    let scratch = scratch();
    let (link, file) = (scratch.path().join("link"), scratch.path().join("file"));
    symlink(scratch.path(), &link).expect("links");
    std::fs::write(&file, b"").expect("writes");
    for path in [&link, &file] {
        for open in [RealRoot::open, RealRoot::open_or_create] {
            let refused = open(path).expect_err("refused");
            assert!(
                matches!(refused, RootError::NotADirectory { .. }),
                "{refused:?}"
            );
        }
    }
    assert!(RealRoot::open_or_create(&file.join("below")).is_err());
}

#[test]
fn a_directory_others_can_write_is_refused() {
    for (bits, is_accepted) in [
        (0o700, true),
        (0o755, true),
        (0o770, false),
        (0o702, false),
        (0o1777, false),
    ] {
        let scratch = scratch();
        let permissions = std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(scratch.path(), permissions).expect("sets");
        match RealRoot::open(scratch.path()) {
            Ok(_) => assert!(is_accepted, "{bits:o}"),
            Err(RootError::WritableByOthers { mode, .. }) => {
                assert_eq!(mode, bits);
                assert!(!is_accepted, "{bits:o}");
            }
            Err(error) => panic!("{bits:o}: {error:?}"),
        }
    }
}

#[test]
fn a_directory_above_may_be_written_by_others_only_if_they_cannot_exchange_what_is_ours() {
    for (bits, is_accepted) in [
        (0o700, true),
        (0o1777, true),
        (0o777, false),
        (0o770, false),
    ] {
        let scratch = scratch();
        let permissions = std::fs::Permissions::from_mode(bits);
        std::fs::set_permissions(scratch.path(), permissions).expect("sets");
        let opened = RealRoot::open_above(scratch.path());
        assert_eq!(opened.is_ok(), is_accepted, "{bits:o}");
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let scratch = scratch();
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    std::os::unix::fs::chown(scratch.path(), Some(12_345), None).expect("gives away");
    let refused = RealRoot::open(scratch.path()).expect_err("refused");
    assert!(
        matches!(
            refused,
            RootError::NotOurs {
                owner: 12_345,
                user: 0,
                ..
            }
        ),
        "{refused:?}"
    );
}

#[test]
fn one_opener_at_a_time_holds_the_lock() {
    let scratch = scratch();
    let root = RealRoot::open(scratch.path()).expect("opens");
    let lock = root.lock().expect("locks");
    let again = RealRoot::open(scratch.path())
        .expect("opens")
        .lock()
        .expect_err("is locked");
    let LockError::Locked { path } = &again else {
        panic!("{again:?}")
    };
    assert_eq!(*path, scratch.path().join("LOCK"));
    assert_eq!(mode(path), 0o600);
    drop(lock);
    drop(root.lock().expect("locks again"));
    // A link in its place is not followed.
    std::fs::remove_file(scratch.path().join("LOCK")).expect("removes");
    symlink("/dev/null", scratch.path().join("LOCK")).expect("links");
    assert!(matches!(root.lock(), Err(LockError::Io { .. })));
}

#[test]
fn the_file_system_and_its_block_are_known() {
    let scratch = scratch();
    let root = RealRoot::open(scratch.path()).expect("opens");
    println!("{:?}, block {}", root.file_system(), root.block_bytes());
    assert!(matches!(root.block_bytes(), 512 | 4096));
    assert!(root.free_bytes().expect("free space") > 0);
    if let Ok(memory) = RealRoot::open(Path::new("/sys")) {
        assert_eq!(memory.block_bytes(), 4096, "no device below: the safe size");
    }
    assert_eq!(FileSystem::from_magic(0xEF53).name(), "ext4");
    assert!(FileSystem::from_magic(0x0102_1994).is_volatile());
    assert!(FileSystem::from_magic(0x794C_7630).is_volatile());
    assert!(!FileSystem::from_magic(1).is_volatile());
}
