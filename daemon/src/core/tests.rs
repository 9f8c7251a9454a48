//! Requests that wait for the log, on a log that is driven by hand.

mod defects;
mod durable;

use in_mem_engine::{Database, Driver, DurabilityMode};
use in_mem_ipc::codec::{access_response, encode_request};
use in_mem_ipc::frame::{FrameKind, parse_frame};
use in_mem_ipc::hello::Hello;
use in_mem_ipc::request::kv::{Key, KeyValue, Keys};
use in_mem_ipc::request::txn::TxnBegin;
use in_mem_ipc::request::{DurabilityChoice, RunChoice};
use in_mem_ipc::response::system::CommitOutcome;
use in_mem_ipc::{FrameBuffer, Operation, Request, RequestHeader, Response};
use in_mem_model::SubCode;
use in_mem_wal::disk::{DiskKind, Fault, FaultRule, FileSystem, OpKind, SimOptions, SimWorld};
use in_mem_wal::{LogConfig, Turn};

mod exports;
mod once;
mod replies;
mod snapshots;
mod users;

use super::*;
use crate::config::{Principals, Settings};
use crate::reactor::{Reactor, Readiness};
use crate::session::Phase;
use crate::store::Place;
use crate::workers::Lane;

/// The value `Int 7`, encoded.
const SEVEN: &[u8] = &[7];

/// Longest a worker may take, as a count of looks.
const LOOK_COUNT_MAX: u32 = 100_000_000;

struct Fixture {
    core: Core,
    world: SimWorld,
    driver: Driver,
    /// The wake-ups of the core end here.
    _reactor: Readiness,
}

impl Fixture {
    /// A core over a log that takes one record at a time, with `count` sessions.
    fn new(count: u32) -> Self {
        Self::with(count, Settings::default())
    }

    fn with(count: u32, settings: Settings) -> Self {
        let world = SimWorld::new(SimOptions::new(1));
        let database = Database::builder()
            .durability(DurabilityMode::Strict)
            .wal_config(LogConfig {
                queue_count_max: 1,
                segment_len_bytes: 4 << 20,
                buffered_sync_len_bytes: 1 << 20,
                ..LogConfig::default()
            })
            .disk(Arc::new(world.clone()))
            .manual()
            .open()
            .expect("opens");
        let driver = database.take_driver().expect("opens").expect("manual");
        let principals = Principals::resolve(&settings.access).expect("resolves");
        let place = Place {
            file_system: FileSystem::Ext,
            disk: DiskKind::Simulated,
            refusal: None,
            root: None,
            reactor: "readiness",
            ring_refusal: None,
        };
        let store = Arc::new(Store::new(database, settings, principals, place));
        let reactor = Readiness::new().expect("a reactor");
        let workers = Workers::start().expect("starts");
        let core = Core::new(store, &reactor.waker(), workers);
        let mut this = Self {
            core,
            world,
            driver,
            _reactor: reactor,
        };
        this.drive();
        for slot in 0..count {
            this.connect(slot);
        }
        this
    }

    fn connect(&mut self, slot: u32) {
        let credentials = Credentials {
            process: 1,
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
        };
        self.core.connect(slot, credentials);
        let mut hello = FrameBuffer::new();
        Hello::default().encode(&mut hello).expect("fits");
        self.core.receive(slot, &hello);
        let session = self.core.session_mut(slot).expect("there");
        assert!(session.phase == Phase::Open);
        session.outbound.buffer().clear();
    }

    /// Runs the log until it has nothing to do.
    fn drive(&mut self) {
        loop {
            let has_worked = self.driver.drive_background();
            match self.driver.drive_log() {
                Turn::Idle { .. } if !has_worked => return,
                Turn::Worked | Turn::Idle { .. } => {}
                Turn::Closed | Turn::Poisoned => panic!("the log ended"),
            }
        }
    }

    fn start_turn(&mut self) {
        self.core.begin_turn(1);
    }

    /// Waits until a worker has handed something back.
    fn wait_for_worker(&self) {
        let is_done = (0..LOOK_COUNT_MAX).any(|_| {
            std::thread::yield_now();
            self.core.job_inbox.has_items()
        });
        assert!(is_done, "the worker has not answered");
    }

    /// The answers a session has got, with the ids of their requests.
    fn answers(&mut self, slot: u32) -> Vec<(u64, Response<'static>)> {
        let session = self.core.session_mut(slot).expect("there");
        let sent = session.outbound.drain();
        let mut rest: &[u8] = &sent;
        let mut answers = Vec::new();
        while let Some(frame) = parse_frame(rest).expect("our own frames") {
            assert_eq!(frame.header.kind, FrameKind::Response);
            let response = access_response(frame.body).expect("valid");
            let response = Response::from_archived(response).expect("valid");
            answers.push((frame.header.request_id, response));
            rest = &rest[frame.header.frame_len_bytes() as usize..];
        }
        answers
    }

