//! Kills at random moments of load, rotation, recovery and shutdown, in every mode, life by life.
//!
//! A kill counts with a request in flight and at least 100 acknowledged commits since the start.
//! Every fourth end is followed by another before anybody works, and the state is compared again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use in_mem_client::Client;
use in_mem_client::check::Mode;
use in_mem_wal::disk::SimRng;
use rustix::process::Signal;

use crate::kill::daemon::{DEADLINE, Daemon, Place, wait_readable};
use crate::kill::watch::Watch;
use crate::life::{Life, Manner, SEGMENT_LEN_BYTES, Verified, ended_by};
use crate::scale::{for_each_seed, scaled, start_seed};

/// Ends of one life: history only grows, and each restart reads all of it.
const END_COUNT: u64 = 20;

/// Commits that must have been acknowledged before a kill.
const ACKED_COUNT_MIN: u64 = 100;

/// Of so many kills at least one was at each of the moments. One in five is meant for each but load;
/// where a machine is so slow that its moment has passed, it counts as one under load, or not.
const KILLS_PER_MOMENT: u64 = 20;

/// When a daemon was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Load,
    Rotation,
    /// Of a snapshot, or of what it makes superfluous.
    Checkpoint,
    Recovery,
    Shutdown,
}

/// The kind of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Strict,
    StrictOverridden,
    Buffered,
    BufferedOverridden,
    InMemory,
    InMemoryOverridden,
}

impl Kind {
    fn of(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::Strict,
            1 => Self::BufferedOverridden,
            2 | 6 => Self::StrictOverridden,
            3 => Self::InMemoryOverridden,
            4 => Self::Buffered,
            5 => Self::Strict,
            _ => Self::InMemory,
        }
    }

    fn manner(self) -> Manner {
        match self {
            Self::Strict => Manner::new(Mode::Strict, 0),
            Self::StrictOverridden => Manner::new(Mode::Strict, 5),
            Self::Buffered => Manner::new(Mode::Buffered, 0),
            Self::BufferedOverridden => Manner::new(Mode::Buffered, 5),
            Self::InMemory => Manner::new(Mode::InMemory, 0),
            Self::InMemoryOverridden => Manner::new(Mode::InMemory, 5),
        }
    }
}

/// What the ends of one moment and kind came to.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    kill_count: u64,
    uncounted_count: u64,
    acked_count: usize,
    required_count: usize,
    unknown_count: usize,
    unknown_found_count: usize,
}

impl Tally {
    fn add(&mut self, verified: &Verified, is_counted: bool) {
        self.kill_count += u64::from(is_counted);
        self.uncounted_count += u64::from(!is_counted);
        self.acked_count += verified.summary.acked_count;
        self.required_count += verified.summary.required_count;
        self.unknown_count += verified.summary.unknown_count;
        self.unknown_found_count += verified.summary.unknown_found_count;
    }
}

/// The figures of all lives.
#[derive(Debug, Default)]
struct Figures {
    tallies: BTreeMap<(Kind, Moment), Tally>,
    again_count: u64,
    restart_us_max: u64,
}

impl Figures {
    /// The kills that counted, of those that are looked for.
    fn kill_count(&self, is_meant: impl Fn(Kind, Moment) -> bool) -> u64 {
        let meant = self
            .tallies
            .iter()
            .filter(|((kind, moment), _)| is_meant(*kind, *moment));
        meant.map(|(_, tally)| tally.kill_count).sum()
    }

    /// Fails unless the kills are spread over all moments and all kinds of lives.
    fn assert_spread(&self, least: u64) {
        for wanted in [
            Moment::Load,
            Moment::Rotation,
            Moment::Recovery,
            Moment::Shutdown,
        ] {
            let count = self.kill_count(|_, moment| moment == wanted);
            assert!(
                least <= count,
                "{count} kills at {wanted:?}, {least} are due"
            );
        }
        // Every second life takes checkpoints, and a few of its ends are meant for them.
        let count = self.kill_count(|_, moment| moment == Moment::Checkpoint);
        assert!(least / 4 <= count, "{count} kills at a checkpoint");
        for wanted in (0..8).map(Kind::of) {
            let count = self.kill_count(|kind, _| kind == wanted);
            assert_ne!(count, 0, "no kill counts in a life {wanted:?}");
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:<9} {:>6} {:>9} {:>8} {:>9} {:>8} {:>9}",
            "mode", "moment", "kills", "uncounted", "acked", "required", "unknown", "of it in"
        )?;
        let mut sum = Tally::default();
        for ((kind, moment), tally) in &self.tallies {
            write_line(f, &format!("{kind:?}"), &format!("{moment:?}"), tally)?;
            sum.kill_count += tally.kill_count;
            sum.uncounted_count += tally.uncounted_count;
            sum.acked_count += tally.acked_count;
            sum.required_count += tally.required_count;
            sum.unknown_count += tally.unknown_count;
            sum.unknown_found_count += tally.unknown_found_count;
        }
        write_line(f, "all", "", &sum)?;
        write!(
            f,
            "{} recovered again to the same digest; slowest recovery {} us",
            self.again_count, self.restart_us_max
        )
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, kind: &str, moment: &str, tally: &Tally) -> fmt::Result {
    writeln!(
        f,
        "{kind:<20} {moment:<9} {:>6} {:>9} {:>8} {:>9} {:>8} {:>9}",
        tally.kill_count,
        tally.uncounted_count,
        tally.acked_count,
        tally.required_count,
        tally.unknown_count,
        tally.unknown_found_count
    )
}

