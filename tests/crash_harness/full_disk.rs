//! A file system that is really full: 100 MB of ext4 on a loop device.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use in_mem_client::Client;
use in_mem_client::check::Mode;
use in_mem_client::model::SubCode;
use in_mem_wal::disk::SimRng;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::kill::daemon::{DEADLINE, Daemon, Place};
use crate::life::{Life, Manner};
use crate::mounted::Mounted;
use crate::scale::{scaled, start_seed};

/// Size of the file system, bytes.
const DISK_LEN_BYTES: u64 = 100 << 20;

/// Size of a segment, bytes.
const SEGMENT_LEN_BYTES: u64 = 1 << 20;

/// Most room left for the log of a round, bytes: all rounds together fit the file system.
const ROOM_LEN_BYTES_MAX: u64 = 5 << 20;

/// How often filling the file system may lose the race for its last bytes.
const FILL_ATTEMPT_COUNT_MAX: usize = 100;

/// What `inmemd` ends with when there is no room to recover in.
const EXIT_NO_SPACE: i32 = 6;

/// Fills it, makes room, goes on; with a kill while it is full in every other round.
pub fn full_disk_refuses_and_goes_on() {
    Mounted::with(DISK_LEN_BYTES, |mounted| {
        fill_again_and_again(&mounted.disk)
    });
}

/// What the rounds came to.
#[derive(Default)]
struct Figures {
    acked_count: usize,
    full_start_count: u32,
    read_only_start_count: u32,
    refused_start_count: u32,
}

impl Figures {
    /// So far, for the round in which something fails.
    fn told(&self) -> String {
        format!(
            "{} commits acknowledged, {} started on the full disk, {} refused to",
            self.acked_count, self.full_start_count, self.refused_start_count
        )
    }
}

/// What is free of the file system, in words.
fn room(disk: &Path) -> String {
    statvfs(disk).map_or_else(
        |why| format!("room unknown: {why}"),
        |free| format!("{} bytes free", free.f_bavail * free.f_frsize),
    )
}

fn fill_again_and_again(disk: &Path) {
    let mut rng = SimRng::new(start_seed());
    let place = Place::new(disk, Mode::Strict, SEGMENT_LEN_BYTES);
    let manner = Manner {
        value_len_bytes: 2_048,
        ..Manner::new(Mode::Strict, 0)
    };
    let (mut life, daemon) = Life::begin_at(place, None, manner, start_seed());
    let mut daemon = Some(daemon);
    let mut figures = Figures::default();
    let round_count = scaled(4, 12, 500);
    println!("seed {}, {round_count} rounds", start_seed());
    for round in 0..round_count {
        let told_before = figures.told();
        println!("round {round}: {told_before}, {}", room(disk));
        let ballast = fill_but(disk, rng.below(ROOM_LEN_BYTES_MAX));
        until_refused(&mut life, &mut figures);
        let running = daemon.take().expect("left running by the round before");
        daemon = Some(if round % 2 == 0 {
            std::fs::remove_file(&ballast).expect("the ballast goes");
            running
        } else {
            restart_full(&mut life, running, &ballast, &mut figures)
        });
        until_acked(&mut life, 100);
        let running = daemon.take().expect("still running");
        running.kill();
        let history = life.take_history();
        daemon = Some(Daemon::start(&life.place));
        figures.acked_count += life.verify(&history).summary.acked_count;
    }
    println!(
        "{round_count} rounds, {} commits acknowledged, none lost; killed while full: {} started on \
         the full disk, {} for reading only, {} said that there is no room and started when there was",
        figures.acked_count,
        figures.full_start_count,
        figures.read_only_start_count,
        figures.refused_start_count
    );
    drop(daemon);
}

