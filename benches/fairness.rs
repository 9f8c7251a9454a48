//! One client's gets, one at a time, while others make the daemon work hard: one lists a million
//! keys again and again, one puts values of 16 MiB.
//!
//! Two rows have a crowd of a thousand clients beside the one that is measured: such that send a
//! byte each second, and such that ask for 4 MiB and never read. There the client's p99 may at most
//! double.
//!
//! What is bounded is the share of the daemon: no request may hold its reactor. The clients are
//! threads of this process and compete with the daemon for the CPUs; on two CPUs
//! a get also waits for its turn among them.

#[path = "../tests/support/daemon_process.rs"]
#[allow(
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "written for tests; the bench uses its part"
)]
mod daemon_process;
#[path = "../tests/support/raw_client.rs"]
#[allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "written for tests; the bench uses its part"
)]
mod raw_client;
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemon_process::Daemon;
use in_mem_client::model::{Durability, Value};
use in_mem_client::{Client, ListOptions};
use in_mem_ipc::request::kv::Key;
use in_mem_ipc::{Operation, RequestHeader};
use raw_client::{RawClient, put, request_frame};
use support::machine::{machine_line, profile};
use support::rounds::Distribution;

const KEY_COUNT: usize = 1_000_000;
const KEYS_PER_PIPELINE: usize = 10_000;
const LARGE_LEN_BYTES: usize = 16 << 20;

/// Values of 16 MiB in one row: history keeps them all.
const LARGE_COUNT: usize = 40;

/// How long a row without large values takes.
const ROW_DURATION: Duration = Duration::from_secs(5);

/// What a get may wait for beyond its wake-up, microseconds at p99.
const AIM_US: f64 = 2_000.0;

const ROUND_COUNT: usize = 3;

/// Clients of a crowd.
const CROWD_COUNT: usize = 1_000;

/// Gets of 64 KiB that each client of a deaf crowd asks for at once.
const DEAF_GET_COUNT: usize = 64;

/// Who is connected beside the client that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    None,
    /// One byte a second each.
    Slow,
    /// Never read what they asked for.
    Deaf,
}

/// Who works beside the client that is measured.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    lists: bool,
    puts: bool,
    crowd: Crowd,
}

const ROWS: [Row; 6] = [
    Row {
        name: "alone",
        lists: false,
        puts: false,
        crowd: Crowd::None,
    },
    Row {
        name: "beside a list of a million keys",
        lists: true,
        puts: false,
        crowd: Crowd::None,
    },
    Row {
        name: "beside puts of 16 MiB",
        lists: false,
        puts: true,
        crowd: Crowd::None,
    },
    Row {
        name: "beside both",
        lists: true,
        puts: true,
        crowd: Crowd::None,
    },
    Row {
        name: "beside 1,000 at a byte a second",
        lists: false,
        puts: false,
        crowd: Crowd::Slow,
    },
    Row {
        name: "beside 1,000 that never read",
        lists: false,
        puts: false,
        crowd: Crowd::Deaf,
    },
];

fn connect(socket: &Path) -> Client {
    Client::builder()
        .socket(socket)
        .connect()
        .expect("the daemon listens")
}

fn fill(client: &Client) {
    let kv = client.kv().with_durability(Durability::InMemory);
    kv.put("small", &1).expect("committed");
    for first in (0..KEY_COUNT).step_by(KEYS_PER_PIPELINE) {
        let keys: Vec<String> = (first..first + KEYS_PER_PIPELINE)
            .map(|number| format!("many/{number:07}"))
            .collect();
        let entries: Vec<(&str, &i32)> = keys.iter().map(|key| (key.as_str(), &1)).collect();
        kv.put_many(entries).expect("committed");
    }
}

/// Lists every key, page by page, until told to stop; how many whole lists.
fn list_all(client: &Client, stop: &AtomicBool) -> u64 {
    let mut list_count = 0;
    let mut cursor = None;
    while !stop.load(Ordering::Relaxed) {
        let options = ListOptions {
            prefix: "many/",
            cursor: cursor.as_ref(),
            ..ListOptions::default()
        };
        cursor = client.kv().list(options).expect("readable").cursor;
        list_count += u64::from(cursor.is_none());
    }
    list_count
}

