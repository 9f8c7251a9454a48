//! Requests for checkpoints, and those the daemon takes by itself, on a log that is driven by hand.

use in_mem_ipc::request::db::DeleteSnapshot;

use super::*;
use crate::config::Snapshot;

fn checkpoint(id: u64) -> FrameBuffer {
    frame(id, 0, Operation::DbCheckpoint)
}

fn sub_of(response: &Response<'_>) -> u16 {
    match response {
        Response::Error(error) => error.sub,
        other => panic!("{other:?}"),
    }
}

impl Fixture {
    /// What the background thread finished is taken in, as at the end of a turn.
    fn turn(&mut self) {
        self.drive();
        self.start_turn();
        self.core.finish_turn();
    }

    fn newest(&self) -> Option<u64> {
        let newest = self.core.store.database.newest_snapshot();
        newest.map(|info| info.snapshot_id)
    }
}

#[test]
fn a_checkpoint_is_parked_and_answered_when_it_is_taken_whoever_else_asks_meanwhile() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.core.receive(0, &checkpoint(1));
    this.core.receive(0, &frame(2, 0, Operation::SystemPing));
    this.core.receive(1, &checkpoint(3));
    this.core.finish_turn();
    assert_eq!(this.answers(0), [(2, Response::Done)]);
    let refused = this.answers(1);
    assert_eq!(sub_of(&refused[0].1), SubCode::AlreadyInProgress.number());
    assert_eq!(this.core.unfinished_count(), 1);
    this.turn();
    match this.answers(0).as_slice() {
        [(1, Response::Checkpoint(info))] => assert_eq!(info.snapshot_id, 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(this.core.unfinished_count(), 0);
    let delete = Operation::DbDeleteSnapshot(DeleteSnapshot { snapshot_id: 1 });
    this.core.receive(1, &frame(4, 0, delete));
    this.turn();
    let refused = this.answers(1);
    assert_eq!(sub_of(&refused[0].1), SubCode::InvalidArgument.number());
}

#[test]
fn a_checkpoint_is_taken_though_the_client_that_asked_for_it_is_gone() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.core.receive(0, &checkpoint(1));
    this.core.disconnect(0);
    this.connect(0);
    this.turn();
    assert_eq!(this.newest(), Some(1));
    assert_eq!(this.answers(0), [], "another session has the slot");
}

#[test]
fn a_stop_answers_who_waits_for_a_checkpoint_and_does_not_wait_for_it() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.core.receive(0, &checkpoint(1));
    this.core.drain();
    assert_eq!(this.core.unfinished_count(), 0);
    let answers = this.answers(0);
    assert_eq!(sub_of(&answers[0].1), SubCode::Unavailable.number());
    this.turn();
    assert_eq!(this.newest(), Some(1), "there was time enough");
}

#[test]
fn the_daemon_takes_a_checkpoint_and_compacts_when_the_log_is_long_enough() {
    let mut this = Fixture::new(1);
    let rule = Snapshot {
        log_len_bytes_min: 0,
        poll_ms: 0,
        ..Snapshot::default()
    };
    let off = Snapshot {
        automatic: false,
        ..rule
    };
    this.core.store.automatic.set_settings(off);
    this.start_turn();
    this.core.receive(0, &put(1, 0, "k"));
    (0..4).for_each(|_| this.turn());
    assert_eq!(this.newest(), None, "it is switched off");
    this.core.store.automatic.set_settings(rule);
    this.core.receive(0, &put(2, 0, "k"));
    (0..6).for_each(|_| this.turn());
    assert_eq!(this.newest(), Some(1));
    assert_eq!(this.core.store.automatic.counts(), (1, 0));
    // Nothing was logged since.
    (0..4).for_each(|_| this.turn());
    assert_eq!(this.newest(), Some(1));
}
