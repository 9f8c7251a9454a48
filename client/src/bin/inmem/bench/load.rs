//! The load: one thread that keeps requests on their way over many connections.
//!
//! In a closed loop each answer makes room for the next request at once. In an open loop requests
//! are due at a fixed rate whatever the answers do; one that is due while no connection has room
//! waits its turn, and its latency counts from when it was due, so a pause of the server is seen
//! in full. Per wake-up there is one receive and one send for each connection with news, and two
//! readings of the clock; a request is queued without an allocation.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};

use super::tally::Tally;

/// How long answers are waited for after the end, nanoseconds. What has none by then counts as an
/// error.
const DRAIN_NS_MAX: u64 = 10_000_000_000;

/// Connections with news looked at in one wake-up.
const EVENT_COUNT: usize = 128;

/// Length of a key: `key:` and twelve digits, bytes.
const KEY_LEN_BYTES: usize = 16;

/// One connection, to whatever server.
pub(crate) trait Wire: AsFd {
    /// Queues a put of a key; `slot` names the request.
    fn put(&mut self, slot: u32, key: &str) -> io::Result<()>;
    /// Queues a get of a key.
    fn get(&mut self, slot: u32, key: &str) -> io::Result<()>;
    /// Sends what the kernel takes; whether nothing is left.
    fn send(&mut self) -> io::Result<bool>;
    /// Receives once, and gives the slot of each answer and what is wrong with it, if anything.
    fn receive(&mut self, take: &mut dyn FnMut(u32, Result<(), String>)) -> io::Result<()>;
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Puts.
    Put,
    /// Gets.
    Get,
    /// Both, as often, drawn by chance.
    Mixed,
}

/// The load of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// What is asked.
    pub(crate) mix: Mix,
    /// Keys to draw from.
    pub(crate) key_count: u64,
    /// Requests on their way per connection.
    pub(crate) depth: u32,
    /// When it begins, nanoseconds of the clock all processes share.
    pub(crate) start_ns: u64,
    /// When counting begins.
    pub(crate) count_from_ns: u64,
    /// When it ends.
    pub(crate) end_ns: u64,
    /// When requests are due; none for a closed loop.
    pub(crate) pace: Option<Pace>,
    /// The number the keys are drawn from.
    pub(crate) seed: u64,
}

/// When the requests of one process are due: evenly, and in turn with the other processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Requests a second of all processes.
    pub(crate) rate: u64,
    /// This process, from 0.
    pub(crate) process: u64,
    /// All processes.
    pub(crate) process_count: u64,
}