    fn is_parked(&mut self, slot: u32) -> bool {
        self.core
            .session_mut(slot)
            .is_some_and(|session| session.parked.is_some())
    }

    fn value_of(&mut self, slot: u32, key: &str) -> Response<'static> {
        let get = Operation::KvGet(Key { key: key.into() });
        let bytes = frame(900, 0, get);
        self.core.receive(slot, &bytes);
        let (id, response) = self.answers(slot).pop().expect("a read waits for nothing");
        assert_eq!(id, 900);
        response
    }
}

fn frame(id: u64, deadline_us: u32, operation: Operation<'_>) -> FrameBuffer {
    let header = RequestHeader {
        deadline_us,
        ..RequestHeader::default()
    };
    let mut buffer = FrameBuffer::new();
    encode_request(&Request { header, operation }, id, &mut buffer).expect("fits");
    buffer
}

fn put(id: u64, deadline_us: u32, key: &str) -> FrameBuffer {
    let key = key.into();
    let value = SEVEN.into();
    frame(id, deadline_us, Operation::KvPut(KeyValue { key, value }))
}

/// A put that is for the workers.
fn large_put(id: u64, deadline_us: u32, key: &'static str) -> FrameBuffer {
    frame(id, deadline_us, large(key))
}

fn large(key: &'static str) -> Operation<'static> {
    let mut value = vec![0xc6];
    value.extend_from_slice(&(300_u32 << 10).to_be_bytes());
    value.resize(value.len() + (300 << 10), 7);
    Operation::KvPut(KeyValue {
        key: key.into(),
        value: value.into(),
    })
}

fn is_written(answers: &[(u64, Response<'_>)], id: u64) -> bool {
    matches!(answers, [(got, Response::Written(_))] if *got == id)
}

#[test]
fn a_request_that_waits_for_room_past_its_deadline_is_refused_and_what_follows_goes_on() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    let mut pipelined = put(2, 1_000, "late").to_vec();
    pipelined.extend_from_slice(&frame(3, 0, Operation::SystemPing));
    this.core.receive(1, &pipelined);
    this.core.receive(2, &put(4, 0, "patient"));
    assert!(this.is_parked(1) && this.is_parked(2));
    this.core.turn_us += 999;
    this.core.expire();
    assert!(this.is_parked(1), "its time is not over");
    this.core.turn_us += 1;
    assert!(this.core.next_deadline_us() <= Some(this.core.monotonic_us()));
    this.core.expire();
    this.core.resume_touched();
    let answers = this.answers(1);
    match answers.as_slice() {
        [(2, Response::Error(error)), (3, Response::Done)] => {
            assert_eq!(error.sub, SubCode::Timeout.number());
            assert!(error.message.contains("nothing was done"));
        }
        other => panic!("{other:?}"),
    }
    assert!(this.is_parked(2), "no deadline, no refusal");
    this.drive();
    this.start_turn();
    this.core.finish_turn();
    this.drive();
    this.start_turn();
    this.core.finish_turn();
    assert!(is_written(&this.answers(0), 1));
    assert!(is_written(&this.answers(2), 4));
    assert_eq!(this.value_of(1, "late"), Response::Missing);
}

/// What was lost: the one announcement of room went to a request that waited already, and one that
/// was still on its way back from a worker parked for ever, with every later write behind it.
#[test]
fn a_request_that_parks_after_the_room_was_announced_is_tried_again() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    this.core.receive(2, &large_put(3, 0, "large"));
    this.wait_for_worker();
    this.core.receive(1, &put(2, 0, "second"));
    assert!(this.is_parked(1));
    this.drive();
    this.start_turn();
    this.core.retry_waiting();
    this.drive();
    this.start_turn();
    this.core.finish_turn();
    assert!(is_written(&this.answers(1), 2));
    assert!(!this.is_parked(2), "it was refused before the announcement");
    this.wait_for_worker();
    this.core.finish_turn();
    this.drive();
    this.core.finish_turn();
    assert!(is_written(&this.answers(2), 3));
}

#[test]
fn trying_again_does_not_give_a_request_more_time() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    let started_us = this.core.monotonic_us();
    this.core.receive(1, &large_put(2, 4_000_000_000, "large"));
    for _ in 0..3 {
        this.wait_for_worker();
        this.core.take_finished_jobs();
        assert!(this.is_parked(1));
        let session = this.core.session_mut(1).expect("there");
        let parked = session.parked.as_ref().expect("parked");
        assert_eq!(parked.deadline_us, Some(started_us + 4_000_000_000));
        // Announced, and others were faster.
        this.core.log_inbox.space_available();
        this.start_turn();
        this.core.retry_waiting();
    }
}

