//! Daemons on a file system that cannot sync: what the kernel answers there is answered here by a
//! filter.

use super::*;
use crate::without_rings::with_refused;

/// What a start on such a place says and ends with, the first time and with data there.
fn refused_where(call: libc::c_long, errno: libc::c_int, code: i32, reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    for is_new in [true, false] {
        if !is_new {
            let daemon = Daemon::start(directory.path());
            RawClient::connect(daemon.socket()).put("key", SEVEN);
            assert_eq!(daemon.terminate().code(), Some(0));
        }
        let started = with_refused(call, errno, || Daemon::start_with(directory.path(), &[]));
        let refused = started.err().expect("nothing could be kept there");
        assert_eq!(refused.status.code(), Some(code), "{}", refused.log);
        let path = directory.path().to_str().unwrap();
        for part in [path, "cannot be synced", reason, "put the data directory"] {
            assert!(refused.log.contains(part), "{part}: {}", refused.log);
        }
        assert!(
            !directory.path().join("s.sock").exists(),
            "nobody is let in"
        );
    }
    // What was there before is unhurt.
    let daemon = Daemon::start(directory.path());
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("key").as_deref(), Some(SEVEN));
}

#[test]
fn a_file_system_that_cannot_sync_is_refused_at_the_start_with_what_to_do() {
    for (errno, code, reason) in [
        (libc::EINVAL, 2, "Invalid argument"),
        (libc::EOPNOTSUPP, 2, "not supported"),
        (libc::EROFS, 5, "Read-only file system"),
    ] {
        refused_where(libc::SYS_fsync, errno, code, reason);
        refused_where(libc::SYS_fdatasync, errno, code, reason);
    }
}