/// 500 kills in the ordinary run, 100,000 in a soak.
pub fn kills_lose_nothing() {
    let wanted_count = scaled(16, 500, 100_000);
    let counted = AtomicU64::new(0);
    let figures = Mutex::new(Figures::default());
    let seed = start_seed();
    println!("seed {seed}, at least {wanted_count} kills");
    let is_wanted = |index| {
        // Every kind of life is led at least once.
        let least = scaled(2, 8, 8);
        index < least || counted.load(Ordering::Relaxed) < wanted_count
    };
    let end_count = scaled(8, END_COUNT, END_COUNT);
    for_each_seed("crash_harness kills_at", is_wanted, |seed| {
        lead(seed, Kind::of(seed), false, end_count, &figures, &counted);
    });
    let figures = figures.into_inner().unwrap();
    println!("{figures}");
    assert!(wanted_count <= counted.into_inner(), "enough kills counted");
    // A quick run leads too few lives for each moment and each kind.
    if scaled(0, 1, 1) == 1 {
        figures.assert_spread(wanted_count / KILLS_PER_MOMENT);
    }
}

/// The same where io_uring is refused to the log.
pub fn kills_without_io_uring() {
    let counted = AtomicU64::new(0);
    let figures = Mutex::new(Figures::default());
    for (seed, kind) in [
        (start_seed(), Kind::StrictOverridden),
        (start_seed() + 1, Kind::Buffered),
    ] {
        let end_count = scaled(4, END_COUNT, 10 * END_COUNT);
        lead(seed, kind, true, end_count, &figures, &counted);
    }
    println!("{}", figures.into_inner().unwrap());
    assert_ne!(counted.into_inner(), 0, "kills counted");
}

/// Leads one life through all its ends.
fn lead(
    seed: u64,
    kind: Kind,
    is_ringless: bool,
    end_count: u64,
    figures: &Mutex<Figures>,
    counted: &AtomicU64,
) {
    let mut rng = SimRng::new(seed);
    // Every kind of life is led with and without.
    let takes_checkpoints = seed / 8 % 2 == 1;
    let dir = tempfile::Builder::new()
        .prefix("inmem-crash-")
        .tempdir()
        .unwrap();
    let mut place = Place::new(dir.path(), kind.manner().mode, SEGMENT_LEN_BYTES);
    if takes_checkpoints {
        place = place.with_checkpoints();
    }
    place.is_ringless = is_ringless;
    let (mut life, mut daemon) = Life::begin_at(place, Some(dir), kind.manner(), seed);
    if is_ringless {
        let log = life.place.log_tail();
        assert!(log.contains("io_uring is refused for the log"), "{log}");
        assert!(log.contains("served by readiness"), "{log}");
    }
    let mut times = Times {
        recovery_us: 20_000,
        shutdown_us: 3_000,
    };
    for end in 0..end_count {
        let mut moment = match rng.below(22) {
            0..=7 => Moment::Load,
            8..=11 => Moment::Rotation,
            12..=15 => Moment::Recovery,
            16 | 17 => Moment::Shutdown,
            _ if takes_checkpoints => Moment::Checkpoint,
            _ => Moment::Shutdown,
        };
        let (is_killed, ended) = end_one(&mut life, daemon, &mut moment, &mut rng, &mut times);
        daemon = ended;
        let history = life.take_history();
        let verified = life.verify(&history);
        let is_counted = is_killed
            && verified.in_flight_count != 0
            && ACKED_COUNT_MIN <= verified.summary.acked_count as u64;
        counted.fetch_add(u64::from(is_counted), Ordering::Relaxed);
        let recovery_us = daemon.ready_number("recovery_us");
        times.recovery_us = recovery_us.max(2_000);
        {
            let mut figures = figures.lock().unwrap();
            figures
                .tallies
                .entry((kind, moment))
                .or_default()
                .add(&verified, is_counted);
            figures.restart_us_max = recovery_us.max(figures.restart_us_max);
        }
        if end % 4 == 3 {
            daemon.kill();
            daemon = Daemon::start(&life.place);
            life.verify_again();
            figures.lock().unwrap().again_count += 1;
        }
    }
    assert!(
        daemon.terminate().success(),
        "the last daemon of a life stops cleanly"
    );
}