#[test]
fn a_request_that_waited_too_long_for_a_worker_is_refused() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.core.turn_us = 0;
    this.core.receive(0, &large_put(1, 1, "large"));
    this.wait_for_worker();
    this.core.take_finished_jobs();
    let answers = this.answers(0);
    match answers.as_slice() {
        [(1, Response::Error(error))] => assert_eq!(error.sub, SubCode::Timeout.number()),
        other => panic!("{other:?}"),
    }
    this.drive();
    assert_eq!(this.value_of(0, "large"), Response::Missing);
}

#[test]
fn a_peer_whose_bytes_wait_for_the_log_is_not_closed_for_them() {
    let mut this = Fixture::new(2);
    let frame_timeout_us = 1_000 * this.core.store.limits_in_force().frame_timeout_ms;
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    let mut pipelined = put(2, 0, "second").to_vec();
    let third = put(3, 0, "third");
    pipelined.extend_from_slice(&third[..third.len() / 2]);
    this.core.receive(1, &pipelined);
    for _ in 0..3 {
        this.core.turn_us += frame_timeout_us;
        assert!(this.core.expire().is_empty());
        let session = this.core.session_mut(1).expect("there");
        assert!(session.phase == Phase::Open);
    }
    this.drive();
    this.core.finish_turn();
    this.drive();
    this.core.finish_turn();
    assert!(is_written(&this.answers(1), 2));
    // Now it is the peer who is late.
    this.core.turn_us += frame_timeout_us;
    this.core.expire();
    let session = this.core.session_mut(1).expect("there");
    assert!(session.phase == Phase::Closing);
}

#[test]
fn a_request_that_waits_for_room_when_the_daemon_stops_is_told_that_nothing_was_done() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    this.core.receive(1, &put(2, 0, "second"));
    assert!(this.is_parked(1));
    this.core.drain();
    let answers = this.answers(1);
    match answers.as_slice() {
        [(2, Response::Error(error))] => assert_eq!(error.sub, SubCode::Unavailable.number()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_values_that_are_large_together_are_read_by_a_worker() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let keys: Vec<String> = (0..3).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        let mut value = vec![0xc6];
        value.extend_from_slice(&(100_u32 << 10).to_be_bytes());
        value.resize(value.len() + (100 << 10), 7);
        let put = KeyValue {
            key: key.as_str().into(),
            value: value.as_slice().into(),
        };
        this.core.receive(0, &frame(1, 0, Operation::KvPut(put)));
        this.drive();
        this.core.finish_turn();
    }
    this.answers(0);
    for (count, is_for_a_worker) in [(2, false), (3, true)] {
        let keys = keys.iter().take(count).map(|key| key.as_str().into());
        let get = Operation::KvGetMany(Keys {
            keys: keys.collect(),
        });
        this.core.receive(0, &frame(5, 0, get));
        let job_count = this.core.session_mut(0).expect("there").job_count;
        assert_eq!(job_count, u32::from(is_for_a_worker), "{count} values");
        if is_for_a_worker {
            this.wait_for_worker();
            this.core.take_finished_jobs();
        }
        match this.answers(0).as_slice() {
            [(5, Response::Values(values))] => assert_eq!(values.len(), count),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_that_is_gone_waits_no_longer_and_holds_nobody_up() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    for _ in 0..100 {
        this.core.receive(1, &put(2, 0, "gone"));
        assert!(this.is_parked(1));
        this.core.receive(2, &put(3, 0, "second"));
        this.core.disconnect(1);
        this.connect(1);
    }
    assert_eq!(this.core.waiting_for_room.len(), 1);
    this.drive();
    this.start_turn();
    this.core.finish_turn();
    this.drive();
    this.core.finish_turn();
    assert!(is_written(&this.answers(0), 1));
    assert!(matches!(
        this.answers(2).first(),
        Some((3, Response::Written(_)))
    ));
    assert_eq!(this.value_of(1, "gone"), Response::Missing);
}

/// What was lost: a log that failed told those that waited for its room nothing, and every later
/// write queued behind them for ever.
#[test]
fn requests_that_wait_for_room_in_a_log_that_fails_are_answered() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "first"));
    this.core.receive(1, &put(2, 0, "second"));
    assert!(this.is_parked(1));
    for kind in [OpKind::Write, OpKind::WriteSynced, OpKind::Sync] {
        this.world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    let has_failed = (0..100).any(|_| this.driver.drive_log() == Turn::Poisoned);
    assert!(has_failed);
    // As often as the log may have announced anything.
    for _ in 0..3 {
        this.start_turn();
        this.core.finish_turn();
    }
    this.core.receive(2, &put(3, 0, "third"));
    for (slot, id, sub) in [
        (0, 1, SubCode::WalPoisoned),
        (1, 2, SubCode::Unavailable),
        (2, 3, SubCode::Unavailable),
    ] {
        match this.answers(slot).as_slice() {
            [(got, Response::Error(error))] => {
                assert_eq!((*got, error.sub), (id, sub.number()), "{}", &*error.message);
            }
            other => panic!("{slot}: {other:?}"),
        }
    }
}

