//! What one user may take of what all share, and that others have their part.

use in_mem_ipc::frame::{HEADER_LEN_BYTES, Header};
use in_mem_ipc::request::db::WaitDurable;

use super::*;
use crate::shares::Resource;

/// The head of a request that claims to be so long.
fn claim(len_bytes: u32) -> [u8; HEADER_LEN_BYTES] {
    let body_len_bytes = len_bytes - u32::try_from(HEADER_LEN_BYTES).expect("small");
    Header::new(FrameKind::Request, body_len_bytes).encode()
}

fn begin(id: u64) -> FrameBuffer {
    let begin = TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: DurabilityChoice::Session,
    };
    frame(id, 0, Operation::TxnBegin(begin))
}

fn waits(this: &mut Fixture, slot: u32) -> bool {
    this.core.session_mut(slot).expect("there").waits_to_gather
}

/// What was lost: one user's large frames took the whole budget, and nobody else's were read.
#[test]
fn large_frames_of_one_user_wait_for_each_other_and_not_those_of_another() {
    let mut this = Fixture::new(3);
    this.start_turn();
    this.connect_other(3);
    this.limit(|limits| {
        limits.gather_len_bytes_max = 100 << 20;
        limits.gather_len_bytes_per_user_max = 60 << 20;
    });
    for slot in 0..4 {
        this.core.receive(slot, &claim(40 << 20));
    }
    let waiting: Vec<bool> = (0..4).map(|slot| waits(&mut this, slot)).collect();
    assert_eq!(waiting, [false, true, true, false]);
    assert_eq!(this.taken(Resource::GatheredFrames), 80 << 20);
    assert!(!this.core.wants_bytes(1) && this.core.wants_bytes(3));
    this.core.disconnect(0);
    let waiting: Vec<bool> = (1..3).map(|slot| waits(&mut this, slot)).collect();
    assert_eq!(waiting, [false, true], "in the order they came");
    for slot in 1..4 {
        this.core.disconnect(slot);
    }
    assert_eq!(this.taken(Resource::GatheredFrames), 0);
}

#[test]
fn what_was_reserved_for_a_frame_is_given_back_when_its_request_is_done() {
    let mut this = Fixture::new(1);
    this.start_turn();
    let put = large_put(1, 0, "large");
    let (first, second) = put.split_at(1_000);
    this.core.receive(0, first);
    assert_eq!(this.taken(Resource::GatheredFrames), put.len() as u64);
    this.core.receive(0, second);
    assert_eq!(
        this.taken(Resource::GatheredFrames),
        put.len() as u64,
        "it is on a worker"
    );
    assert_eq!(this.taken(Resource::Jobs), 1);
    this.wait_for_worker();
    this.core.finish_turn();
    assert_eq!(this.taken(Resource::GatheredFrames), 0);
    assert_eq!(this.taken(Resource::Jobs), 0);
    this.drive();
    this.core.finish_turn();
    assert!(is_written(&this.answers(0), 1));
}

#[test]
fn open_transactions_are_counted_over_the_connections_of_a_user() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.connect_other(2);
    this.limit(|limits| limits.open_transaction_count_per_user_max = 2);
    this.core.receive(0, &begin(1));
    this.core.receive(1, &begin(2));
    let begun = |answers: &[(u64, Response<'static>)]| match answers {
        [(_, Response::TxnBegun(begun))] => begun.txn_id,
        other => panic!("{other:?}"),
    };
    let first = begun(&this.answers(0));
    begun(&this.answers(1));
    this.core.receive(1, &begin(3));
    let (sub, message) = this.error_in(1, 3);
    assert_eq!(sub, SubCode::ResourceExhausted.number());
    assert!(
        message.contains("open_transaction_count_per_user_max"),
        "{message}"
    );
    this.core.receive(2, &begin(4));
    begun(&this.answers(2));
    let header = RequestHeader {
        txn_id: first,
        ..RequestHeader::default()
    };
    this.core
        .receive(0, &frame_with(5, header, Operation::TxnRollback));
    this.core.receive(1, &begin(6));
    this.core.disconnect(1);
    assert_eq!(this.taken(Resource::Transactions), 1, "the other user's");
}

