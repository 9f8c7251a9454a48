//! Many requests on their way at once.

use std::io::ErrorKind;

use in_mem_ipc::hello::Limit;
use in_mem_ipc::request::Operation;
use in_mem_ipc::response::Response;
use in_mem_model::{Outcome, SubCode};

use super::fake::{Fake, Peer, Script, reply, value, written};

#[test]
fn answers_in_any_order_reach_their_requests() {
    let reversing: Script = Box::new(|peer| {
        peer.greet();
        let ids: Vec<u64> = (0..5).map(|_| peer.request().0).collect();
        for (number, id) in (0_i64..).zip(ids).collect::<Vec<_>>().into_iter().rev() {
            peer.answer(id, &value(number));
        }
        peer.expect_end();
    });
    let fake = Fake::new([reversing]);
    let client = fake.connect().unwrap();
    let mut pipeline = client.pipeline();
    let tickets: Vec<_> = (0..5)
        .map(|_| pipeline.get::<i64>("key").unwrap())
        .collect();
    assert_eq!(pipeline.request_count(), 5);
    let mut answers = pipeline.send().unwrap();
    for (number, ticket) in (0_i64..).zip(tickets) {
        assert_eq!(answers.take(ticket).unwrap(), Some(number));
    }
    drop(client);
    fake.finish();
}

#[test]
fn no_more_requests_are_on_their_way_than_the_server_allows() {
    let counting: Script = Box::new(|peer| {
        let mut narrow = reply();
        narrow.limits = vec![Limit {
            name: "in_flight_count_max".to_owned(),
            value: 2,
        }];
        peer.greet_as(&narrow);
        for _ in 0..5 {
            let ids = [peer.request().0, peer.request().0];
            peer.stream.set_nonblocking(true).unwrap();
            let mut byte = [0];
            let early = std::io::Read::read(&mut peer.stream, &mut byte);
            assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock);
            peer.stream.set_nonblocking(false).unwrap();
            // One write, so that the client cannot send between the two answers.
            let both = ids
                .map(|id| super::fake::frame_of(id, &written(id)).to_vec())
                .concat();
            peer.send(&both);
        }
        peer.expect_end();
    });
    let fake = Fake::new([counting]);
    let client = fake.connect().unwrap();
    let mut pipeline = client.pipeline();
    let tickets: Vec<_> = (0..10).map(|n| pipeline.put("key", &n).unwrap()).collect();
    let mut answers = pipeline.send().unwrap();
    for ticket in tickets {
        answers.take(ticket).unwrap();
    }
    drop(client);
    fake.finish();
}

#[test]
fn a_pipeline_far_larger_than_both_socket_buffers_does_not_block_itself() {
    let text = "x".repeat(64 << 10);
    let echoing: Script = Box::new(|peer| {
        peer.greet();
        // Answers before it reads on: its own send waits until the client receives.
        while let Some((id, request)) = peer.next_request() {
            let Operation::KvPut(entry) = request.operation else {
                panic!("a put comes")
            };
            peer.answer(id, &Response::Value(entry.value));
        }
    });
    let fake = Fake::new([echoing]);
    let client = fake.connect().unwrap();
    let mut pipeline = client.pipeline();
    for _ in 0..400 {
        pipeline.put("key", &text).unwrap();
    }
    pipeline.send().unwrap();
    drop(client);
    fake.finish();
}

#[test]
fn a_lost_connection_is_an_error_of_each_request_without_an_answer() {
    let losing: Script = Box::new(|peer| {
        let mut narrow = reply();
        narrow.limits = vec![Limit {
            name: "in_flight_count_max".to_owned(),
            value: 3,
        }];
        peer.greet_as(&narrow);
        let ids: Vec<u64> = (0..3).map(|_| peer.request().0).collect();
        // The second of three is answered; the fourth comes and is lost.
        peer.answer(ids[1], &written(7));
        peer.request();
    });
    let fake = Fake::new([losing]);
    let client = fake.connect().unwrap();
    let mut pipeline = client.pipeline();
    let tickets: Vec<_> = (0..6).map(|n| pipeline.put("key", &n).unwrap()).collect();
    let mut answers = pipeline.send().unwrap();
    let taken: Vec<_> = tickets
        .into_iter()
        .map(|ticket| answers.take(ticket))
        .collect();
    assert_eq!(taken[1].as_ref().unwrap().commit_version, 7);
    for position in [0, 2, 3] {
        let error = taken[position].as_ref().unwrap_err();
        assert_eq!(error.sub(), Some(SubCode::ConnectionLost));
        assert_eq!(
            error.outcome(),
            Some(Outcome::OutcomeUnknown),
            "request {position}"
        );
    }
    for position in [4, 5] {
        let error = taken[position].as_ref().unwrap_err();
        assert_eq!(
            error.outcome(),
            Some(Outcome::NotCommitted),
            "request {position}"
        );
    }
    fake.finish();
}

