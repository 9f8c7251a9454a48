//! Opening, naming, and what no path may reach.

use super::*;

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
fn a_directory_is_renamed_whole_to_a_free_name_and_removed_only_empty() {
    check(|disk| {
        let dir = |path: &str| Op::CreateDir { path: path.into() };
        let rename = |from: &str, to: &str| Op::RenameDir {
            from: from.into(),
            to: to.into(),
        };
        let remove = |path: &str| Op::RemoveDir { path: path.into() };
        run(disk, dir("temp")).expect("creates");
        run(disk, dir("temp/WAL")).expect("creates");
        create(disk, "temp/WAL/file", b"content");
        run(disk, dir("there")).expect("creates");
        create(disk, "file", b"");
        for taken in ["there", "file"] {
            let error = run(disk, rename("temp", taken)).expect_err("is taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{taken}");
        }
        assert!(run(disk, rename("absent", "new")).is_err());
        assert!(run(disk, remove("temp")).is_err(), "it is not empty");
        run(disk, rename("temp", "new")).expect("renames");
        assert_eq!(names(disk, ""), ["file", "new", "there"]);
        assert_eq!(names(disk, "new/WAL"), ["file"]);
        let file = open(disk, "new/WAL/file", OpenMode::Read).expect("opens");
        assert_eq!(read(disk, file, 0, 100).expect("reads"), b"content");
        run(disk, remove("there")).expect("removes");
        assert!(run(disk, remove("there")).is_err());
        assert!(run(disk, remove("file")).is_err(), "no directory");
        assert_eq!(names(disk, ""), ["file", "new"]);
    });
}
