//! The limits a database is opened with.

use in_mem_model::keys::KeyError;
use in_mem_model::{EncodedValue, Limits, RunId, Value, encode};

use super::int;
use crate::{BeginRun, CommitError, Database, DurabilityMode, OpenError};

fn text(len_bytes: usize) -> EncodedValue {
    encode(&Value::from("x".repeat(len_bytes).as_str())).unwrap()
}

fn open(limits: Limits) -> Result<Database, OpenError> {
    let builder = Database::builder().durability(DurabilityMode::InMemory);
    builder.limits(limits).open()
}

#[test]
fn exactly_at_a_limit_set_at_open_passes_and_one_more_fails() {
    let limits = Limits {
        key_len_bytes_max: 4,
        string_len_bytes_max: 10,
        run_name_len_bytes_max: 3,
        transaction_mutation_count_max: 2,
        ..Limits::DEFAULT
    };
    let database = open(limits).unwrap();
    assert_eq!(database.limits(), &limits);
    let run = database.default_run();
    let kv = run.kv();
    kv.put("four", &text(10)).unwrap();
    assert!(matches!(
        kv.put("fives", &text(1)),
        Err(CommitError::InvalidKey(KeyError::TooLong {
            len_bytes: 5,
            len_bytes_max: 4
        }))
    ));
    assert!(matches!(
        kv.put("four", &text(11)),
        Err(CommitError::InvalidValue(_))
    ));
    let in_one = |keys: &[&str]| {
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        for key in keys {
            context.put(key.as_bytes(), int(1).as_ref()).unwrap();
        }
        context.commit().map(drop)
    };
    in_one(&["a", "b"]).unwrap();
    assert!(matches!(
        in_one(&["a", "b", "c"]),
        Err(CommitError::TransactionTooLarge { .. })
    ));
    let begin = |name: &str| {
        let name = Some(name.to_owned());
        let begin = BeginRun {
            name,
            ..BeginRun::default()
        };
        database.runs().begin_run(begin).map(drop)
    };
    begin("abc").unwrap();
    assert!(matches!(
        begin("abcd"),
        Err(CommitError::InvalidArgument { .. })
    ));
}

#[test]
fn a_limit_of_zero_or_above_its_highest_value_is_refused_at_open() {
    for key_len_bytes_max in [0, Limits::DEFAULT.key_len_bytes_max + 1] {
        let limits = Limits {
            key_len_bytes_max,
            ..Limits::DEFAULT
        };
        assert!(matches!(open(limits), Err(OpenError::Limit(_))));
    }
}
