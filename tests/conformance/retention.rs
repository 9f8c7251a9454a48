//! The part of the script that is about retention policies.

use in_mem_ipc::request::RunChoice;
use in_mem_ipc::request::kv::{Key, KeyValue, KeyValueTtl};
use in_mem_ipc::request::retention::Policy;
use in_mem_ipc::request::txn::TxnBegin;
use in_mem_ipc::response::Response;
use in_mem_ipc::{Operation, RequestHeader};

use super::{Play, encoded};

fn policy(text: &'static str) -> Policy<'static> {
    Policy {
        policy: text.into(),
    }
}

/// Asks everything about the policy of the run.
fn play_all(play: &mut Play) {
    for text in ["keep-last 2", "keep-for 7d", "keep-last 0", "keep \u{fc}"] {
        play.ask(Operation::RunSetRetention(policy(text)));
        play.ask(Operation::RunGetRetention);
        play.ask(Operation::RunRetentionPreview(policy(text)));
    }
    for ttl_us in [0, 1 << 50, u64::MAX] {
        play.ask(Operation::KvPutWithTtl(KeyValueTtl {
            key: "expires".into(),
            value: encoded(1_i64),
            ttl_us,
        }));
        play.ask(Operation::KvGet(Key {
            key: "expires".into(),
        }));
    }
    for key in ["kept", "missing"] {
        play.ask(Operation::KvExpiresAt(Key { key: key.into() }));
    }
    play.ask(Operation::RunRetentionStats);
    play.ask(Operation::RunClearRetention);
    play.ask(Operation::RunClearRetention);
    play.ask(Operation::RunGetRetention);
}

pub(super) fn play(play: &mut Play) {
    for value in 0..4_i64 {
        let put = KeyValue {
            key: "kept".into(),
            value: encoded(value),
        };
        play.ask(Operation::KvPut(put));
    }
    play_all(play);
    let begin = TxnBegin {
        read_only: false,
        timeout_ms: 0,
        durability: play.header.durability,
    };
    let Response::TxnBegun(begun) = play.ask(Operation::TxnBegin(begin)) else {
        panic!("no transaction")
    };
    play.header.txn_id = begun.txn_id;
    play_all(play);
    play.ask(Operation::RunSetRetention(policy("keep-last 9")));
    play.ask(Operation::TxnCommit);
    play.header = RequestHeader::default();
    play.ask(Operation::RunGetRetention);
    play.header.run = RunChoice::Id([7; 16]);
    play_all(play);
    play.header = RequestHeader::default();
}