impl Pace {
    /// When the request with this number is due, nanoseconds after the start.
    fn due_ns(&self, number: u64) -> u64 {
        let number = u128::from(number) * u128::from(self.process_count) + u128::from(self.process);
        let due = number * 1_000_000_000 / u128::from(self.rate.max(1));
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds of the clock all processes of this machine share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// Waits for the start and puts the load on the connections.
pub(crate) fn run<W: Wire>(wires: Vec<W>, plan: Plan) -> io::Result<Tally> {
    // The default of 50 us would make every request of an open loop late by as much
    // (PR_SET_TIMERSLACK(2const)).
    set_current_timer_slack(NonZeroU64::new(1))?;
    let mut load = Load::new(wires, plan)?;
    while let Some(wait_ns) = plan.start_ns.checked_sub(now_ns()).filter(|wait| 0 < *wait) {
        poll(&mut [], Some(&timespec(wait_ns)))?;
    }
    load.work()?;
    Ok(load.tally)
}

/// A connection and its requests.
struct Station<W> {
    wire: W,
    /// When each request began, or was due.
    begins_ns: Vec<u64>,
    free_slots: Vec<u32>,
    is_lost: bool,
    /// Whether the kernel did not take all that was queued.
    is_stuffed: bool,
}

struct Load<W> {
    plan: Plan,
    stations: Vec<Station<W>>,
    epoll: OwnedFd,
    tally: Tally,
    random: Random,
    /// Requests begun, of an open loop.
    begun_count: u64,
    in_flight_count: u64,
    /// The connection the next due request goes to, if it has room.
    turn: usize,
    /// Connections with something queued.
    touched: Vec<usize>,
}

impl<W: Wire> Load<W> {
    fn new(wires: Vec<W>, plan: Plan) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut stations = Vec::with_capacity(wires.len());
        for (number, wire) in (0_u64..).zip(wires) {
            epoll::add(&epoll, &wire, EventData::new_u64(number), EventFlags::IN)?;
            stations.push(Station {
                wire,
                begins_ns: (0..plan.depth).map(|_| 0).collect(),
                free_slots: (0..plan.depth).rev().collect(),
                is_lost: false,
                is_stuffed: false,
            });
        }
        Ok(Self {
            touched: Vec::with_capacity(stations.len()),
            stations,
            epoll,
            tally: Tally::new()?,
            random: Random(plan.seed),
            begun_count: 0,
            in_flight_count: 0,
            turn: 0,
            plan,
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENT_COUNT);
        let mut now = now_ns();
        if self.plan.pace.is_none() {
            (0..self.stations.len()).for_each(|index| self.refill(index, now));
        }
        loop {
            if self.plan.pace.is_some() {
                self.begin_due(now);
            }
            self.send_queued()?;
            if !self.wait(&mut events, now)? {
                break;
            }
            now = now_ns();
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.attend(index, event.flags, now);
            }
        }
        self.close();
        Ok(())
    }

    /// Waits for news of a connection or for the time of the next request; whether there is
    /// anything left to wait for.
    fn wait(&mut self, events: &mut Vec<epoll::Event>, now: u64) -> io::Result<bool> {
        let is_over = self.plan.end_ns <= now;
        let has_connection = self.stations.iter().any(|station| !station.is_lost);
        if !has_connection || (is_over && self.in_flight_count == 0) {
            return Ok(false);
        }
        let until_ns = match (is_over, self.plan.pace) {
            (true, _) => self.plan.end_ns + DRAIN_NS_MAX,
            // Without room, the next answer is what is waited for.
            (false, Some(pace)) if self.has_room() => {
                let due_ns = pace.due_ns(self.begun_count);
                self.plan
                    .end_ns
                    .min(self.plan.start_ns.saturating_add(due_ns))
            }
            (false, _) => self.plan.end_ns,
        };
        let wait_ns = until_ns.saturating_sub(now_ns());
        if wait_ns == 0 && is_over {
            return Ok(false);
        }
        // epoll_wait(2) waits in milliseconds, ppoll(2) in nanoseconds.
        let is_timed = is_over || self.plan.pace.is_some();
        if is_timed && 0 < wait_ns {
            let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
            retried(poll(&mut ready, Some(&timespec(wait_ns))))?;
        }
        let timeout_ns = if is_timed { 0 } else { wait_ns };
        let timeout = timespec(timeout_ns);
        retried(epoll::wait(
            &self.epoll,
            spare_capacity(events),
            Some(&timeout),
        ))?;
        Ok(true)
    }

    /// Whether some connection could take a request.
    fn has_room(&self) -> bool {
        let mut open = self.stations.iter().filter(|station| !station.is_lost);
        open.any(|station| !station.free_slots.is_empty())
    }

    /// Takes the answers of a connection, and makes up for them.
    fn attend(&mut self, index: usize, flags: EventFlags, now: u64) {
        let Some(station) = self.stations.get_mut(index) else {
            return;
        };
        if station.is_stuffed {
            self.touched.push(index);
        }
        if station.is_lost || flags == EventFlags::OUT {
            return;
        }
        let (plan, tally) = (&self.plan, &mut self.tally);
        let (begins_ns, free_slots) = (&station.begins_ns, &mut station.free_slots);
        let mut answered_count = 0;
        let mut take = |slot: u32, checked: Result<(), String>| {
            let begun_ns = begins_ns.get(slot as usize).copied().unwrap_or(now);
            free_slots.push(slot);
            answered_count += 1;
            match checked {
                Ok(()) => count(plan, tally, begun_ns, now),
                Err(message) => tally.fail(1, || message),
            }
        };
        let received = station.wire.receive(&mut take);
        self.in_flight_count -= answered_count;
        match received {
            Err(error) => self.lose(index, &error),
            Ok(()) if self.plan.pace.is_none() => self.refill(index, now),
            Ok(()) => {}
        }
    }

    /// Begins as many requests as a connection has room for.
    fn refill(&mut self, index: usize, now: u64) {
        if now < self.plan.end_ns {
            while self.begin(index, now) {}
        }
    }

    /// Begins every request that is due, as far as there is room.
    fn begin_due(&mut self, now: u64) {
        let Some(pace) = self.plan.pace else {
            return;
        };
        let mut full_count = 0;
        while full_count < self.stations.len() {
            let due_ns = self
                .plan
                .start_ns
                .saturating_add(pace.due_ns(self.begun_count));
            if now < due_ns || self.plan.end_ns <= due_ns || self.plan.end_ns <= now {
                return;
            }
            let index = self.turn;
            self.turn = (index + 1) % self.stations.len();
            if self.begin(index, due_ns) {
                self.begun_count += 1;
                full_count = 0;
            } else {
                full_count += 1;
            }
        }
    }

    /// Queues a request that began at this time; false if the connection has no room.
    fn begin(&mut self, index: usize, begun_ns: u64) -> bool {
        let Some(station) = self.stations.get_mut(index) else {
            return false;
        };
        if station.is_lost {
            return false;
        }
        let Some(slot) = station.free_slots.pop() else {
            return false;
        };
        let drawn = self.random.next();
        let mut room = [0; KEY_LEN_BYTES];
        let key = key_text(drawn % self.plan.key_count.max(1), &mut room);
        let is_put = match self.plan.mix {
            Mix::Put => true,
            Mix::Get => false,
            Mix::Mixed => drawn >> 63 == 0,
        };
        let queued = match is_put {
            true => station.wire.put(slot, key),
            false => station.wire.get(slot, key),
        };
        self.in_flight_count += 1;
        if let Some(begins_ns) = station.begins_ns.get_mut(slot as usize) {
            *begins_ns = begun_ns;
        }
        if self.touched.last() != Some(&index) {
            self.touched.push(index);
        }
        if let Err(error) = queued {
            self.lose(index, &error);
        }
        true
    }

    /// Sends what is queued on every connection that has something.
    fn send_queued(&mut self) -> io::Result<()> {
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            let Some(station) = self.stations.get_mut(index) else {
                continue;
            };
            if station.is_lost {
                continue;
            }
            match station.wire.send() {
                Ok(is_sent) if is_sent != station.is_stuffed => {}
                Ok(is_sent) => {
                    station.is_stuffed = !is_sent;
                    let mut flags = EventFlags::IN;
                    flags.set(EventFlags::OUT, station.is_stuffed);
                    let data = EventData::new_u64(index as u64);
                    epoll::modify(&self.epoll, &station.wire, data, flags)?;
                }
                Err(error) => self.lose(index, &error),
            }
        }
        self.touched = touched;
        Ok(())
    }

