//! Kills of client processes at every point of requests and of transactions, the daemon living on:
//! what each had begun is in or out, whole, and nobody else notices.
//!
//! A kill counts when a request was on its way or a transaction was open. In every second life
//! other clients work on undisturbed until the daemon is killed too, and the checker holds what is
//! recovered; in the others the running daemon is looked at.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use in_mem_client::check::{History, Mode};
use in_mem_wal::disk::SimRng;
use rustix::process::Signal;

use crate::kill::daemon::Daemon;
use crate::kill::victim::{self, Moment, Point};
use crate::life::{Life, Manner, ended_by};
use crate::scale::{scaled, start_seed};

/// Victims of one life.
const VICTIM_COUNT: u64 = 64;

/// Victims at work at once.
const LANE_COUNT: u64 = 4;

/// Requests and steps of transactions a victim tells of before it is killed, at most.
const TOLD_COUNT_MAX: u64 = 24;

/// Longest wait after the last of them. A Strict commit takes about so long.
const WAIT_US_MAX: u64 = 600;

/// Points of a transaction and of a request: each must have been met in an ordinary run.
const POINTS: [Point; 8] = [
    Point::Looking,
    Point::Write,
    Point::Pipeline,
    Point::Batch,
    Point::Begin,
    Point::Read,
    Point::Change,
    Point::Commit,
];

/// What the kills came to.
#[derive(Default)]
struct Figures {
    points: BTreeMap<Point, u64>,
    acked_count: usize,
    unknown_count: usize,
    unknown_found_count: usize,
}

impl Figures {
    fn counted(&self) -> u64 {
        POINTS
            .iter()
            .filter_map(|point| self.points.get(point))
            .sum()
    }
}

/// 1,000 kills in the ordinary run, 100,000 in a soak.
pub fn killed_clients_leave_all_or_nothing() {
    let wanted_count = scaled(48, 1_000, 100_000);
    let mut figures = Figures::default();
    let seed = start_seed();
    println!("seed {seed}, at least {wanted_count} kills of clients");
    let mut life = 0;
    while figures.counted() < wanted_count {
        lead(seed + life, &mut figures);
        life += 1;
    }
    println!(
        "{:?}\n{life} lives, {} kills counted; {} commits acknowledged, {} without an answer, {} of them in",
        figures.points,
        figures.counted(),
        figures.acked_count,
        figures.unknown_count,
        figures.unknown_found_count
    );
    let missed: Vec<&Point> = POINTS
        .iter()
        .filter(|point| !figures.points.contains_key(point))
        .collect();
    assert!(
        missed.is_empty() || wanted_count < 1_000,
        "never met: {missed:?}"
    );
    assert_ne!(figures.unknown_found_count, 0, "some were in");
    assert!(
        figures.unknown_found_count < figures.unknown_count,
        "some were out"
    );
}

/// One life of a daemon that outlives its clients.
fn lead(seed: u64, figures: &mut Figures) {
    let manner = Manner {
        client_count: if seed.is_multiple_of(2) { 2 } else { 0 },
        depth: 4,
        ..match seed % 3 {
            0 => Manner::new(Mode::Strict, 0),
            1 => Manner::new(Mode::Buffered, 0),
            _ => Manner::new(Mode::Strict, 5),
        }
    };
    let (mut life, daemon) = Life::begin(manner, seed);
    if manner.client_count != 0 {
        life.work(10);
    }
    let killed = kill_all(&life, seed, figures);
    let with_killed = |mut history: History| {
        history.operations.extend(killed.operations.iter().cloned());
        history
    };
    let summary = if manner.client_count == 0 {
        let history = with_killed(History::default());
        life.verify_running(&history).summary
    } else {
        let acked_count = life.crew.lock().acked_count;
        life.crew.wait("the others go on", |told| {
            acked_count + 10 <= told.acked_count
        });
        assert!(ended_by(daemon.kill(), Signal::KILL));
        let history = with_killed(life.take_history());
        let _next = Daemon::start(&life.place);
        life.verify(&history).summary
    };
    figures.acked_count += summary.acked_count;
    figures.unknown_count += summary.unknown_count;
    figures.unknown_found_count += summary.unknown_found_count;
}

/// Leads all victims of a life to their ends; gives what they told.
fn kill_all(life: &Life, seed: u64, figures: &mut Figures) -> History {
    let killed = Mutex::new((History::default(), &mut figures.points));
    let socket = life.place.socket();
    std::thread::scope(|scope| {
        for lane in 0..LANE_COUNT {
            let (killed, socket) = (&killed, &socket);
            scope.spawn(move || {
                let mut rng = SimRng::new(seed.wrapping_mul(LANE_COUNT).wrapping_add(lane));
                for index in (lane..VICTIM_COUNT).step_by(usize::try_from(LANE_COUNT).unwrap()) {
                    // The victims of a lane work on the same keys, one after the other.
                    let number = 10 + u32::try_from(lane).unwrap();
                    let mut orders = life.orders(number, rng.below(u64::MAX));
                    orders.tells_steps = true;
                    let moment = Moment {
                        told_count: 1 + rng.below(TOLD_COUNT_MAX),
                        wait: Duration::from_micros(rng.below(WAIT_US_MAX)),
                    };
                    let remains = victim::lead(&orders, socket, moment);
                    let mut killed = killed.lock().unwrap();
                    let worker = 100 + u32::try_from(index).unwrap();
                    killed.0.add_worker(worker, remains.records);
                    *killed.1.entry(remains.point).or_default() += 1;
                }
            });
        }
    });
    killed.into_inner().unwrap().0
}
