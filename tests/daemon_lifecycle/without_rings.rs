//! Daemons on a kernel that refuses io_uring, and daemons told to do without.

use std::collections::BTreeMap;

use in_mem_ipc::response::system::{Health, Info};
use in_mem_ipc::{Operation, Response};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::SEVEN;
use crate::daemon_process::Daemon;
use crate::raw_client::RawClient;

/// Error numbers a kernel refuses io_uring with, how they read, and what to change.
const REFUSALS: [(libc::c_int, &str, &str); 4] = [
    (libc::EPERM, "not permitted", "kernel.io_uring_disabled=0"),
    (libc::ENOSYS, "not implemented", "CONFIG_IO_URING"),
    (libc::ENOMEM, "allocate memory", "LimitMEMLOCK="),
    (libc::EINVAL, "Invalid argument", "Linux 6.1 or newer"),
];

/// Runs `body` on a thread, and starts its processes, where a system call fails.
pub(crate) fn with_refused<T: Send>(
    call: libc::c_long,
    errno: libc::c_int,
    body: impl FnOnce() -> T + Send,
) -> T {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(errno).unwrap()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            apply_filter(&program).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

#[test]
fn where_a_ring_must_be_its_refusal_is_reported_with_what_to_change_before_anything_is_touched() {
    for (errno, reason, remedy) in REFUSALS {
        let directory = tempfile::tempdir().unwrap();
        let started = with_refused(libc::SYS_io_uring_setup, errno, || {
            Daemon::start_with(directory.path(), &["--io", "io_uring"])
        });
        let refused = started.err().expect("there is no daemon without a ring");
        assert_eq!(refused.status.code(), Some(1), "{}", refused.log);
        for part in ["io_uring is refused", "io_uring_setup", reason, remedy] {
            assert!(refused.log.contains(part), "{part}: {}", refused.log);
        }
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "nothing was made");
    }
}

fn info(client: &mut RawClient) -> Info<'static> {
    match client.call(Operation::SystemInfo) {
        Response::Info(info) => info,
        other => panic!("{other:?}"),
    }
}

fn has_measure(info: &Info<'_>, name: &str) -> bool {
    let is_named = |measure: &in_mem_ipc::response::system::Measure<'_>| {
        &*measure.name == name && measure.value == 1
    };
    info.measures.iter().any(is_named)
}

/// Starts a daemon where `call` is refused and has it serve; it must say why, and what to change.
fn serves_without(call: libc::c_long, errno: libc::c_int, said: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let started = with_refused(call, errno, || Daemon::start_with(directory.path(), &[]));
    let mut daemon = started.unwrap_or_else(|ended| panic!("{errno}: {ended:?}"));
    let mut client = RawClient::connect(daemon.socket());
    client.put("key", SEVEN);
    assert_eq!(client.get("key").as_deref(), Some(SEVEN));
    let info = info(&mut client);
    assert_eq!(info.health, Health::Ok, "it takes writes");
    for name in ["reactor_readiness", "disk_thread"] {
        assert!(has_measure(&info, name), "{name}: {:?}", info.measures);
    }
    let reason: &str = &info.health_reason;
    drop(client);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    let log = daemon.log();
    for part in ["io_uring is refused", "here: Linux "].iter().chain(said) {
        assert!(reason.contains(part), "{part}: {reason}");
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(reason.contains("sockets and log do without it"), "{reason}");
    for line in [
        "sockets are served by readiness instead",
        "io_uring is refused for the log",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn where_io_uring_is_refused_the_daemon_serves_without_it_and_says_why_and_what_to_change() {
    for (errno, reason, remedy) in REFUSALS {
        let said = ["io_uring_setup", reason, remedy];
        serves_without(libc::SYS_io_uring_setup, errno, &said);
    }
    // A profile may forget one of the three calls.
    let said = ["io_uring_enter", "not permitted"];
    serves_without(libc::SYS_io_uring_enter, libc::EPERM, &said);
    let said = ["io_uring_register", "not permitted"];
    serves_without(libc::SYS_io_uring_register, libc::EPERM, &said);
}

#[test]
fn a_daemon_told_to_do_without_io_uring_does_and_has_nothing_to_complain_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "io = \"readiness\"\n").unwrap();
    let arguments = ["--config", path.to_str().unwrap()];
    let daemon = Daemon::start_with(directory.path(), &arguments).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    client.put("key", SEVEN);
    let info = info(&mut client);
    assert_eq!(&*info.health_reason, "");
    for name in ["reactor_readiness", "disk_thread"] {
        assert!(has_measure(&info, name), "{name}: {:?}", info.measures);
    }
    let rings = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let rings = rings.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let is_ring = |target: &std::path::PathBuf| target.to_string_lossy().contains("io_uring");
    assert_eq!(rings.filter(is_ring).count(), 0);
}
