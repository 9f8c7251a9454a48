//! The decisions of the checks, and whole examinations of good and bad installations.

use in_mem_model::Durability;
use in_mem_wal::disk::FileSystem;

use super::*;
use crate::control_group::MemoryLimit;

fn grade_of(checks: &[Check], name: &str) -> Grade {
    let check = checks.iter().find(|check| check.name == name);
    check
        .unwrap_or_else(|| panic!("{name} in {checks:?}"))
        .grade
}

#[test]
fn a_check_below_ok_says_what_to_do() {
    let limit = MemoryLimit {
        len_bytes: 512 << 20,
        path: "/sys/fs/cgroup/memory.max".into(),
    };
    let checks = [
        kernel::kernel(None),
        kernel::kernel(Some("5.15.0")),
        kernel::kernel(Some("6.8.0-41-generic")),
        kernel::kernel(Some("6.18.5")),
        kernel::memlock(None),
        kernel::memlock(Some(64 << 10)),
        kernel::descriptors(16, 100),
        kernel::descriptors(100, 100),
        kernel::descriptors(u64::MAX, 100),
        kernel::memory(None, 0),
        kernel::memory(Some(&limit), 0),
        kernel::memory(Some(&limit), 512 << 20),
        kernel::memory(Some(&limit), 256 << 20),
        kernel::clock_source("tsc"),
        kernel::clock_source("hpet"),
        kernel::huge_pages("always [madvise] never\n"),
        kernel::huge_pages("[always] madvise never\n"),
        directory::file_system(FileSystem::Ext, Durability::Strict),
        directory::file_system(FileSystem::Memory, Durability::Strict),
        directory::file_system(FileSystem::Memory, Durability::InMemory),
        directory::file_system(FileSystem::Overlay, Durability::Buffered),
        directory::file_system(FileSystem::Nfs, Durability::Strict),
        directory::space(10 << 20, 64 << 20),
        directory::space(500 << 20, 64 << 20),
        directory::space(1 << 40, 64 << 20),
        socket::version("0.1.0", "0.1.0"),
        socket::version("0.1.0", "0.2.0"),
    ];
    use Grade::{Fail, Ok, Warn};
    let expected = [
        Warn, Fail, Warn, Ok, Ok, Warn, Fail, Warn, Ok, Ok, Warn, Warn, Ok, Ok, Warn, Ok, Warn, Ok,
        Fail, Ok, Fail, Warn, Fail, Warn, Ok, Ok, Warn,
    ];
    let grades: Vec<Grade> = checks.iter().map(|check| check.grade).collect();
    assert_eq!(grades, expected, "{checks:#?}");
    for check in checks {
        assert_eq!(
            check.advice.is_some(),
            check.grade != Grade::Ok,
            "{check:?}"
        );
    }
}

#[test]
fn the_state_of_a_daemon_is_graded_and_its_reasons_are_told() {
    use in_mem_ipc::response::observe::{Fault, HealthReport, HealthState};
    let of = |state| {
        socket::health(&HealthReport {
            state,
            faults: vec![Fault {
                name: "disk_space".into(),
                reason: "make room".into(),
            }],
            log_backend: "thread".into(),
            socket_backend: "readiness".into(),
            free_len_bytes: None,
        })
    };
    for (state, grade) in [
        (HealthState::Ok, Grade::Ok),
        (HealthState::Draining, Grade::Warn),
        (HealthState::Degraded, Grade::Warn),
        (HealthState::ReadOnly, Grade::Fail),
        (HealthState::Poisoned, Grade::Fail),
    ] {
        let check = of(state);
        assert_eq!(check.grade, grade, "{check:?}");
        assert_eq!(check.found.contains("make room"), grade != Grade::Ok);
    }
}

#[test]
fn a_mount_without_barriers_fails() {
    let mounts = "22 1 0:20 / /proc rw - proc proc rw\n\
                  30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,nobarrier\n\
                  31 1 8:2 / /data rw - ext4 /dev/sdb rw,barrier=1\n";
    let grade = |device| directory::barriers(mounts, device).map(|check| check.grade);
    assert_eq!(grade("8:1"), Some(Grade::Fail));
    assert_eq!(grade("8:2"), Some(Grade::Ok));
    assert_eq!(grade("9:9"), None);
}

#[test]
fn a_stale_socket_a_file_in_its_place_and_an_open_directory_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&data_dir, mode(0o700)).unwrap();
    let socket = directory.path().join("s.sock");
    let subject = Subject {
        data_dir: Some(data_dir.clone()),
        socket: Some(socket.clone()),
        config: None,
    };
    let good = examine(&subject, "0.1.0");
    for name in ["configuration", "data_directory", "parents", "socket"] {
        assert_eq!(grade_of(&good, name), Grade::Ok, "{name}");
    }
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::fs::set_permissions(&data_dir, mode(0o777)).unwrap();
    let bad = examine(&subject, "0.1.0");
    assert_eq!(grade_of(&bad, "socket"), Grade::Warn);
    assert_eq!(grade_of(&bad, "data_directory"), Grade::Fail);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, b"no socket").unwrap();
    assert_eq!(grade_of(&examine(&subject, "0.1.0"), "socket"), Grade::Fail);
    std::fs::set_permissions(directory.path(), mode(0o777)).unwrap();
    let open = examine(&subject, "0.1.0");
    assert_eq!(grade_of(&open, "parents"), Grade::Fail);
}

#[test]
fn a_key_that_is_missing_or_open_to_others_fails_and_one_that_is_not_needed_is_not_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let codec_key = |codec: &str, key_file: Option<&PathBuf>| {
        let settings = Settings {
            codec: codec.to_owned(),
            key_file: key_file.cloned(),
            ..Settings::default()
        };
        codec_key(&settings).map(|check| check.grade)
    };
    assert_eq!(codec_key("identity", None), None);
    assert_eq!(codec_key("aes-256-gcm", None), Some(Grade::Fail));
    assert_eq!(codec_key("aes-256-gcm", Some(&key)), Some(Grade::Fail));
    std::fs::write(&key, [7; 32]).unwrap();
    for (mode, expected) in [(0o604, Grade::Fail), (0o400, Grade::Ok)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&key, mode).unwrap();
        assert_eq!(codec_key("aes-256-gcm", Some(&key)), Some(expected));
    }
}

#[test]
fn a_broken_configuration_fails_and_the_rest_is_examined_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("inmemd.toml");
    std::fs::write(&file, "sokcet = 1").unwrap();
    let subject = Subject {
        data_dir: Some(directory.path().join("new")),
        socket: Some(directory.path().join("s.sock")),
        config: Some(file),
    };
    let checks = examine(&subject, "0.1.0");
    assert_eq!(grade_of(&checks, "configuration"), Grade::Fail);
    let new = checks.iter().find(|check| check.name == "data_directory");
    assert!(new.unwrap().found.contains("will be created"), "{checks:?}");
}
