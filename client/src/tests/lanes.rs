//! A connection that never waits.

use in_mem_ipc::request::Operation;
use in_mem_ipc::response::Response;
use in_mem_model::{Outcome, to_encoded};
use rustix::event::{PollFd, PollFlags, poll};

use super::fake::{Fake, Script, value, written};
use crate::lane::{Lane, LaneAnswer};

/// Receives until so many answers have come; what each said, in the order they came.
fn receive(lane: &mut Lane, count: usize) -> Vec<(u64, String)> {
    let mut answers = Vec::new();
    while answers.len() < count {
        poll(&mut [PollFd::new(&*lane, PollFlags::IN)], None).unwrap();
        let take = |id, answer: LaneAnswer<'_>| {
            let said = match answer {
                LaneAnswer::Written(receipt) => format!("written {}", receipt.commit_version),
                LaneAnswer::Value(bytes) => format!("value {bytes:?}"),
                LaneAnswer::Missing => "missing".to_owned(),
                LaneAnswer::Failed(error) => format!("failed {error}"),
            };
            answers.push((id, said));
        };
        lane.receive(take).unwrap();
    }
    answers
}

#[test]
fn a_lane_hands_over_answers_in_any_order_under_the_ids_it_was_given() {
    let reversing: Script = Box::new(|peer| {
        peer.greet();
        let requests = [peer.request(), peer.request(), peer.request()];
        assert_eq!(requests.each_ref().map(|(id, _)| *id), [7, 3, 9]);
        assert!(matches!(requests[0].1, Operation::KvPut(_)));
        assert!(matches!(requests[1].1, Operation::KvGet(_)));
        peer.answer(9, &Response::Missing);
        peer.answer(3, &value(5));
        peer.answer(7, &written(40));
        peer.expect_end();
    });
    let fake = Fake::new([reversing]);
    let mut lane = fake.connect_lane().unwrap();
    assert_eq!(lane.in_flight_count_max(), 64);
    // Nothing has come yet, and that is no error and no wait.
    lane.receive(|_, _| panic!("nothing was asked")).unwrap();
    let text = to_encoded("text").unwrap();
    lane.put(7, "key", text.as_ref()).unwrap();
    lane.get(3, "key").unwrap();
    lane.get(9, "none").unwrap();
    assert!(lane.send().unwrap());
    let expected = [(9, "missing"), (3, "value [5]"), (7, "written 40")];
    assert_eq!(
        receive(&mut lane, 3),
        expected.map(|(id, said)| (id, said.to_owned()))
    );
    drop(lane);
    fake.finish();
}

#[test]
fn a_lane_whose_server_is_gone_says_that_a_put_may_have_happened() {
    let leaving: Script = Box::new(|peer| {
        peer.greet();
        peer.request();
    });
    let fake = Fake::new([leaving]);
    let mut lane = fake.connect_lane().unwrap();
    let text = to_encoded("text").unwrap();
    lane.put(1, "key", text.as_ref()).unwrap();
    assert!(lane.send().unwrap());
    poll(&mut [PollFd::new(&lane, PollFlags::IN)], None).unwrap();
    let error = lane
        .receive(|_, _| panic!("nothing was answered"))
        .unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    fake.finish();
}

#[test]
fn a_lane_keeps_what_the_kernel_does_not_take_and_never_waits() {
    let count = 64;
    let late: Script = Box::new(move |peer| {
        peer.greet();
        for _ in 0..count {
            let (id, _) = peer.request();
            peer.answer(id, &written(id));
        }
        peer.expect_end();
    });
    let fake = Fake::new([late]);
    let mut lane = fake.connect_lane().unwrap();
    let text = to_encoded(&"x".repeat(256 << 10)).unwrap();
    for id in 0..count {
        lane.put(id, "key", text.as_ref()).unwrap();
    }
    // More than a socket holds, so the first send cannot be all of it.
    assert!(!lane.send().unwrap());
    while !lane.send().unwrap() {
        poll(&mut [PollFd::new(&lane, PollFlags::OUT)], None).unwrap();
    }
    let answers = receive(&mut lane, 64);
    assert!(answers.iter().map(|(id, _)| *id).eq(0..count));
    drop(lane);
    fake.finish();
}
