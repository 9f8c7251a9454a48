//! The account of memory: what is refused at its limit, and that it returns to where it was.

use in_mem_model::{EncodedValue, RunId, Value, encode};
use in_mem_wal::disk::SimRng;

use super::once::{add, of_client, request, step};
use super::{MODES, int, over, text, world};
use crate::limits::{INDEX_PARTITION_COUNT, ONCE_CLIENT_COUNT_MAX, VERSION_COST_BYTES};
use crate::memory::key_cost;
use crate::transaction_memory::{change_cost, node_cost, read_cost, write_cost};
use crate::version_node::VersionNode;
use crate::{
    BeginRun, CommitError, Database, DatabaseBuilder, OnceRequest, Run, RunChange, Savepoint, Step,
    TransactionContext,
};

fn limited(max: u64) -> DatabaseBuilder {
    let mut config = crate::DatabaseConfig::in_memory();
    config.memory_len_bytes_max = max;
    Database::builder().config(config)
}

fn is_full<T: std::fmt::Debug>(answer: Result<T, CommitError>) -> bool {
    matches!(answer, Err(CommitError::MemoryFull { .. }))
}

/// Puts until no key of any length finds room.
fn fill(run: &Run) {
    let mut number = 0;
    for len_bytes in [4_096, 256, 1] {
        let value = text(&"x".repeat(len_bytes));
        while run.kv().put(format!("{number}"), &value).is_ok() {
            number += 1;
        }
    }
    assert!(is_full(run.kv().put("more", &int(1))));
}

fn metadata(len_bytes: usize) -> EncodedValue {
    let text = Value::from("m".repeat(len_bytes).as_str());
    let object = [("k".to_owned(), text)];
    encode(&Value::Object(object.into_iter().collect())).unwrap()
}

/// What was lost: of all changes of a run its beginning alone was refused, transactions kept what
/// they were about to write beside the account, and so did the tables of exactly-once requests.
#[test]
fn at_the_limit_all_that_grows_is_refused_and_reads_deletions_and_ends_go_on() {
    let database = limited(256 << 10).open().unwrap();
    let runs = database.runs();
    let begun = |name: &str| {
        let name = Some(name.to_owned());
        let begin = BeginRun {
            name,
            ..BeginRun::default()
        };
        runs.begin_run(begin).map(|(info, _)| info.id)
    };
    let [active, paused, failing] = ["a", "p", "f"].map(|name| begun(name).unwrap());
    runs.add_tags(active, &["t"]).unwrap();
    runs.pause(paused).unwrap();
    add(&database.default_run(), &request(1)).unwrap();
    fill(&database.default_run());
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    let mut changing = database.begin_transaction(active).unwrap();

    assert!(is_full(begun("more")));
    assert!(is_full(runs.pause(active)));
    assert!(is_full(runs.resume(paused)));
    assert!(is_full(runs.add_tags(active, &["more"])));
    assert!(is_full(runs.remove_tags(active, &["t"])));
    assert!(is_full(runs.update_metadata(active, metadata(1))));
    assert!(is_full(add(&database.default_run(), &request(2))));
    assert!(is_full(context.put(b"k", int(1).as_ref())));
    assert!(is_full(context.increment(b"k", 1)));
    let change = RunChange::SetMetadata {
        metadata: metadata(1),
    };
    assert!(is_full(changing.change_run(change)));

    assert!(context.get(b"0").unwrap().is_some());
    assert!(context.delete(b"0").unwrap());
    assert_ne!(context.commit().unwrap().version, 0);
    changing.change_run(RunChange::End).unwrap();
    changing.commit().unwrap();
    runs.cancel(paused).unwrap();
    runs.fail(failing, "why").unwrap();
    runs.archive(active).unwrap();
    let run = database.default_run();
    assert!(run.kv().delete("1").unwrap());
    step(&run, Step::Delete { key: b"2" }, &request(2)).unwrap();
    add(&run, &request(1)).expect("a repeat is answered");
}

