//! A daemon that may have few descriptors, and more clients than that.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::Command;

use in_mem_ipc::frame::FrameKind;
use in_mem_ipc::response::observe::HealthState;
use in_mem_ipc::{Operation, Response};

use crate::SEVEN;
use crate::daemon_process::{DEADLINE, Daemon};
use crate::raw_client::{RawClient, hello_frame};

/// Descriptors the daemon may have.
const DESCRIPTOR_COUNT_MAX: usize = 64;

/// Clients that want to be served, far more than there are descriptors for.
const CLIENT_COUNT: usize = 200;

/// Segments of the log that are begun while there is no descriptor for one more client.
const ROTATION_COUNT: u64 = 3;

/// Puts after which the log must have begun them: ten times what they hold.
const PUT_COUNT_MAX: usize = 600;

over_both_reactors!(
    when_descriptors_run_out_accepting_pauses_and_goes_on,
    the_log_begins_segments_with_the_descriptors_kept_for_it_while_clients_take_all_others,
);

/// A daemon with a configuration, allowed so few descriptors.
fn daemon_of_few_descriptors(text: &str) -> (tempfile::TempDir, Daemon) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    std::fs::write(&config, text).unwrap();
    let socket = directory.path().join("s.sock");
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -n {DESCRIPTOR_COUNT_MAX}; exec \"$0\" \"$@\""
        ))
        .arg(env!("CARGO_BIN_EXE_inmemd"));
    command
        .arg("--data-dir")
        .arg(directory.path().join("data.inmem"));
    command
        .arg("--socket")
        .arg(&socket)
        .args(["--durability", "buffered"])
        .arg("--config")
        .arg(&config);
    let daemon = Daemon::spawn(command, socket).expect("the daemon starts");
    (directory, daemon)
}

/// Clients that have said hello; most of them wait in the backlog.
fn hanging_clients(daemon: &Daemon) -> Vec<RawClient> {
    let hanging = (0..CLIENT_COUNT).map(|_| {
        let mut client = RawClient::connect_silent(daemon.socket()).unwrap();
        client.send(&hello_frame());
        client
    });
    hanging.collect()
}

/// The number of the newest segment of the log.
fn newest_segment(data: &Path) -> u64 {
    let names = std::fs::read_dir(data.join("WAL")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| {
        let number = name.strip_prefix("wal-")?.strip_suffix(".seg")?;
        number.parse::<u64>().ok()
    });
    numbers.max().expect("a log has a segment")
}

fn when_descriptors_run_out_accepting_pauses_and_goes_on() {
    let (_directory, daemon) = daemon_of_few_descriptors("");
    let mut clients = hanging_clients(&daemon);
    let mut first = clients.remove(0);
    assert_eq!(
        first.read().unwrap().unwrap().header.kind,
        FrameKind::HelloReply
    );
    for _ in 0..50 {
        first.put("served", SEVEN);
    }
    assert!(daemon.descriptor_count() <= DESCRIPTOR_COUNT_MAX);
    // Nobody closes, nobody asks: the daemon must not spin on the full backlog. The wait is a
    // read that stays unanswered until its time is over. Zeroing spare segments after the start
    // may show in some of them; a daemon that spins shows in all.
    let interval = std::time::Duration::from_secs(2);
    first.stream.set_read_timeout(Some(interval)).unwrap();
    let mut seen = Vec::new();
    let is_at_rest = (0..5).any(|_| {
        let (_, ticks_before) = daemon.activity();
        let waited = first.stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(waited.kind(), ErrorKind::WouldBlock);
        let (_, ticks_after) = daemon.activity();
        seen.push(ticks_after - ticks_before);
        ticks_after - ticks_before <= 5
    });
    assert!(is_at_rest, "ticks of each interval: {seen:?}");
    first.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Each that leaves makes room for the next; in the end all were served.
    for mut client in clients {
        let reply = client
            .read()
            .unwrap()
            .expect("served after its turn in the backlog");
        assert_eq!(reply.header.kind, FrameKind::HelloReply);
        client.put("served", SEVEN);
    }
    first.put("served", SEVEN);
}

fn the_log_begins_segments_with_the_descriptors_kept_for_it_while_clients_take_all_others() {
    let sizes = "[wal]\nsegment_len_bytes = 65536\nbuffered_sync_bytes = 65536\n";
    let (directory, daemon) = daemon_of_few_descriptors(sizes);
    let data = directory.path().join("data.inmem");
    let mut clients = hanging_clients(&daemon);
    let mut first = clients.remove(0);
    let reply = first.read().unwrap().expect("it is served");
    assert_eq!(reply.header.kind, FrameKind::HelloReply);
    let mut value = vec![0xc5, 0x10, 0x00];
    value.resize(value.len() + 0x1000, 5);
    let before = newest_segment(&data);
    let mut put_count = 0;
    while newest_segment(&data) < before + ROTATION_COUNT {
        assert!(put_count < PUT_COUNT_MAX, "{put_count} puts, no segment");
        // Acknowledged, or the test has failed.
        first.put("rotating", &value);
        put_count += 1;
        match first.call(Operation::SystemHealth) {
            Response::Health(report) => assert_eq!(report.state, HealthState::Ok, "{report:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first.get("rotating"), Some(value));
    assert!(daemon.descriptor_count() <= DESCRIPTOR_COUNT_MAX);
    // All that time nobody was served beyond what is kept: the last one still waits.
    let last = clients.last_mut().unwrap();
    last.stream.set_nonblocking(true).unwrap();
    let waited = last.stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::WouldBlock);
}
