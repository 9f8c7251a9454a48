//! Limits of the daemon, each as its client meets it.

use in_mem_client::Client;

use super::*;

/// Attempts until a place that was left is free, count.
const ATTEMPT_COUNT_MAX: usize = 100_000;

fn start(directory: &std::path::Path, limits: &str) -> Daemon {
    let path = directory.join("c.toml");
    std::fs::write(&path, format!("[limits]\n{limits}\n")).unwrap();
    Daemon::start_with(directory, &["--config", path.to_str().unwrap()]).unwrap()
}

fn connect(daemon: &Daemon) -> Result<Client, in_mem_client::ClientError> {
    Client::builder().socket(daemon.socket()).connect()
}

fn sub_of(response: &Response<'_>) -> u16 {
    match response {
        Response::Error(error) => error.sub,
        other => panic!("{other:?}"),
    }
}

fn begun(client: &mut RawClient) -> RequestHeader {
    match client.call(begin()) {
        Response::TxnBegun(begun) => RequestHeader {
            txn_id: begun.txn_id,
            ..RequestHeader::default()
        },
        other => panic!("{other:?}"),
    }
}

/// What was seen: the client hung in the backlog.
#[test]
fn a_client_beyond_the_limit_of_connections_is_told_so_at_once_and_served_when_one_left() {
    for limit in [
        "connection_count_max = 2",
        "connection_count_per_user_max = 2",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = start(directory.path(), limit);
        let first = connect(&daemon).unwrap();
        let second = connect(&daemon).unwrap();
        for _ in 0..100 {
            let refused = connect(&daemon).unwrap_err();
            assert_eq!(
                refused.sub(),
                Some(SubCode::ResourceExhausted),
                "{refused:?}"
            );
            assert!(
                refused.to_string().contains("connection_count"),
                "{refused}"
            );
        }
        let mut silent = RawClient::connect_silent(daemon.socket()).unwrap();
        let replies = silent.read_to_end();
        let close = replies[0].close().expect("the only frame");
        assert_eq!(close.reason, CloseReason::LimitExceeded);
        drop(first);
        let is_served = (0..ATTEMPT_COUNT_MAX).any(|_| connect(&daemon).is_ok());
        assert!(is_served, "{limit}");
        second.ping().unwrap();
    }
}

#[test]
fn a_connection_that_rests_too_long_is_closed_and_one_that_waits_for_news_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "idle_timeout_ms = 300");
    let mut subscribed = RawClient::connect(daemon.socket());
    subscribed.call(Operation::DbSubscribeDurable);
    let mut inside = RawClient::connect(daemon.socket());
    let header = begun(&mut inside);
    let mut resting = RawClient::connect(daemon.socket());
    resting.put("k", SEVEN);
    let replies = resting.read_to_end();
    let close = replies.last().and_then(raw_client::Reply::close);
    assert_eq!(close.unwrap().reason, CloseReason::LimitExceeded);
    let answer = inside.call_with(header, Operation::TxnRollback);
    assert_eq!(answer, Response::Done);
}

#[test]
fn a_transaction_that_is_used_all_the_time_still_ends_at_its_total_limit() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "transaction_total_ms = 300");
    let mut client = RawClient::connect(daemon.socket());
    let started = std::time::Instant::now();
    let header = begun(&mut client);
    let ended = loop {
        let answer = client.call_with(header, put("k", SEVEN));
        if !matches!(answer, Response::Written(_)) {
            break answer;
        }
        assert!(started.elapsed() < DEADLINE, "it is still open");
    };
    assert!(Duration::from_millis(300) <= started.elapsed());
    assert_eq!(sub_of(&ended), SubCode::TransactionNotActive.number());
    let commit = client.call_with(header, Operation::TxnCommit);
    assert_eq!(sub_of(&commit), SubCode::TransactionNotActive.number());
    assert_eq!(client.get("k"), None);
}

#[test]
fn a_session_has_as_many_open_transactions_as_it_may_and_others_have_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(directory.path(), "open_transaction_count_max = 2");
    let mut client = RawClient::connect(daemon.socket());
    let first = begun(&mut client);
    let second = begun(&mut client);
    let refused = client.call(begin());
    assert_eq!(sub_of(&refused), SubCode::ResourceExhausted.number());
    begun(&mut RawClient::connect(daemon.socket()));
    client.call_with(first, Operation::TxnRollback);
    begun(&mut client);
    assert_eq!(
        client.call_with(second, Operation::TxnRollback),
        Response::Done
    );
}