#[test]
fn a_pipeline_nothing_of_which_was_sent_goes_over_the_new_connection() {
    let gone: Script = Box::new(Peer::greet);
    let answering: Script = Box::new(|peer| {
        peer.greet();
        peer.serve(&written(1));
        peer.serve(&written(2));
        peer.expect_end();
    });
    let fake = Fake::new([gone, answering]);
    let client = fake.connect().unwrap();
    fake.wait();
    let mut pipeline = client.pipeline();
    let tickets = [
        pipeline.put("a", &1).unwrap(),
        pipeline.put("b", &2).unwrap(),
    ];
    let mut answers = pipeline.send().unwrap();
    for (version, ticket) in (1..).zip(tickets) {
        assert_eq!(answers.take(ticket).unwrap().commit_version, version);
    }
    drop(client);
    fake.finish();
}

#[test]
fn an_answer_given_twice_or_to_nobody_ends_the_connection() {
    for stray in [0, 1_000_000] {
        let confused: Script = Box::new(move |peer| {
            peer.greet();
            let (first, _) = peer.request();
            peer.request();
            peer.answer(first, &written(1));
            peer.answer(first + stray, &written(1));
        });
        let fake = Fake::new([confused]);
        let client = fake.connect().unwrap();
        let mut pipeline = client.pipeline();
        let first = pipeline.put("a", &1).unwrap();
        let second = pipeline.put("b", &2).unwrap();
        let mut answers = pipeline.send().unwrap();
        answers.take(first).unwrap();
        let error = answers.take(second).unwrap_err();
        assert_eq!(error.sub(), Some(SubCode::ProtocolViolation));
        assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
        fake.finish();
    }
}

#[test]
fn an_answer_to_a_request_that_was_not_sent_yet_ends_the_connection() {
    let hasty: Script = Box::new(|peer| {
        let mut narrow = reply();
        narrow.limits = vec![Limit {
            name: "in_flight_count_max".to_owned(),
            value: 2,
        }];
        peer.greet_as(&narrow);
        let (first, _) = peer.request();
        peer.request();
        // One write: the third request is still with the client when its answer comes.
        let answers = [first + 2, first, first + 1];
        let answers = answers.map(|id| super::fake::frame_of(id, &written(id)).to_vec());
        peer.send(&answers.concat());
    });
    let fake = Fake::new([hasty]);
    let client = fake.connect().unwrap();
    let mut pipeline = client.pipeline();
    let tickets: Vec<_> = (0..3).map(|n| pipeline.put("key", &n).unwrap()).collect();
    let mut answers = pipeline.send().unwrap();
    let outcomes: Vec<_> = tickets
        .into_iter()
        .map(|ticket| answers.take(ticket).unwrap_err().outcome())
        .collect();
    let unknown = Some(Outcome::OutcomeUnknown);
    assert_eq!(outcomes, [unknown, unknown, Some(Outcome::NotCommitted)]);
    fake.finish();
}

#[test]
fn a_second_answer_does_not_take_the_place_of_the_first() {
    let confused: Script = Box::new(|peer| {
        peer.greet();
        let (id, _) = peer.request();
        let answers = [1, 2].map(|version| super::fake::frame_of(id, &written(version)).to_vec());
        peer.send(&answers.concat());
    });
    let fake = Fake::new([confused]);
    let client = fake.connect().unwrap();
    let error = client.kv().put("key", &1).unwrap_err();
    assert_eq!(error.sub(), Some(SubCode::ProtocolViolation));
    assert_eq!(error.outcome(), Some(Outcome::OutcomeUnknown));
    fake.finish();
}