#[test]
fn waits_for_durability_are_counted_over_the_connections_of_a_user() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.connect_other(2);
    this.limit(|limits| limits.durable_wait_count_per_user_max = 1);
    let header = RequestHeader {
        durability: DurabilityChoice::Buffered,
        ..RequestHeader::default()
    };
    let put = Operation::KvPut(KeyValue {
        key: "k".into(),
        value: SEVEN.into(),
    });
    this.core.receive(0, &frame_with(1, header, put));
    // Written and not synced: its version can be waited for.
    while this.core.store.durable_wait_count() == 0 {
        this.core.finish_turn();
        let answers = this.answers(0);
        if let [(1, Response::Written(receipt))] = answers.as_slice() {
            let version = receipt.commit_version;
            let wait = |id| frame(id, 0, Operation::DbWaitDurable(WaitDurable { version }));
            this.core.receive(0, &wait(2));
            this.core.receive(1, &wait(3));
            let (sub, message) = this.error_in(1, 3);
            assert_eq!(sub, SubCode::ResourceExhausted.number());
            assert!(
                message.contains("durable_wait_count_per_user_max"),
                "{message}"
            );
            this.core.receive(2, &wait(4));
            assert_eq!(this.core.store.durable_wait_count(), 2);
        } else {
            this.driver.drive_log();
        }
    }
    this.drive();
    this.core.finish_turn();
    assert_eq!(this.core.store.durable_wait_count(), 0);
}

/// What was seen: a client that took minutes to read one long reply was closed as idle.
#[test]
fn a_peer_that_still_reads_a_long_reply_does_not_rest() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.limit(|limits| limits.idle_timeout_ms = 1_000);
    for slot in 0..2 {
        this.core.receive(slot, &frame(1, 0, Operation::SystemPing));
    }
    let ready = |this: &mut Fixture, slot| {
        let session = this.core.session_mut(slot).expect("there");
        session.outbound.take_ready().expect("a reply")
    };
    // Both have taken one reply, so both are looked at when they have rested; one has another.
    for slot in 0..2 {
        let taken = ready(&mut this, slot);
        this.core.sent(slot, taken);
    }
    this.core.receive(0, &frame(2, 0, Operation::SystemPing));
    let reading = ready(&mut this, 0);
    this.core.turn_us += 1_000_000;
    this.core.expire();
    assert!(this.core.session_mut(0).expect("there").phase == Phase::Open);
    assert!(this.core.session_mut(1).expect("there").phase == Phase::Closing);
    this.core.sent(0, reading);
    this.core.turn_us += 999_999;
    this.core.expire();
    assert!(this.core.session_mut(0).expect("there").phase == Phase::Open);
    this.core.turn_us += 1;
    assert!(this.core.next_deadline_us() <= Some(this.core.monotonic_us()));
    this.core.expire();
    assert!(this.core.session_mut(0).expect("there").phase == Phase::Closing);
}

/// What was lost: one user's long requests filled the queue of the workers, and everybody else's
/// were refused.
#[test]
fn a_user_has_at_most_half_of_the_queue_of_the_workers() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.connect_other(1);
    let share = this.core.session_mut(0).expect("there").share.clone();
    let others = share.take(Resource::Jobs, jobs::JOB_COUNT_PER_USER_MAX);
    this.core.receive(0, &frame(1, 0, Operation::SystemInfo));
    let (sub, message) = this.error_in(0, 1);
    assert_eq!(sub, SubCode::ResourceExhausted.number());
    assert!(message.contains("worker"), "{message}");
    this.core.receive(1, &frame(2, 0, Operation::SystemInfo));
    drop(others);
    this.core.receive(0, &frame(3, 0, Operation::SystemInfo));
    while this.core.unfinished_count() != 0 {
        this.wait_for_worker();
        this.core.finish_turn();
    }
    for slot in 0..2 {
        assert!(matches!(
            this.answers(slot).as_slice(),
            [(_, Response::Info(_))]
        ));
    }
}

#[test]
fn info_tells_every_limit_and_what_each_user_has_taken() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.connect_other(2);
    this.core.receive(0, &frame(1, 0, Operation::SystemInfo));
    this.wait_for_worker();
    this.core.finish_turn();
    let answers = this.answers(0);
    let [(1, Response::Info(info))] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    let value_of = |name: &str| {
        let found = info.measures.iter().find(|measure| &*measure.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).value
    };
    for (name, value) in this.core.store.limits() {
        assert_eq!(value_of(&format!("limit {name}")), value);
    }
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(value_of(&format!("user {own} connection_count")), 2);
    assert_eq!(value_of("user 4000000001 connection_count"), 1);
    for name in [
        "reply_len_bytes",
        "reply_reserved_len_bytes",
        "gather_len_bytes",
        "job_count",
        "open_transaction_count",
        "durable_wait_count",
        "memory_len_bytes",
        "in_flight_count",
        "disk_is_low",
    ] {
        value_of(name);
    }
}
