//! The private daemon: started by running this program again, ended by SIGKILL.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use in_mem_client::check::{Datum, Dump};
use in_mem_client::model::{Value, encode};
use in_mem_client::{Client, ClientError, ListOptions, ReconnectPolicy, Run, RunListOptions};

use crate::cli::demo::scene::{Process, Scene};
use crate::cli::failure::Failure;

/// How long a daemon may take to answer after it was started.
const START_MAX: Duration = Duration::from_secs(30);

/// How often a start is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Entries asked for at once.
const PAGE_COUNT: u32 = 1000;

/// A running daemon, and a client of it.
pub(super) struct Daemon {
    process: Process,
    client: Client,
}

impl Daemon {
    /// Starts a daemon on the data of the scene and waits until it answers.
    pub(super) fn start(scene: &Scene, socket: &Path) -> Result<Self, Failure> {
        let data_dir = data_dir(scene);
        let (data_dir, socket_text) = (data_dir.to_string_lossy(), socket.to_string_lossy());
        let arguments = ["daemon", "--data-dir", &data_dir, "--socket", &socket_text];
        let mut process = scene.start("daemon.log", &arguments)?;
        let deadline = Instant::now() + START_MAX;
        loop {
            let builder = Client::builder().name("inmem demo").socket(socket);
            let error = match builder.reconnect(ReconnectPolicy::NONE).connect() {
                Ok(client) => return Ok(Self { process, client }),
                Err(error) => error,
            };
            if let Some(status) = process.try_wait()? {
                return Err(process.failed(&format!("the daemon ended with {status}")));
            }
            if !matches!(error, ClientError::Unreachable { .. }) || deadline <= Instant::now() {
                return Err(error.into());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The client.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(super) fn kill(self) {
        self.process.kill();
    }

    /// Everything it holds: the keys and values of every run.
    pub(super) fn dump(&self) -> Result<Dump, Failure> {
        let mut dump = Dump::default();
        let mut cursor = None;
        loop {
            let page = self.client.runs().list(RunListOptions {
                include_archived: true,
                cursor: cursor.as_ref(),
                ..RunListOptions::default()
            })?;
            for info in page.entries {
                dump_run(&mut dump, &self.client.run(&info.id.to_string())?)?;
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(dump),
            }
        }
    }
}

fn dump_run(dump: &mut Dump, run: &Run) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let options = ListOptions {
            limit: PAGE_COUNT,
            cursor: cursor.as_ref(),
            ..ListOptions::default()
        };
        let page = run.kv().list_with_values::<Value>(options)?;
        for entry in page.entries {
            dump.insert(run.id().0, &entry.key, entry.version, datum(&entry.value)?);
        }
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// A value as the checker compares it.
pub(super) fn datum(value: &Value) -> Result<Datum, Failure> {
    let encoded = encode(value).map_err(|error| Failure::Disproved(error.to_string()))?;
    Ok(Datum::from_encoded(encoded.as_bytes()))
}

fn data_dir(scene: &Scene) -> PathBuf {
    scene.dir().join("data")
}

/// Bytes of everything in the data directory.
pub(super) fn data_len_bytes(scene: &Scene) -> u64 {
    fn len_of(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let len = |entry: fs::DirEntry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => len_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        };
        entries.map(len).sum()
    }
    len_of(&data_dir(scene))
}
