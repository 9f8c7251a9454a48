//! Other users: as peers of a real socket, and as owners of what lies at its path.
//!
//! A thread takes the place of another user's process: the kernel tells a socket the credentials
//! of the thread that connects. Only root may change them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::*;

/// The user and the group of the other one: nobody.
const OTHER: u32 = 65_534;

over_both_reactors!(a_peer_of_another_user_is_refused_with_a_reason_and_served_when_it_is_listed,);

/// Whether this is root; says that the test is left out if not.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: needs root, to be another user");
    }
    is_root
}

/// Runs `body` on a thread that is another user.
fn as_other<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(OTHER), Gid::from_raw(OTHER));
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

/// A daemon whose socket the group of the other may use, as far as the file goes.
fn daemon_for_others(directory: &Path, access: &str) -> Daemon {
    // A temporary directory is for its owner alone.
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).unwrap();
    let config = directory.join("c.toml");
    let text = format!("socket_mode = \"0660\"\nsocket_group = \"{OTHER}\"\n{access}");
    std::fs::write(&config, text).unwrap();
    Daemon::start_with(directory, &["--config", config.to_str().unwrap()]).unwrap()
}

fn a_peer_of_another_user_is_refused_with_a_reason_and_served_when_it_is_listed() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon_for_others(directory.path(), "");
    let replies = as_other(|| {
        let mut client = RawClient::connect_silent(daemon.socket()).unwrap();
        client.read_to_end()
    });
    let close = replies[0].close().expect("the only frame");
    assert_eq!(close.reason, CloseReason::PermissionDenied, "{close:?}");
    assert!(close.message.contains("65534"), "{close:?}");
    assert_eq!(replies.len(), 1);
    // Root is not another.
    RawClient::connect(daemon.socket()).put("key", SEVEN);
    assert_eq!(daemon.terminate().code(), Some(0));

    let daemon = daemon_for_others(directory.path(), "[access]\nusers = [\"65534\"]\n");
    as_other(|| {
        let mut client = RawClient::connect(daemon.socket());
        assert_eq!(client.get("key").as_deref(), Some(SEVEN));
        client.put("theirs", SEVEN);
    });
    let mut ours = RawClient::connect(daemon.socket());
    assert_eq!(ours.get("theirs").as_deref(), Some(SEVEN));
}

#[test]
fn a_stale_socket_of_another_user_is_refused_and_stays() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    std::os::unix::fs::chown(&path, Some(OTHER), None).unwrap();
    let before = std::fs::symlink_metadata(&path).unwrap();
    let refused = Daemon::start_with(directory.path(), &[]);
    let refused = refused.err().expect("only our own stale socket is removed");
    assert_eq!(refused.status.code(), Some(5), "{}", refused.log);
    let said = "belongs to user 65534; it was left alone";
    assert!(refused.log.contains(said), "{}", refused.log);
    let after = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!((after.ino(), after.uid()), (before.ino(), OTHER));
}