/// How long things took the last time: what random moments are drawn from.
struct Times {
    recovery_us: u64,
    shutdown_us: u64,
}

/// Lets the clients work, ends the daemon at a moment, and gives the next one, ready. Whether the
/// end was a kill; `moment` becomes the one that was met.
fn end_one(
    life: &mut Life,
    daemon: Daemon,
    moment: &mut Moment,
    rng: &mut SimRng,
    times: &mut Times,
) -> (bool, Daemon) {
    let watch = match *moment {
        Moment::Rotation => Watch::new(&life.place.data_dir().join("WAL")),
        Moment::Checkpoint => Watch::new(&life.place.data_dir().join("SNAPSHOTS")),
        Moment::Load | Moment::Recovery | Moment::Shutdown => None,
    };
    life.work(ACKED_COUNT_MIN + rng.below(150));
    let is_killed = match *moment {
        Moment::Rotation => {
            let wanted = ["wal-", "spare-"][usize::from(rng.below(3) == 0)];
            if !is_met(watch, wanted, &daemon) {
                *moment = Moment::Load;
            }
            ended_by(daemon.kill(), Signal::KILL)
        }
        Moment::Checkpoint => {
            let wanted = [".snap-", "snap-"][usize::from(rng.coin())];
            if !is_met(watch, wanted, &daemon) {
                *moment = Moment::Load;
            }
            ended_by(daemon.kill(), Signal::KILL)
        }
        Moment::Shutdown => stop_and_kill(daemon, rng, times),
        Moment::Load | Moment::Recovery => ended_by(daemon.kill(), Signal::KILL),
    };
    if *moment == Moment::Recovery {
        let kill_count = 1 + rng.below(2);
        let killed = (0..kill_count)
            .filter(|_| kill_recovery(&life.place, rng, times))
            .count();
        if killed == 0 {
            *moment = Moment::Load;
        }
    }
    (is_killed, Daemon::start(&life.place))
}

/// Waits until something happens to a file whose name begins so; false when nothing does.
fn is_met(watch: Option<Watch>, wanted: &str, daemon: &Daemon) -> bool {
    watch.is_some_and(|mut watch| {
        watch.drain();
        watch.wait(
            |name| name.starts_with(wanted),
            daemon.end(),
            Duration::from_secs(2),
        )
    })
}

/// SIGTERM, and SIGKILL while it stops.
fn stop_and_kill(mut daemon: Daemon, rng: &mut SimRng, times: &mut Times) -> bool {
    let started = Instant::now();
    daemon.signal(Signal::TERM);
    let moment = Duration::from_micros(rng.below(times.shutdown_us));
    let Some(status) = daemon.wait_end(moment) else {
        return ended_by(daemon.kill(), Signal::KILL);
    };
    assert!(
        status.success(),
        "a stopped daemon ends well, not with {status}"
    );
    let taken_us = u64::try_from(started.elapsed().as_micros()).unwrap();
    times.shutdown_us = taken_us.clamp(500, 50_000);
    false
}

/// Starts a daemon and kills it while it recovers, with a client at its socket. Whether it was not
/// yet ready.
fn kill_recovery(place: &Place, rng: &mut SimRng, times: &Times) -> bool {
    let mut watch = Watch::new(&place.dir).expect("the directory of the place");
    let mut daemon = Daemon::spawn(place, None);
    let name = |name: &str| name == "s.sock";
    assert!(
        watch.wait(name, daemon.end(), DEADLINE),
        "the socket appears"
    );
    // Its hello waits in the backlog; it fails when the daemon dies.
    let socket = place.socket();
    let client = std::thread::spawn(move || {
        let builder = Client::builder().socket(&socket);
        drop(
            builder
                .reconnect(in_mem_client::ReconnectPolicy::NONE)
                .connect(),
        );
    });
    let moment = Duration::from_micros(rng.below(times.recovery_us));
    let is_over = wait_readable(&[daemon.end()], Instant::now() + moment);
    assert!(!is_over, "recovery fails: {}", place.log_tail());
    let is_ready = daemon.wait_ready(Duration::ZERO);
    daemon.kill();
    client.join().expect("the client gives up");
    !is_ready
}