/// Lets the clients work until each was refused, and looks at what the daemon shows then.
fn until_refused(life: &mut Life, figures: &mut Figures) {
    life.crew.go(&life.place.socket());
    life.crew.wait_lost();
    let refusals = life.crew.lock().refusals();
    assert_eq!(
        refusals.len(),
        8,
        "every client was refused, none lost its daemon: {:?}; {}; log:\n{}",
        life.crew.lock().endings(),
        room(&life.place.dir),
        life.place.log_tail()
    );
    for refusal in refusals {
        let text = refusal.to_lowercase();
        let has_advice = ["space", "room", "full"]
            .iter()
            .any(|word| text.contains(word));
        assert!(
            has_advice,
            "{refusal:?} says what to do; {}; log:\n{}",
            room(&life.place.dir),
            life.place.log_tail()
        );
    }
    let history = life.take_history();
    figures.acked_count += life.verify_running(&history).summary.acked_count;
}

/// Kills a daemon on a full disk. The next one starts; or it starts for reading only because even
/// the reserve file made no room, and says so to whoever writes; or it says that there is no room.
/// When the ballast is gone it starts.
fn restart_full(life: &mut Life, daemon: Daemon, ballast: &Path, figures: &mut Figures) -> Daemon {
    daemon.kill();
    let mut next = Daemon::spawn(&life.place, None);
    if next.wait_ready(DEADLINE) {
        figures.full_start_count += 1;
        verify_restarted(life);
        let is_read_only = takes_no_writes(life);
        std::fs::remove_file(ballast).expect("the ballast goes");
        if !is_read_only {
            return next;
        }
        figures.read_only_start_count += 1;
        next.kill();
        let next = Daemon::start(&life.place);
        verify_restarted(life);
        return next;
    }
    let status = next.wait_end(DEADLINE);
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(EXIT_NO_SPACE),
        "{status:?}; {}; log:\n{}",
        room(&life.place.dir),
        life.place.log_tail()
    );
    figures.refused_start_count += 1;
    std::fs::remove_file(ballast).expect("the ballast goes");
    let next = Daemon::start(&life.place);
    verify_restarted(life);
    next
}

/// Whether the daemon was opened for reading only, which it then says, and what to do.
fn takes_no_writes(life: &Life) -> bool {
    let client = Client::builder().socket(life.place.socket()).connect();
    let client = client.expect("it serves");
    // Deleting what is not there changes nothing.
    let Err(refusal) = client.default_run().kv().delete("nothing") else {
        return false;
    };
    if refusal.sub() != Some(SubCode::ReadOnly) {
        return false;
    }
    let text = refusal.to_string();
    assert!(text.contains("make room"), "{text:?} says what to do");
    true
}

/// Everything is as it was.
fn verify_restarted(life: &mut Life) {
    let history = life.take_history();
    life.verify(&history);
}

/// Lets the clients work until so many commits were acknowledged, however often they are refused
/// before the daemon has seen the room.
fn until_acked(life: &mut Life, count: u64) {
    let end = Instant::now() + DEADLINE;
    loop {
        life.crew.go(&life.place.socket());
        life.crew.wait("acknowledged commits", |told| {
            count <= told.acked_count || told.ended_count() == 8
        });
        if count <= life.crew.lock().acked_count {
            return;
        }
        assert!(
            Instant::now() < end,
            "room does not help: {:?}; {}; log:\n{}",
            life.crew.lock().endings(),
            room(&life.place.dir),
            life.place.log_tail()
        );
        life.crew.wait_lost();
    }
}

/// Leaves about so many bytes free. The daemon may take room between the look and the filling.
fn fill_but(disk: &Path, left_len_bytes: u64) -> PathBuf {
    let path = disk.join("ballast");
    let file = File::create_new(&path).expect("there is no ballast");
    for _ in 0..FILL_ATTEMPT_COUNT_MAX {
        let free = statvfs(disk).expect("a file system");
        let len = (free.f_bavail * free.f_frsize)
            .saturating_sub(left_len_bytes)
            .max(1);
        match fallocate(file.as_fd(), FallocateFlags::empty(), 0, len) {
            Ok(()) => return path,
            Err(Errno::NOSPC) => file.set_len(0).expect("what it took is given back"),
            Err(error) => panic!("the disk cannot be filled: {error}"),
        }
    }
    panic!("the daemon took the room {FILL_ATTEMPT_COUNT_MAX} times");
}