#[test]
fn an_open_transaction_takes_its_part_of_the_limit_until_it_ends() {
    let database = limited(1 << 20).open().unwrap();
    let run = database.default_run();
    let value = text(&"x".repeat(64 << 10));
    let many = |context: &mut TransactionContext| {
        let mut put = |number: u32| context.put(number.to_string().as_bytes(), value.as_ref());
        (0..).take_while(|number| put(*number).is_ok()).count()
    };
    let used = database.memory_len_bytes();
    let ends: [fn(TransactionContext, &Database); 3] = [
        |mut context, _| context.rollback(),
        |context, database| database.end_transaction(context),
        |context, _| drop(context),
    ];
    for end in ends {
        let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
        assert_eq!(many(&mut context), 15);
        assert!(is_full(run.kv().put("k", &value)));
        end(context, &database);
        assert_eq!(database.memory_len_bytes(), used);
    }
    // What it holds itself does not count against its own commit.
    let mut context = database.begin_transaction(RunId::DEFAULT).unwrap();
    assert_eq!(many(&mut context), 15);
    context.commit().unwrap();
    assert!(is_full(run.kv().put("k", &value)));
    let taken = database.memory_len_bytes();
    database.end_transaction(context);
    assert_eq!(database.memory_len_bytes(), taken);
    assert_eq!(taken, recount(&database, &[]));
}

#[test]
fn clients_that_are_let_go_give_their_memory_back() {
    let database = limited(1 << 30).open().unwrap();
    let run = database.default_run();
    let mut at_most = 0;
    for number in 0..ONCE_CLIENT_COUNT_MAX as u64 + 100 {
        // The first to go takes more with it than comes.
        for sequence in 1..=if number == 0 { 5 } else { 1 } {
            let once = OnceRequest {
                registered_at: database.version(),
                ..of_client(number, sequence)
            };
            add(&run, &once).unwrap();
        }
        let state = run.shard.commit.lock();
        let (kept, counted) = state.once.as_ref().unwrap().recount();
        assert_eq!(kept, counted);
        at_most = at_most.max(kept);
    }
    let (kept, _) = run.shard.commit.lock().once.as_ref().unwrap().recount();
    assert!(kept < at_most, "the largest client went");
    assert_eq!(database.memory_len_bytes(), recount(&database, &[]));
}

/// What the account is to say, counted anew.
fn recount(database: &Database, open: &[(TransactionContext, Vec<Savepoint>)]) -> u64 {
    let mut sum = 0;
    for shard in database.store().shards() {
        for partition in 0..INDEX_PARTITION_COUNT {
            shard.index.for_each_key(partition, |key, head| {
                sum += key_cost(key.key_ref().unwrap());
                let mut next = head.cloned();
                while let Some(node) = next {
                    sum += VERSION_COST_BYTES + node.value().len() as u64;
                    next = (*node.older()).clone();
                }
                true
            });
        }
        if let Some(table) = &shard.commit.lock().once {
            sum += table.recount().1 as u64;
        }
    }
    let of_context = |context: &TransactionContext| {
        let writes = (0..context.write_set.len()).filter_map(|at| context.write_set.at(at));
        let writes: u64 = writes
            .map(|(key, write)| write_cost(key) + node_cost(write))
            .sum();
        let reads = (0..context.read_set.len()).filter_map(|at| context.read_set.at(at));
        let reads: u64 = reads.map(|(key, _)| read_cost(key)).sum();
        let change = context.run_change.as_ref().map_or(0, change_cost);
        writes + reads + change + context.savepoints.journal_cost()
    };
    sum + open
        .iter()
        .map(|(context, _)| of_context(context))
        .sum::<u64>()
}

/// What random clients work on.
struct Play {
    database: Database,
    runs: Vec<RunId>,
    open: Vec<(TransactionContext, Vec<Savepoint>)>,
    sequence: u64,
    full_count: u64,
}

impl Play {
    fn note<T>(&mut self, answer: Result<T, CommitError>) {
        self.full_count += u64::from(matches!(answer, Err(CommitError::MemoryFull { .. })));
    }

    fn act(&mut self, rng: &mut SimRng) {
        let run = self
            .database
            .run(self.runs[rng.index(self.runs.len())])
            .unwrap();
        let key = format!("k{}", rng.below(40));
        let value = text(&"v".repeat(rng.index(2_000)));
        match rng.below(12) {
            0..=2 => {
                let written = run.kv().put(&key, &value);
                let used = self.database.memory_len_bytes();
                assert!(written.is_err() || used <= MAX, "{used}");
                self.note(written);
            }
            3 => drop(run.kv().delete(&key)),
            4 => drop(run.kv().put_if_absent(&key, &value)),
            5 => self.change_a_run(rng),
            6 | 7 => {
                self.sequence += 1;
                let once = OnceRequest {
                    lowest_awaited: self.sequence - rng.below(self.sequence.min(9)),
                    ..of_client(rng.below(3), self.sequence)
                };
                let value = value.as_ref();
                let key = key.as_bytes();
                let answer = step(&run, Step::GetAndSet { key, value }, &once);
                self.note(answer);
            }
            8 if self.open.len() < 4 => {
                let context = self.database.begin_transaction(run.id()).unwrap();
                self.open.push((context, Vec::new()));
            }
            _ => self.act_in_a_transaction(rng, &key, &value),
        }
    }

