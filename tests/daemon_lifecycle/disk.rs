//! The free space that has to be left on the disk of the data directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use in_mem_ipc::response::observe::{HealthReport, HealthState};

use super::*;

/// A filesystem of its own, as large as is said; gone with the value.
pub struct SmallDisk {
    /// Where it is.
    pub path: PathBuf,
}

impl SmallDisk {
    /// None, said aloud, without the rights to mount one.
    pub fn mount(path: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self {
                path: path.to_owned(),
            });
        }
        println!("SKIPPED: needs the right to mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

fn start(directory: &Path, limits: &str) -> Daemon {
    let path = directory.join("c.toml");
    let wal = "[wal]\nsegment_len_bytes = 1048576\nbuffered_sync_bytes = 65536\n";
    std::fs::write(&path, format!("{wal}[limits]\n{limits}\n")).unwrap();
    Daemon::start_with(directory, &["--config", path.to_str().unwrap()]).unwrap()
}

/// The daemon looks while it answers: after this, what it refuses is what it found.
fn health(client: &mut RawClient) -> HealthReport<'static> {
    match client.call(Operation::SystemHealth) {
        Response::Health(report) => report,
        other => panic!("{other:?}"),
    }
}

fn is_low(report: &HealthReport<'_>) -> bool {
    let is_about_disk = report
        .faults
        .iter()
        .any(|fault| &*fault.name == "disk_space");
    assert_eq!(report.state == HealthState::Degraded, is_about_disk);
    is_about_disk
}

fn header(durability: DurabilityChoice) -> RequestHeader {
    RequestHeader {
        durability,
        ..RequestHeader::default()
    }
}

/// What goes on and what does not while the disk is low.
fn check_low(client: &mut RawClient) {
    match client.call(put("more", SEVEN)) {
        Response::Error(error) => {
            assert_eq!(error.sub, SubCode::ResourceExhausted.number());
            assert!(
                error.message.contains("disk_free_len_bytes_min"),
                "{error:?}"
            );
            assert!(
                error
                    .details
                    .iter()
                    .any(|detail| &*detail.name == "resource")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.get("kept").as_deref(), Some(SEVEN), "reads go on");
    let volatile = header(DurabilityChoice::InMemory);
    let answer = client.call_with(volatile, put("volatile", SEVEN));
    assert!(matches!(answer, Response::Written(_)), "{answer:?}");
    let delete = Operation::KvDelete(Key { key: "gone".into() });
    let answer = client.call(delete);
    assert!(matches!(answer, Response::Deleted(_)), "{answer:?}");
}

#[test]
fn growing_writes_are_refused_below_the_free_space_that_has_to_be_and_taken_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "disk_free_len_bytes_min = 0");
    let mut client = RawClient::connect(daemon.socket());
    client.put("kept", SEVEN);
    client.put("gone", SEVEN);
    daemon.terminate();
    // More than any disk has.
    let daemon = start(directory.path(), "disk_free_len_bytes_min = 1099511627776");
    let mut client = RawClient::connect(daemon.socket());
    if !is_low(&health(&mut client)) {
        println!("SKIPPED: needs a disk with less than 1 TiB free");
        return;
    }
    check_low(&mut client);
    let config = directory.path().join("c.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("1099511627776", "1")).unwrap();
    daemon.signal(Signal::HUP);
    let end = std::time::Instant::now() + DEADLINE;
    while is_low(&health(&mut client)) {
        assert!(std::time::Instant::now() < end, "it was not read again");
    }
    client.put("more", SEVEN);
    assert!(daemon.log().contains("the disk has room again"));
}

#[test]
fn a_disk_that_fills_up_refuses_growing_writes_early_and_room_on_it_takes_them_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 64) else {
        return;
    };
    let daemon = start(&disk.path, "disk_free_len_bytes_min = 16777216");
    let mut client = RawClient::connect(daemon.socket());
    client.put("kept", SEVEN);
    client.put("gone", SEVEN);
    assert!(!is_low(&health(&mut client)));
    let filler = disk.path.join("filler");
    let free = health(&mut client).free_len_bytes.unwrap();
    let kept_free = 8 << 20;
    let filling = usize::try_from(free - kept_free).unwrap();
    std::fs::write(&filler, vec![1; filling]).unwrap();
    let report = health(&mut client);
    assert!(is_low(&report), "{report:?}");
    check_low(&mut client);
    std::fs::remove_file(&filler).unwrap();
    assert!(!is_low(&health(&mut client)));
    client.put("more", SEVEN);
    daemon.kill();
    let daemon = start(&disk.path, "disk_free_len_bytes_min = 16777216");
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("kept").as_deref(), Some(SEVEN));
    assert_eq!(client.get("more").as_deref(), Some(SEVEN));
    assert_eq!(client.get("gone"), None);
    drop(daemon);
}

/// Without anybody asking for its health, requests alone have it look.
#[test]
fn a_disk_that_fills_up_is_noticed_by_the_writes_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&directory.path().join("disk"), 64) else {
        return;
    };
    let daemon = start(&disk.path, "disk_free_len_bytes_min = 33554432");
    let mut client = RawClient::connect(daemon.socket());
    let value = vec![0xc6, 0, 0, 0x40, 0]
        .into_iter()
        .chain(vec![7; 0x4000])
        .collect::<Vec<u8>>();
    // At most 2,000 values of 16 KiB fit into what may be used.
    let refused =
        (0..4_000).find_map(
            |number| match client.call(put(&format!("key/{number}"), &value)) {
                Response::Written(_) => None,
                refused => Some(refused),
            },
        );
    match refused {
        Some(Response::Error(error)) => {
            assert_eq!(error.sub, SubCode::ResourceExhausted.number());
        }
        other => panic!("{other:?}"),
    }
    let report = health(&mut client);
    assert!(
        is_low(&report) && report.free_len_bytes > Some(2 << 20),
        "{report:?}"
    );
    drop((client, daemon));
}
