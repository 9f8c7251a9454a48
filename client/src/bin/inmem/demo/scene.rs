//! What the demo makes on the machine, and how all of it goes away again.
//!
//! Owns the temporary directory and the ids of the child processes. Every way out leads through
//! here: the end of the demo, an error, and a signal to it, which a thread of its own waits for.
//! Beyond that the kernel kills the children when this process is gone. Children are ended by
//! their ids, which stay theirs until they are reaped; reaping happens under the lock.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::cli::failure::{EXIT_INTERRUPTED, Failure};
use crate::cli::parent;

/// How often a wait for a child looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The temporary directory and the children.
pub(super) struct Scene {
    state: Arc<Mutex<State>>,
    dir: PathBuf,
    keep: bool,
}

#[derive(Default)]
struct State {
    children: Vec<rustix::process::Pid>,
}

impl Scene {
    /// Makes the directory and begins to wait for signals. To be called before any other thread
    /// is started: the signals are blocked in all that follow.
    pub(super) fn open(parent_dir: Option<&Path>, keep: bool) -> Result<Self, Failure> {
        let parent_dir = parent_dir.map_or_else(env::temp_dir, Path::to_path_buf);
        let name = format!(
            "inmem-demo-{}-{:08x}",
            process::id(),
            super::worker::random_seed() >> 32
        );
        let dir = parent_dir.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| Failure::file(&dir, error))?;
        let scene = Self {
            state: Arc::default(),
            dir,
            keep,
        };
        scene.wait_for_signals()?;
        Ok(scene)
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts this program again as a child that ends with it. Its output goes to a file of the
    /// directory.
    pub(super) fn start(&self, log: &str, arguments: &[&str]) -> Result<Process, Failure> {
        let program = env::current_exe().map_err(|error| Failure::file("this program", error))?;
        let log = self.dir.join(log);
        let (out, err) = open_log(&log).map_err(|error| Failure::file(&log, error))?;
        let mut state = lock(&self.state);
        let child = Command::new(&program)
            .args([parent::OPTION, &process::id().to_string()])
            .args(arguments)
            .env_remove("INMEM_SOCKET")
            .env_remove("INMEM_DATA_DIR")
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| Failure::file(program, error))?;
        let pid = rustix::process::Pid::from_child(&child);
        state.children.push(pid);
        drop(state);
        Ok(Process {
            child,
            pid,
            state: Arc::clone(&self.state),
            log,
        })
    }

    fn wait_for_signals(&self) -> Result<(), Failure> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        let failed = |errno: nix::Error| Failure::file("signals", io::Error::from(errno));
        signals.thread_block().map_err(failed)?;
        let (state, dir, keep) = (Arc::clone(&self.state), self.dir.clone(), self.keep);
        let wait = move || {
            if signals.wait().is_ok() {
                // Held to the end, so that nothing is started any more.
                let state = lock(&state);
                for child in &state.children {
                    let _ = rustix::process::kill_process(*child, rustix::process::Signal::KILL);
                }
                remove(&dir, keep);
                process::exit(EXIT_INTERRUPTED.into());
            }
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .map_err(|error| Failure::file("the thread for signals", error))?;
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        remove(&self.dir, self.keep);
    }
}

/// A child process. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    pid: rustix::process::Pid,
    state: Arc<Mutex<State>>,
    log: PathBuf,
}

impl Process {
    /// Its id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits until it is gone.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let mut state = lock(&self.state);
        let status = self
            .child
            .try_wait()
            .map_err(|error| Failure::file("a child", error))?;
        if status.is_some() {
            state.children.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Waits until it ends by itself, and fails if it does not end well and in time.
    pub(super) fn wait(mut self, what: &str, wait_max: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + wait_max;
        loop {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.failed(&format!("{what} ended with {status}"))),
                None if deadline <= Instant::now() => {
                    return Err(self.failed(&format!("{what} did not end in {wait_max:?}")));
                }
                None => thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// The failure that says what it printed last.
    pub(super) fn failed(&self, what: &str) -> Failure {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("it printed nothing");
        Failure::Disproved(format!("{what}: {last}"))
    }

    fn end(&mut self) {
        let mut state = lock(&self.state);
        if state.children.contains(&self.pid) {
            // It may have ended by itself; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
            state.children.retain(|pid| *pid != self.pid);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_log(path: &Path) -> io::Result<(File, File)> {
    let out = OpenOptions::new().create(true).append(true).open(path)?;
    let err = out.try_clone()?;
    Ok((out, err))
}

fn remove(dir: &Path, keep: bool) {
    if keep {
        let _ = writeln!(io::stderr(), "kept {}", dir.display());
        return;
    }
    // A child that is being killed may add a file once more.
    for _ in 0..10 {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(LOOK_EVERY),
            _ => return,
        }
    }
    let _ = writeln!(io::stderr(), "could not remove {}", dir.display());
}