/// Connects a crowd; what each of them sends, one byte after the other.
fn gather(socket: &Path, crowd: Crowd) -> (Vec<RawClient>, Vec<u8>) {
    let count = if crowd == Crowd::None { 0 } else { CROWD_COUNT };
    let mut clients: Vec<RawClient> = (0..count).map(|_| RawClient::connect(socket)).collect();
    if crowd == Crowd::Deaf {
        let mut value = vec![0xc6, 0, 1, 0, 0];
        value.extend_from_slice(&[5; 1 << 16]);
        RawClient::connect(socket).put("deaf", &value);
        let get = Operation::KvGet(Key { key: "deaf".into() });
        let asked = request_frame(1, RequestHeader::default(), get).repeat(DEAF_GET_COUNT);
        for client in &mut clients {
            client.send(&asked);
        }
    }
    let bytes = request_frame(1, RequestHeader::default(), put("slow", &[7]));
    (clients, bytes.to_vec())
}

/// Sends a byte a second on every connection, until told to stop.
fn dawdle(clients: &mut [RawClient], bytes: &[u8], stop: &AtomicBool) {
    // Nobody sends: what it is waited for is the time.
    let (_sender, silence) = std::sync::mpsc::channel::<()>();
    for byte in bytes.iter().cycle() {
        for client in &mut *clients {
            client.send(&[*byte]);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let _ = silence.recv_timeout(Duration::from_millis(50));
        }
    }
}

fn row(socket: &Path, row: Row, total: &mut Distribution) -> String {
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let (mut crowd, bytes) = gather(socket, row.crowd);
    std::thread::scope(|scope| {
        let lister = row.lists.then(|| {
            let client = connect(socket);
            scope.spawn(move || list_all(&client, stop))
        });
        let putter = row.puts.then(|| {
            let client = connect(socket);
            let value = Value::Bytes(vec![7; LARGE_LEN_BYTES]);
            scope.spawn(move || {
                for _ in 0..LARGE_COUNT {
                    client.kv().put("large", &value).expect("committed");
                }
            })
        });
        if row.crowd == Crowd::Slow {
            scope.spawn(|| dawdle(&mut crowd, &bytes, stop));
        }
        let client = connect(socket);
        let kv = client.kv();
        let begun = Instant::now();
        loop {
            let sent = Instant::now();
            let value: Option<i32> = kv.get("small").expect("readable");
            total.record(sent.elapsed());
            assert_eq!(value, Some(1));
            let is_over = match &putter {
                Some(putter) => putter.is_finished(),
                None => ROW_DURATION <= begun.elapsed(),
            };
            if is_over {
                break;
            }
        }
        let duration = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let lists = lister.map_or(0, |lister| lister.join().expect("it listed"));
        let puts = if row.puts { LARGE_COUNT } else { 0 };
        format!(
            "{puts} puts, {lists} lists in {:.1} s",
            duration.as_secs_f64()
        )
    })
}

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    println!("{}", machine_line(directory.path()));
    println!("build: {}; {ROUND_COUNT} rounds", profile());
    let mut missed = false;
    let mut totals: Vec<Distribution> = ROWS.iter().map(|_| Distribution::new()).collect();
    for _ in 0..ROUND_COUNT {
        let directory = tempfile::tempdir().expect("a directory");
        let daemon = Daemon::start_with(directory.path(), &["--durability", "buffered"]);
        let daemon = daemon.expect("the daemon starts");
        fill(&connect(daemon.socket()));
        for (what, total) in ROWS.into_iter().zip(&mut totals) {
            let beside = row(daemon.socket(), what, total);
            println!("  {}: {beside}", what.name);
        }
    }
    let wake_us = totals.first().map_or(0.0, |alone| alone.us(0.99));
    for (what, total) in ROWS.into_iter().zip(&totals) {
        let aim_us = if what.crowd == Crowd::None {
            AIM_US + wake_us
        } else {
            2.0 * wake_us
        };
        let verdict = if total.us(0.99) <= aim_us {
            "met"
        } else {
            missed = true;
            "MISSED"
        };
        println!(
            "gets {:<33} {}  aim p99 <= {aim_us:.0} us ({wake_us:.0} us alone): {verdict}",
            what.name,
            total.summary(),
        );
    }
    if missed {
        std::process::exit(1);
    }
}
