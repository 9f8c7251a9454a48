//! Power that goes under a real file system, and a file system that turns read-only: a small ext4 on
//! a loop device, a daemon on it, eight clients.
//!
//! The file system is shut down by the request made for such tests: from that moment it writes
//! nothing any more, so what was in the kernel's cache alone is gone after the next mount. What a
//! client was told after that moment counts as not told.

use std::time::{Duration, Instant};

use in_mem_client::check::{History, Mode, Outcome};
use in_mem_client::model::{SubCode, Value};
use in_mem_wal::disk::SimRng;

use crate::kill::client_process::now_ns;
use crate::kill::daemon::{DEADLINE, Daemon, Place, wait_readable};
use crate::kill::dump::connect;
use crate::kill::power::{Loss, take_power};
use crate::kill::watch::Watch;
use crate::life::{Life, Manner, SEGMENT_LEN_BYTES};
use crate::mounted::Mounted;
use crate::scale::{scaled, start_seed};

/// Size of the file system, bytes: the daemon wants 64 MiB of it free.
const DISK_LEN_BYTES: u64 = 128 << 20;

/// Longest a loss waits for its moment after the first commits, microseconds.
const RANDOM_WAIT_US_MAX: u64 = 30_000;

/// When the power goes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At any time under load.
    Load,
    /// While a snapshot is written.
    Checkpoint,
    /// Right after a segment got its name.
    Rotation,
}

/// A life over a file system, whose configuration, socket and log lie elsewhere.
fn begin(mounted: &Mounted, mode: Mode, seed: u64) -> (Life, Daemon) {
    let dir = mounted.disk.parent().expect("it is in a directory");
    let place = Place::new(dir, mode, SEGMENT_LEN_BYTES).with_checkpoints();
    let place = place.with_data_dir(mounted.disk.join("data.inmem"));
    Life::begin_at(place, None, Manner::new(mode, 3), seed)
}

/// Every kind of loss at every kind of moment, again and again in one directory.
pub fn power_losses_take_nothing_acknowledged() {
    Mounted::with(DISK_LEN_BYTES, |mounted| {
        for mode in [Mode::Strict, Mode::Buffered] {
            lose_power_again_and_again(mounted, mode);
        }
    });
}

fn lose_power_again_and_again(mounted: &Mounted, mode: Mode) {
    let seed = start_seed() + mode as u64;
    let mut rng = SimRng::new(seed);
    let _ = std::fs::remove_dir_all(mounted.disk.join("data.inmem"));
    let (mut life, mut daemon) = begin(mounted, mode, seed);
    life.crew.may_log_fail = true;
    let moments = [Moment::Load, Moment::Checkpoint, Moment::Rotation];
    let trial_count = scaled(3, 10, 500);
    println!("seed {seed}, {mode:?}, {trial_count} losses of power");
    let (mut acked_count, mut unknown_count) = (0, 0);
    for trial in 0..trial_count {
        let loss = Loss::ALL[rng.index(3)];
        let moment = moments[rng.index(3)];
        life.crew.go(&life.place.socket());
        life.crew.wait("the first commits", |told| {
            30 <= told.acked_count && told.have_all_begun()
        });
        wait_for(moment, &life.place, &daemon, &mut rng);
        let lost_at_ns = now_ns();
        if let Err(why) = take_power(&mounted.disk, loss) {
            println!("SKIPPED: needs the right to shut a file system down: {why}");
            return;
        }
        // Nobody is left waiting: each client is refused, and told why.
        life.crew.wait_lost();
        daemon.kill();
        let history = told_before(lost_at_ns, life.take_history());
        mounted.mount_again();
        daemon = Daemon::start(&life.place);
        let summary = life.verify_without_cache(&history).summary;
        println!(
            "trial {trial}, {moment:?}, {loss:?} written: {} commits acknowledged before, {} not told",
            summary.acked_count, summary.unknown_count
        );
        acked_count += summary.acked_count;
        unknown_count += summary.unknown_count;
    }
    daemon.kill();
    println!("{acked_count} commits acknowledged, none lost; {unknown_count} without an answer");
    assert!(30 * trial_count <= acked_count as u64);
}