/// Nothing is refused: the socket is not read until there is room, and every request is answered.
#[test]
fn requests_beyond_what_may_be_in_flight_wait_and_are_all_answered() {
    for limit in ["in_flight_count_max = 2", "in_flight_len_bytes_max = 4096"] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = start(directory.path(), limit);
        let mut client = RawClient::connect(daemon.socket());
        let ids: Vec<u64> = (0..200)
            .map(|_| client.start(RequestHeader::default(), put("k", SEVEN)))
            .collect();
        for id in ids {
            let reply = client.read().unwrap().expect("the connection is open");
            assert!(matches!(reply.response(), Response::Written(_)));
            assert_eq!(reply.header.request_id, id, "{limit}: one run, in order");
        }
    }
}

/// What recovery brings back may exceed the limit; deletions and reads go on, and a higher limit
/// lets the data grow again.
#[test]
fn data_at_its_memory_limit_is_read_and_deleted_and_grows_again_with_a_higher_one() {
    let directory = tempfile::tempdir().unwrap();
    let max: u64 = 1 << 20;
    let daemon = start(directory.path(), &format!("memory_max = {max}"));
    let mut client = RawClient::connect(daemon.socket());
    let header = RequestHeader {
        durability: DurabilityChoice::Buffered,
        ..RequestHeader::default()
    };
    // 4 KiB of text, as an encoded value.
    let mut value = vec![0xda, 0x10, 0x00];
    value.resize(value.len() + 4_096, b'x');
    let mut count: u64 = 0;
    let refused = loop {
        let answer = client.call_with(header, put(&format!("key/{count}"), &value));
        if !matches!(answer, Response::Written(_)) {
            break answer;
        }
        count += 1;
        assert!(count * 4_096 <= max, "the limit holds");
    };
    assert_eq!(sub_of(&refused), SubCode::ResourceExhausted.number());
    assert!(max / 4_096 / 2 < count, "{count} values fit");
    let info = connect(&daemon).unwrap().info().unwrap();
    let used = info.measures.iter().find(|m| m.name == "memory_len_bytes");
    let used = used.unwrap().value;
    assert!(count * 4_096 < used && used <= max, "{used} bytes");
    assert_eq!(client.get("key/0").as_deref(), Some(value.as_slice()));
    let delete = |key: &'static str| Operation::KvDelete(Key { key: key.into() });
    let answer = client.call_with(header, delete("key/0"));
    assert!(matches!(answer, Response::Deleted(_)), "{answer:?}");
    assert_eq!(client.get("key/0"), None);
    daemon.terminate();

    let daemon = start(directory.path(), "memory_max = 4096");
    let mut client = RawClient::connect(daemon.socket());
    assert_eq!(client.get("key/1").as_deref(), Some(value.as_slice()));
    let refused = client.call_with(header, put("more", SEVEN));
    assert_eq!(sub_of(&refused), SubCode::ResourceExhausted.number());
    daemon.terminate();
    let daemon = start(directory.path(), &format!("memory_max = {}", 2 * max));
    RawClient::connect(daemon.socket()).put("more", SEVEN);
}

/// By default such a place is named aloud; tests and demonstrations live there.
#[test]
fn a_data_directory_in_memory_is_named_aloud_or_refused_as_configured() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        println!("SKIPPED: needs a writable /dev/shm");
        return;
    };
    let daemon = Daemon::start(directory.path());
    let info = connect(&daemon).unwrap().info().unwrap();
    if !info.measures.iter().any(|m| m.name == "filesystem_tmpfs") {
        println!("SKIPPED: needs a tmpfs at /dev/shm");
        return;
    }
    assert!(
        daemon.log().contains("DOES NOT SURVIVE"),
        "{}",
        daemon.log()
    );
    daemon.terminate();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "refuse_volatile_storage = true\n").unwrap();
    let arguments = ["--config", path.to_str().unwrap()];
    let refused = Daemon::start_with(directory.path(), &arguments).err();
    let refused = format!("{:?}", refused.expect("it is refused"));
    assert!(refused.contains("refuse_volatile_storage"), "{refused}");
    // Then nothing is promised, and nothing can be.
    let volatile = directory.path().join("volatile");
    std::fs::create_dir(&volatile).unwrap();
    let arguments = [&arguments[..], &["--durability", "in_memory"]].concat();
    let daemon = Daemon::start_with(&volatile, &arguments).unwrap();
    let mut client = RawClient::connect(daemon.socket());
    client.put("volatile", SEVEN);
    let strict = RequestHeader {
        durability: DurabilityChoice::Strict,
        ..RequestHeader::default()
    };
    let refused = client.call_with(strict, put("strict", SEVEN));
    assert_eq!(sub_of(&refused), SubCode::Unavailable.number());
    assert_eq!(client.get("strict"), None);
}
