//! Waiting for commits to be durable, and being told of it, on a log that is driven by hand.

use in_mem_ipc::request::db::{Unsubscribe, WaitDurable};
use in_mem_ipc::request::version::TaggedVersion;

use super::*;
use crate::shares::Resource;

/// What a session got: an answer to a request, or a push of a subscription.
#[derive(Debug, PartialEq)]
enum Got {
    Answer(u64, Response<'static>),
    Push(u64, Response<'static>),
}

fn durable(version: u64) -> Response<'static> {
    Response::Version(TaggedVersion::Txn(version))
}

fn wait(id: u64, deadline_us: u32, version: u64) -> FrameBuffer {
    frame(
        id,
        deadline_us,
        Operation::DbWaitDurable(WaitDurable { version }),
    )
}

impl Fixture {
    /// What the log finished is taken in, as at the end of a turn.
    fn take_in(&mut self) {
        self.start_turn();
        self.core.finish_turn();
    }

    /// Puts in one mode; gives the commit version.
    fn put_in(&mut self, durability: DurabilityChoice) -> u64 {
        let header = RequestHeader {
            durability,
            ..RequestHeader::default()
        };
        let operation = Operation::KvPut(KeyValue {
            key: "k".into(),
            value: SEVEN.into(),
        });
        let mut bytes = FrameBuffer::new();
        encode_request(&Request { header, operation }, 700, &mut bytes).expect("fits");
        self.core.receive(0, &bytes);
        match self.got(0).as_slice() {
            [Got::Answer(700, Response::Written(receipt))] => receipt.commit_version,
            other => panic!("{other:?}"),
        }
    }

    /// Everything a session has got since it was asked last.
    fn got(&mut self, slot: u32) -> Vec<Got> {
        let session = self.core.session_mut(slot).expect("there");
        let bytes = session.outbound.drain();
        got_in(&bytes)
    }

    /// What a send that begins now takes along.
    fn send(&mut self, slot: u32) -> FrameBuffer {
        self.core.push_durable(slot);
        let session = self.core.session_mut(slot).expect("there");
        session.outbound.take_ready().unwrap_or_default()
    }

    fn error_of(&mut self, slot: u32, id: u64) -> u16 {
        match self.got(slot).as_slice() {
            [Got::Answer(got, Response::Error(error))] if *got == id => error.sub,
            other => panic!("{other:?}"),
        }
    }
}

fn got_in(bytes: &[u8]) -> Vec<Got> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some(frame) = parse_frame(rest).expect("our own frames") {
        let body = access_response(frame.body).expect("valid");
        let body = Response::from_archived(body).expect("valid");
        all.push(match frame.header.kind {
            FrameKind::Push => Got::Push(frame.header.subscription_id, body),
            _ => Got::Answer(frame.header.request_id, body),
        });
        rest = &rest[frame.header.frame_len_bytes() as usize..];
    }
    all
}

#[test]
fn a_wait_is_answered_by_the_sync_that_covers_it_and_asks_for_that_sync() {
    let mut this = Fixture::new(2);
    this.start_turn();
    let version = this.put_in(DurabilityChoice::Buffered);
    this.core.receive(1, &wait(1, 0, version));
    this.core.receive(1, &frame(2, 0, Operation::SystemPing));
    this.take_in();
    // The wait holds nothing up, and is not answered before the log has moved.
    assert_eq!(this.got(1), [Got::Answer(2, Response::Done)]);
    assert_eq!(this.core.store.durable_wait_count(), 1);
    this.drive();
    this.take_in();
    assert_eq!(this.got(1), [Got::Answer(1, durable(version))]);
    assert_eq!(this.core.store.durable_wait_count(), 0);
    assert_eq!(this.core.unfinished_count(), 0);
    // What is durable already is answered at once, also what nothing was committed by.
    this.core.receive(1, &wait(3, 0, version));
    this.core.receive(1, &wait(4, 0, 0));
    let at_once = [
        Got::Answer(3, durable(version)),
        Got::Answer(4, durable(version)),
    ];
    assert_eq!(this.got(1), at_once);
}