    fn change_a_run(&mut self, rng: &mut SimRng) {
        let id = self.runs[rng.index(self.runs.len())];
        let runs = self.database.runs();
        let answer = match rng.below(8) {
            0 | 1 => {
                // A name may be taken: what was made for the run goes again.
                let name = Some(format!("n{}", rng.below(6)));
                let begin = BeginRun {
                    name,
                    metadata: Some(metadata(rng.index(500))),
                    ..BeginRun::default()
                };
                match runs.begin_run(begin) {
                    Ok((info, version)) => {
                        self.runs.push(info.id);
                        Ok(version)
                    }
                    Err(error) => Err(error),
                }
            }
            2 => runs.pause(id),
            3 => runs.resume(id),
            4 => runs.add_tags(id, &["a", "b"]),
            5 => runs.remove_tags(id, &["a"]),
            6 => runs.update_metadata(id, metadata(rng.index(500))),
            _ if rng.below(5) == 0 => runs.end_run(id),
            _ => return,
        };
        self.note(answer);
    }

    fn act_in_a_transaction(&mut self, rng: &mut SimRng, key: &str, value: &EncodedValue) {
        if self.open.is_empty() {
            return;
        }
        let at = rng.index(self.open.len());
        let (context, savepoints) = &mut self.open[at];
        let key = key.as_bytes();
        let answer = match rng.below(12) {
            0..=3 => context.put(key, value.as_ref()),
            4 => context.delete(key).map(drop),
            5 => context.cas_value(key, None, value.as_ref()).map(drop),
            6 => {
                savepoints.push(context.savepoint().unwrap());
                Ok(())
            }
            7 | 8 if !savepoints.is_empty() => {
                let savepoint = savepoints[rng.index(savepoints.len())];
                if rng.coin() {
                    context.rollback_to(savepoint)
                } else {
                    context.release(savepoint)
                }
            }
            9 => context.change_run(RunChange::AddTags {
                tags: vec!["x".repeat(rng.index(90))],
            }),
            10 => {
                let (mut context, _) = self.open.swap_remove(at);
                match rng.below(3) {
                    0 => context.rollback(),
                    1 => self.database.end_transaction(context),
                    _ => drop(context.commit()),
                }
                return;
            }
            _ => context.increment(b"sum", 1).map(drop),
        };
        self.note(answer);
    }
}

const MAX: u64 = 300 << 10;

#[test]
fn the_account_equals_a_recount_whatever_clients_do_and_after_a_restart() {
    let seed = 0xACC0;
    println!("seed {seed}");
    let mut rng = SimRng::new(seed);
    let mut full_count = 0;
    for life in 0..12 {
        let world = world();
        let mut config = crate::DatabaseConfig::default().with_durability(MODES[life % 3]);
        config.wal_config = super::small_log();
        config.memory_len_bytes_max = MAX;
        let open = || {
            let builder = over(&world, MODES[life % 3]).config(config.clone());
            builder.open().unwrap()
        };
        let mut play = Play {
            database: open(),
            runs: vec![RunId::DEFAULT],
            open: Vec::new(),
            sequence: 0,
            full_count: 0,
        };
        for action in 0..600 {
            play.act(&mut rng);
            let used = play.database.memory_len_bytes();
            let counted = recount(&play.database, &play.open);
            assert_eq!(used, counted, "life {life}, action {action}");
        }
        play.open.clear();
        let used = play.database.memory_len_bytes();
        assert_eq!(used, recount(&play.database, &[]), "life {life}");
        full_count += play.full_count;
        if life % 3 != 0 {
            play.database.shutdown().unwrap();
            drop(play);
            let database = open();
            assert_eq!(database.memory_len_bytes(), used, "life {life}, reopened");
            assert_eq!(used, recount(&database, &[]));
        }
    }
    assert!(0 < full_count, "the limit was met");
}