/// What the tests above must catch is planted: a daemon that syncs nothing of what its clients take
/// for Strict.
pub fn a_daemon_that_never_syncs_is_caught() {
    Mounted::with(DISK_LEN_BYTES, |mounted| {
        let seed = start_seed();
        println!("seed {seed}");
        let dir = mounted.disk.parent().expect("it is in a directory");
        // Nothing is synced until a segment is full.
        let place = Place::new(dir, Mode::Buffered, 4 << 20)
            .with_data_dir(mounted.disk.join("data.inmem"))
            .with_lines("[buffered]\nflush_interval_ms = 600000\nmax_pending_writes = 100000\n");
        let manner = Manner {
            only_puts: true,
            ..Manner::new(Mode::Strict, 0)
        };
        let (mut life, daemon) = Life::begin_at(place, None, manner, seed);
        life.crew.may_log_fail = true;
        life.work(100);
        let lost_at_ns = now_ns();
        if let Err(why) = take_power(&mounted.disk, Loss::Nothing) {
            println!("SKIPPED: needs the right to shut a file system down: {why}");
            return;
        }
        daemon.kill();
        let history = told_before(lost_at_ns, life.take_history());
        mounted.mount_again();
        let _daemon = Daemon::start(&life.place);
        let report = life.try_verify_without_cache(&history);
        let report = report.expect_err("what was never synced is gone");
        println!("caught: {}", report.violations[0]);
    });
}

/// Waits for the moment, under load.
fn wait_for(moment: Moment, place: &Place, daemon: &Daemon, rng: &mut SimRng) {
    let wanted: (&str, fn(&str) -> bool) = match moment {
        Moment::Load => {
            let wait = Duration::from_micros(rng.below(RANDOM_WAIT_US_MAX));
            wait_readable(&[daemon.end()], Instant::now() + wait);
            return;
        }
        Moment::Checkpoint => ("SNAPSHOTS", |name| name.starts_with(".snap-")),
        Moment::Rotation => ("WAL", |name| name.starts_with("wal-")),
    };
    let mut watch = Watch::new(&place.data_dir().join(wanted.0)).expect("it is there");
    assert!(
        watch.wait(wanted.1, daemon.end(), DEADLINE),
        "{moment:?} does not come; log:\n{}",
        place.log_tail()
    );
}

/// The history as it was known at a moment: a commit answered later may have happened or not.
fn told_before(moment_ns: u64, mut history: History) -> History {
    for operation in &mut history.operations {
        let is_late = operation.done_at_ns.is_some_and(|done| moment_ns < done);
        if is_late && !matches!(operation.outcome, Outcome::Refused) {
            operation.outcome = Outcome::Unknown;
            operation.done_at_ns = None;
        }
    }
    history
}

/// The kernel turns the file system read-only after an error of its own.
pub fn read_only_file_system_refuses_and_reads() {
    Mounted::with(DISK_LEN_BYTES, |mounted| {
        let seed = start_seed();
        let (mut life, daemon) = begin(mounted, Mode::Strict, seed);
        println!("seed {seed}");
        life.crew.may_log_fail = true;
        let client = connect(&life.place.socket());
        let kv = client.default_run();
        kv.kv().put("before", &Value::Int(1)).expect("committed");
        life.crew.go(&life.place.socket());
        life.crew.wait("the first commits", |told| {
            100 <= told.acked_count && told.have_all_begun()
        });
        let lost_at_ns = now_ns();
        let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", mounted.device());
        if let Err(why) = std::fs::write(&trigger, "a test") {
            println!("SKIPPED: needs {trigger}: {why}");
            return;
        }
        life.crew.wait_lost();
        let refusal = kv
            .kv()
            .put("after", &Value::Int(1))
            .expect_err("the log cannot be written");
        assert_eq!(refusal.sub(), Some(SubCode::Unavailable), "{refusal}");
        assert!(refusal.to_string().contains("the log failed"), "{refusal}");
        let found = kv.kv().get("before").expect("reads go on");
        assert_eq!(found, Some(Value::Int(1)));
        let history = told_before(lost_at_ns, life.take_history());
        daemon.kill();
        // It cannot be made writable: it says so and ends, and changes nothing.
        let mut refused = Daemon::spawn(&life.place, None);
        assert!(!refused.wait_ready(DEADLINE), "{}", life.place.log_tail());
        let status = refused.wait_end(DEADLINE).expect("it ends");
        let told = life.place.log_tail();
        assert!(status.code().is_some_and(|code| code != 0), "{status}");
        assert!(told.contains("ead-only file system"), "{told}");
        mounted.mount_again();
        let _daemon = Daemon::start(&life.place);
        let kv = connect(&life.place.socket()).default_run();
        assert_eq!(
            kv.kv().get("before").expect("readable"),
            Some(Value::Int(1))
        );
        kv.kv().delete("before").expect("it is writable again");
        let summary = life.verify_without_cache(&history).summary;
        println!(
            "{} commits acknowledged before, none lost",
            summary.acked_count
        );
    });
}