#[test]
fn a_version_that_was_never_issued_or_never_logged_is_refused_at_once() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let volatile = this.put_in(DurabilityChoice::InMemory);
    this.core.receive(0, &wait(1, 0, volatile));
    assert_eq!(this.error_of(0, 1), SubCode::NotLogged.number());
    this.core.receive(0, &wait(2, 0, volatile + 1));
    assert_eq!(this.error_of(0, 2), SubCode::InvalidArgument.number());
    this.put_in(DurabilityChoice::Buffered);
    this.core.receive(0, &wait(3, 0, volatile));
    assert_eq!(this.error_of(0, 3), SubCode::NotLogged.number());
    let header = RequestHeader {
        txn_id: 1,
        ..RequestHeader::default()
    };
    let mut inside = FrameBuffer::new();
    let operation = Operation::DbSubscribeDurable;
    encode_request(&Request { header, operation }, 4, &mut inside).expect("fits");
    this.core.receive(0, &inside);
    assert_eq!(this.error_of(0, 4), SubCode::NotInTransaction.number());
    assert_eq!(this.core.unfinished_count(), 0);
}

#[test]
fn a_wait_past_its_deadline_is_refused_and_one_whose_client_left_is_forgotten() {
    let mut this = Fixture::new(3);
    this.start_turn();
    let version = this.put_in(DurabilityChoice::Buffered);
    this.core.receive(1, &wait(1, 500, version));
    this.core.receive(2, &wait(2, 0, version));
    let now_us = this.core.monotonic_us();
    assert!(this.core.next_deadline_us() <= Some(now_us + 500));
    this.core.turn_us += 499;
    this.core.expire();
    assert_eq!(this.got(1), []);
    this.core.turn_us += 1;
    this.core.expire();
    assert_eq!(this.error_of(1, 1), SubCode::Timeout.number());
    this.core.disconnect(2);
    assert_eq!(this.core.store.durable_wait_count(), 0);
    this.connect(2);
    this.drive();
    this.take_in();
    assert_eq!(this.got(2), [], "of an earlier session");
    assert_eq!(this.core.unfinished_count(), 0);
}

#[test]
fn more_waits_than_the_limit_are_refused() {
    let mut this = Fixture::new(2);
    this.start_turn();
    let version = this.put_in(DurabilityChoice::Buffered);
    let max = this
        .core
        .store
        .settings
        .limits
        .durable_wait_count_per_user_max;
    let share = this.core.session_mut(1).expect("there").share.clone();
    let _others = share.take(Resource::DurableWaits, max - 1);
    this.core.receive(1, &wait(1, 0, version));
    assert_eq!(this.got(1), []);
    this.core.receive(1, &wait(2, 0, version));
    assert_eq!(this.error_of(1, 2), SubCode::ResourceExhausted.number());
    this.drive();
    this.take_in();
    assert_eq!(this.got(1), [Got::Answer(1, durable(version))]);
}

#[test]
fn a_subscriber_that_does_not_read_gets_one_push_with_the_newest_version() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.core
        .receive(1, &frame(1, 0, Operation::DbSubscribeDurable));
    let id = match this.got(1).as_slice() {
        [Got::Answer(1, Response::Subscribed(subscribed))] => subscribed.subscription_id,
        other => panic!("{other:?}"),
    };
    // A send is on its way and the peer does not take it.
    this.core.receive(1, &frame(2, 0, Operation::SystemPing));
    let stuck = this.send(1);
    assert_eq!(got_in(&stuck), [Got::Answer(2, Response::Done)]);
    let mut newest = 0;
    for _ in 0..50 {
        newest = this.put_in(DurabilityChoice::Buffered);
        this.core.store.database.start_flush();
        this.drive();
        this.take_in();
        assert!(this.send(1).is_empty());
        let session = this.core.session_mut(1).expect("there");
        assert_eq!(session.outbound.queued_len_bytes(), stuck.len());
    }
    this.core.sent(1, stuck);
    let sent = this.send(1);
    assert_eq!(got_in(&sent), [Got::Push(id, durable(newest))]);
    this.core.sent(1, sent);
    assert!(this.send(1).is_empty(), "each version is told once");
    // Asking again tells the same subscription; after the end nothing comes.
    this.core
        .receive(1, &frame(3, 0, Operation::DbSubscribeDurable));
    let again = this.got(1);
    assert!(
        matches!(&again[..], [Got::Answer(3, Response::Subscribed(s))] if s.subscription_id == id)
    );
    let subscription_id = id;
    let end = Operation::DbUnsubscribe(Unsubscribe { subscription_id });
    this.core.receive(1, &frame(4, 0, end));
    assert_eq!(this.got(1), [Got::Answer(4, Response::Done)]);
    this.put_in(DurabilityChoice::Buffered);
    this.core.store.database.start_flush();
    this.drive();
    this.take_in();
    assert!(this.send(1).is_empty());
}

