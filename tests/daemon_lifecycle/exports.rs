//! Exports over the socket: what is made, who may look at it, and what is left of one that fails.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use in_mem_client::model::SubCode;
use in_mem_client::{Client, ClientError};

use super::disk::SmallDisk;
use super::*;

/// A daemon with small segments that exports beside its data.
fn start(directory: &Path, exports: &Path) -> Daemon {
    let file = directory.join("inmemd.toml");
    let wal = "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 65536\n";
    std::fs::write(&file, wal).unwrap();
    let exports = exports.to_str().unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--export-dir", exports];
    Daemon::start_with(directory, &arguments).unwrap()
}

fn client_of(daemon: &Daemon) -> Client {
    Client::builder().socket(daemon.socket()).connect().unwrap()
}

fn sub_of<T: std::fmt::Debug>(result: Result<T, ClientError>) -> SubCode {
    result.unwrap_err().sub().expect("a sub-code")
}

/// Every file and directory beneath, with its permission bits.
fn modes(root: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let is_dir = root.is_dir();
    let mode = root.metadata().unwrap().permissions().mode() & 0o7777;
    found.push((root.to_owned(), mode));
    if is_dir {
        for entry in std::fs::read_dir(root).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn an_export_made_while_others_write_is_private_and_a_daemon_on_it_has_the_digest_that_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let exports = directory.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let daemon = start(directory.path(), &exports);
    let client = client_of(&daemon);
    let is_over = AtomicBool::new(false);
    let acked = AtomicI64::new(0);
    let mut before = 0;
    let info = std::thread::scope(|scope| {
        let writer = client_of(&daemon);
        let (is_over, acked) = (&is_over, &acked);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let done = writer.kv().incr("counter", 1).unwrap();
                acked.store(done.value, Ordering::SeqCst);
            }
        });
        while acked.load(Ordering::SeqCst) < 20 {
            std::thread::yield_now();
        }
        client.checkpoint().unwrap();
        before = acked.load(Ordering::SeqCst);
        let info = client.export("data.inmem").unwrap();
        is_over.store(true, Ordering::SeqCst);
        info
    });
    let clone = exports.join("data.inmem");
    assert_eq!(info.path, clone.to_str().unwrap());
    assert_ne!(info.checkpoint_watermark, 0);
    let mut found = Vec::new();
    modes(&clone, &mut found);
    assert!(4 < found.len(), "{found:?}");
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    let opened = in_mem_engine::Database::builder()
        .path(&clone)
        .read_only()
        .open_existing()
        .unwrap();
    assert_eq!(opened.digest().unwrap().to_hex(), info.digest);
    drop(opened);
    let imported = Daemon::start(&exports);
    let value: i64 = client_of(&imported).kv().get("counter").unwrap().unwrap();
    let last = acked.load(Ordering::SeqCst);
    assert!((before..=last).contains(&value), "{before} {value} {last}");
}

#[test]
fn an_export_without_a_name_a_place_or_the_right_to_it_says_so_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let exports = directory.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    std::fs::write(exports.join("taken"), b"").unwrap();
    symlink(directory.path().join("elsewhere"), exports.join("link")).unwrap();
    let daemon = start(directory.path(), &exports);
    let client = client_of(&daemon);
    client.kv().put("key", &1).unwrap();
    assert_eq!(sub_of(client.export("../a")), SubCode::InvalidArgument);
    assert_eq!(sub_of(client.export("taken")), SubCode::AlreadyExists);
    assert_eq!(sub_of(client.export("link")), SubCode::AlreadyExists);
    assert!(!directory.path().join("elsewhere").exists());
    // Others could exchange what is made there.
    let mode = |mode| std::fs::set_permissions(&exports, PermissionsExt::from_mode(mode));
    mode(0o777).unwrap();
    let open = client.export("open").unwrap_err();
    assert_eq!(open.sub(), Some(SubCode::PermissionDenied));
    assert!(open.to_string().contains("export_dir"), "{open}");
    mode(0o700).unwrap();
    let aside = directory.path().join("aside");
    std::fs::rename(&exports, &aside).unwrap();
    let missing = client.export("missing").unwrap_err();
    assert_eq!(missing.sub(), Some(SubCode::Unavailable));
    assert!(missing.to_string().contains("export_dir"), "{missing}");
    std::fs::rename(&aside, &exports).unwrap();
    if rustix::process::geteuid().is_root() {
        println!("SKIPPED: needs a user to whom a mode of 0500 means something");
    } else {
        mode(0o500).unwrap();
        assert_eq!(sub_of(client.export("denied")), SubCode::PermissionDenied);
        mode(0o700).unwrap();
    }
    assert_eq!(std::fs::read_dir(&exports).unwrap().count(), 2);
    client.export("good").unwrap();
    let other = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(other.path());
    let unset = client_of(&daemon).export("a").unwrap_err();
    assert_eq!(unset.sub(), Some(SubCode::Unavailable));
    assert!(unset.to_string().contains("export_dir"), "{unset}");
}

#[test]
fn an_export_onto_a_full_disk_says_so_leaves_nothing_and_the_store_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 1) else {
        return;
    };
    let daemon = start(directory.path(), &disk.path);
    let client = client_of(&daemon);
    let value = "v".repeat(64 << 10);
    for number in 0..24 {
        client.kv().put(&format!("k{number}"), &value).unwrap();
    }
    let full = client.export("clone").unwrap_err();
    assert_eq!(full.sub(), Some(SubCode::ResourceExhausted), "{full}");
    assert_eq!(std::fs::read_dir(&disk.path).unwrap().count(), 0);
    client.kv().put("after", &1).unwrap();
    let health = client.health().unwrap();
    assert_eq!(health.faults, []);
}