/// A user that exists nowhere and is not ours.
const STRANGER: u32 = 4_000_000_000;

fn stranger() -> Credentials {
    Credentials {
        process: 1,
        user: STRANGER,
        group: STRANGER,
    }
}

fn phase(this: &mut Fixture, slot: u32) -> Phase {
    this.core.session_mut(slot).expect("there").phase
}

#[test]
fn who_may_connect_changes_for_those_that_are_connected_too() {
    let mut this = Fixture::new(1);
    let mut access = this.core.store.settings.access.clone();
    access.users.push(STRANGER.to_string());
    let store = Arc::clone(&this.core.store);
    this.core.connect(1, stranger());
    assert!(phase(&mut this, 1) == Phase::Closing, "not listed yet");
    store.set_principals(Principals::resolve(&access).expect("resolves"));
    this.core.connect(2, stranger());
    assert!(phase(&mut this, 2) == Phase::Greeting, "listed");
    store.set_principals(Principals::resolve(&store.settings.access).expect("resolves"));
    this.core.settings_changed(0);
    assert!(phase(&mut this, 2) == Phase::Closing, "listed no longer");
    assert!(phase(&mut this, 0) == Phase::Open, "our own user stays");
}

#[test]
fn who_is_accepted_after_the_stop_began_is_told_so() {
    let mut this = Fixture::new(0);
    this.core.drain();
    let own = Credentials {
        user: 0,
        ..stranger()
    };
    this.core.connect(0, own);
    assert!(phase(&mut this, 0) == Phase::Closing);
}

fn frame_with(id: u64, header: RequestHeader, operation: Operation<'_>) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    encode_request(&Request { header, operation }, id, &mut buffer).expect("fits");
    buffer
}

#[test]
fn a_small_request_that_names_a_large_value_many_times_in_a_transaction_is_refused() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let put = large_put(1, 0, "large");
    this.core.receive(0, &put);
    this.wait_for_worker();
    this.core.take_finished_jobs();
    this.drive();
    this.core.finish_turn();
    let begin = Operation::TxnBegin(TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    });
    this.answers(0);
    this.core.receive(0, &frame(2, 0, begin));
    let answers = this.answers(0);
    let [(2, Response::TxnBegun(begun))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    let header = RequestHeader {
        txn_id: begun.txn_id,
        ..RequestHeader::default()
    };
    let keys = || Keys {
        keys: vec!["large".into(); 1_000],
    };
    let exists = frame_with(3, header, Operation::KvExistsMany(keys()));
    this.core.receive(0, &exists);
    assert_eq!(this.answers(0), [(3, Response::Count(1_000))]);
    this.core
        .receive(0, &frame_with(4, header, Operation::KvGetMany(keys())));
    let job_count = this.core.session_mut(0).expect("there").job_count;
    assert_eq!(job_count, 1, "large values are for a worker");
    this.wait_for_worker();
    this.core.take_finished_jobs();
    match this.answers(0).as_slice() {
        [(4, Response::Error(error))] => {
            assert_eq!(error.sub, SubCode::BudgetExceeded.number());
        }
        other => panic!("{} answers", other.len()),
    }
}

#[test]
fn a_write_to_a_run_that_does_not_exist_is_told_that_nothing_was_committed() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let header = RequestHeader {
        run: RunChoice::Id([9; 16]),
        ..RequestHeader::default()
    };
    let put = Operation::KvPut(KeyValue {
        key: "key".into(),
        value: SEVEN.into(),
    });
    this.core.receive(0, &frame_with(1, header, put));
    match this.answers(0).as_slice() {
        [(1, Response::Error(error))] => {
            assert_eq!(error.sub, SubCode::RunNotFound.number());
            assert_eq!(error.outcome, Some(CommitOutcome::NotCommitted));
        }
        other => panic!("{other:?}"),
    }
}

/// What was lost: whoever may not connect could fill the log, a line for each try.
#[test]
fn peers_that_may_not_connect_get_few_lines_and_the_next_line_counts_the_others() {
    let mut this = Fixture::new(0);
    this.start_turn();
    for _ in 0..100 {
        this.core.connect(0, stranger());
        this.core.disconnect(0);
    }
    let later_us = this.core.turn_us + PROVOKED_WINDOW_US;
    let unsaid = 100 - u64::from(PROVOKED_LINE_COUNT_MAX);
    assert_eq!(this.core.stranger_lines.may_say(later_us), Some(unsaid));
}