    /// Gives a connection up: what was on its way over it has no answer.
    fn lose(&mut self, index: usize, error: &io::Error) {
        let Some(station) = self.stations.get_mut(index) else {
            return;
        };
        station.is_lost = true;
        let free_count = station.free_slots.len();
        let open_count = station.begins_ns.len().saturating_sub(free_count) as u64;
        self.in_flight_count -= open_count;
        // A connection that is lost is an error even if nothing was asked over it.
        self.tally.fail(open_count.max(1), || error.to_string());
        // It stays registered until it is closed; a lost one would wake this thread for ever.
        let _ = epoll::delete(&self.epoll, &station.wire);
    }

    /// Counts what did not happen: requests without an answer, and, of an open loop, those that
    /// were due and never found room, with the time they had waited.
    fn close(&mut self) {
        self.tally.fail(self.in_flight_count, || {
            format!(
                "no answer within {} s of the end",
                DRAIN_NS_MAX / 1_000_000_000
            )
        });
        let Some(pace) = self.plan.pace else {
            return;
        };
        loop {
            let due_ns = self
                .plan
                .start_ns
                .saturating_add(pace.due_ns(self.begun_count));
            if self.plan.end_ns <= due_ns {
                return;
            }
            if self.plan.count_from_ns <= due_ns {
                self.tally.record(self.plan.end_ns - due_ns, 1);
            }
            self.begun_count += 1;
        }
    }
}

/// Counts an answer: as done if it came inside the time measured, and its latency if it belongs
/// to that time. In an open loop a request belongs to the time it was due in, however late its
/// answer is.
fn count(plan: &Plan, tally: &mut Tally, begun_ns: u64, now: u64) {
    let is_inside = |at_ns: u64| plan.count_from_ns <= at_ns && at_ns < plan.end_ns;
    tally.op_count += u64::from(is_inside(now));
    let belongs_ns = if plan.pace.is_some() { begun_ns } else { now };
    if is_inside(belongs_ns) {
        tally.record(now.saturating_sub(begun_ns), 1);
    }
}

/// The name of a key.
pub(crate) fn key_text(number: u64, room: &mut [u8; KEY_LEN_BYTES]) -> &str {
    *room = *b"key:000000000000";
    let mut rest = number;
    for digit in room.iter_mut().skip(4).rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    std::str::from_utf8(room).unwrap_or_default()
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or_default(),
    }
}

/// An interrupted wait has waited for nothing.
fn retried<T: Default>(waited: rustix::io::Result<T>) -> io::Result<T> {
    match waited {
        Err(rustix::io::Errno::INTR) => Ok(T::default()),
        waited => Ok(waited?),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