#[test]
fn a_failed_log_fails_the_waits_and_is_the_last_thing_a_subscriber_is_told() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.core
        .receive(2, &frame(1, 0, Operation::DbSubscribeDurable));
    this.got(2);
    let version = this.put_in(DurabilityChoice::Buffered);
    this.core.receive(1, &wait(2, 0, version));
    for kind in [OpKind::Sync, OpKind::WriteSynced] {
        this.world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    while this.driver.drive_log() == Turn::Worked {}
    assert!(this.core.store.is_poisoned());
    this.take_in();
    assert_eq!(this.error_of(1, 2), SubCode::WalPoisoned.number());
    match got_in(&this.send(2)).as_slice() {
        [Got::Push(_, Response::Error(error))] => {
            assert_eq!(error.sub, SubCode::WalPoisoned.number());
        }
        other => panic!("{other:?}"),
    }
    this.core.receive(1, &wait(3, 0, version));
    assert_eq!(this.error_of(1, 3), SubCode::WalPoisoned.number());
    assert_eq!(this.core.store.durable_wait_count(), 0);
}

/// What was lost: a flush held one of two workers until its sync was done, and health, metrics and
/// every large request waited behind it.
#[test]
fn a_flush_waits_for_its_sync_without_a_worker_and_covers_what_came_before_it() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.core.receive(1, &frame(1, 0, Operation::DbFlush));
    assert_eq!(this.got(1), [Got::Answer(1, Response::Done)], "no log yet");
    let version = this.put_in(DurabilityChoice::Buffered);
    this.core.receive(1, &frame(2, 0, Operation::DbFlush));
    this.core.receive(1, &frame(3, 500, Operation::DbFlush));
    this.core.receive(1, &frame(4, 0, Operation::SystemPing));
    let session = this.core.session_mut(1).expect("there");
    assert_eq!((session.job_count, session.in_flight_count), (0, 2));
    this.take_in();
    assert_eq!(this.got(1), [Got::Answer(4, Response::Done)]);
    assert_eq!(this.core.store.durable_wait_count(), 2);
    this.core.turn_us += 500;
    this.core.expire();
    assert_eq!(this.error_of(1, 3), SubCode::Timeout.number());
    this.drive();
    assert_eq!(this.core.store.database.durable_version(), version);
    this.take_in();
    assert_eq!(this.got(1), [Got::Answer(2, Response::Done)]);
    assert_eq!(this.core.store.durable_wait_count(), 0);
    assert_eq!(this.core.unfinished_count(), 0);
}

#[test]
fn a_flush_of_a_log_that_fails_is_told_so() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.put_in(DurabilityChoice::Buffered);
    this.core.receive(1, &frame(1, 0, Operation::DbFlush));
    for kind in [OpKind::Sync, OpKind::WriteSynced] {
        this.world.add_rule(FaultRule::new(Fault::Io).on(kind));
    }
    while this.driver.drive_log() == Turn::Worked {}
    this.take_in();
    assert_eq!(this.error_of(1, 1), SubCode::Unavailable.number());
    this.core.receive(1, &frame(2, 0, Operation::DbFlush));
    assert_eq!(this.error_of(1, 2), SubCode::Unavailable.number());
}
