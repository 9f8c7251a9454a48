//! Everything a daemon shows, in the words of the checker.

use std::collections::BTreeMap;
use std::path::Path;

use in_mem_client::check::{Datum, Dump};
use in_mem_client::model::{RunId, RunStatus, Value, encode};
use in_mem_client::{Client, ListOptions, ReconnectPolicy, Run, RunListOptions};

/// Entries asked for at once.
const PAGE_COUNT: u32 = 1_000;

/// A client of the daemon behind a socket.
pub fn connect(socket: &Path) -> Client {
    let builder = Client::builder().socket(socket).name("crash harness");
    builder
        .reconnect(ReconnectPolicy::NONE)
        .connect()
        .expect("the daemon is ready")
}

/// Every entry of every run, and the status of every run.
pub fn dump(client: &Client) -> (Dump, BTreeMap<RunId, RunStatus>) {
    let mut dump = Dump::default();
    let mut runs = BTreeMap::new();
    dump_run(
        &mut dump,
        &client
            .run(&RunId::DEFAULT.to_string())
            .expect("the default run"),
    );
    let mut cursor = None;
    loop {
        let options = RunListOptions {
            include_archived: true,
            cursor: cursor.as_ref(),
            ..RunListOptions::default()
        };
        let page = client.runs().list(options).expect("runs are listed");
        for info in page.entries {
            if info.id != RunId::DEFAULT {
                dump_run(
                    &mut dump,
                    &client.run(&info.id.to_string()).expect("a listed run"),
                );
                runs.insert(info.id, info.status);
            }
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return (dump, runs),
        }
    }
}

fn dump_run(dump: &mut Dump, run: &Run) {
    let mut cursor = None;
    loop {
        let options = ListOptions {
            limit: PAGE_COUNT,
            cursor: cursor.as_ref(),
            ..ListOptions::default()
        };
        let page = run
            .kv()
            .list_with_values::<Value>(options)
            .expect("keys are listed");
        for entry in page.entries {
            dump.insert(run.id().0, &entry.key, entry.version, datum(&entry.value));
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return,
        }
    }
}

/// A value as the checker compares it.
pub fn datum(value: &Value) -> Datum {
    Datum::from_encoded(
        encode(value)
            .expect("a stored value has an encoding")
            .as_bytes(),
    )
}
