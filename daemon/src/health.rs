//! Whether the daemon is fit: looks at the database, its directory and its disk.
//!
//! One function, [`state`], decides the state for everyone who tells it: health, info, metrics and
//! the line of the service manager. [`look`] asks the kernel about files, so it belongs on a worker,
//! never on the reactor; what it found there is kept, and counts until the next look.

use std::sync::atomic::{AtomicU8, Ordering};

use in_mem_ipc::response::observe::{Fault, HealthReport, HealthState};
use in_mem_ipc::response::system::Health;
use parking_lot::Mutex;

use crate::disk_space::DiskFound;
use crate::status::without_rings;
use crate::store::Store;

/// What the last look found where only the kernel knows.
#[derive(Debug, Default)]
pub(crate) struct LastLook {
    found: Mutex<Vec<Finding>>,
    /// The state of the first of them, by its place in [`STATES`].
    state: AtomicU8,
}

/// Every state, the worst that is known first.
pub(crate) const STATES: [HealthState; 5] = [
    HealthState::Ok,
    HealthState::Draining,
    HealthState::Poisoned,
    HealthState::ReadOnly,
    HealthState::Degraded,
];

/// The word of a state.
pub(crate) fn state_name(state: HealthState) -> &'static str {
    match state {
        HealthState::Ok => "ok",
        HealthState::Draining => "draining",
        HealthState::Poisoned => "poisoned",
        HealthState::ReadOnly => "read-only",
        HealthState::Degraded => "degraded",
    }
}

/// The state now. What lies outside the process is as of the last look; a poisoned log comes before
/// the end of the process, both before what only threatens. Costs a few loads.
pub(crate) fn state(store: &Store) -> HealthState {
    if store.database.is_poisoned() {
        return HealthState::Poisoned;
    }
    if store.is_draining() {
        return HealthState::Draining;
    }
    if is_read_only(store) {
        return HealthState::ReadOnly;
    }
    if store.automatic.has_failed() {
        return HealthState::Degraded;
    }
    // Relaxed: each look counts for itself.
    let place = store.last_look.state.load(Ordering::Relaxed);
    STATES
        .get(usize::from(place))
        .copied()
        .unwrap_or(HealthState::Degraded)
}

/// Looks now.
pub(crate) fn look(store: &Store) -> HealthReport<'static> {
    let disk = store.look_at_disk();
    let free_len_bytes = disk.free_len_bytes;
    let outside = [data_directory(store), disk_space(&disk)];
    let outside: Vec<Finding> = outside.into_iter().flatten().collect();
    store.last_look.keep(outside);
    HealthReport {
        state: state(store),
        faults: faults(store),
        log_backend: store.place.disk.name().into(),
        socket_backend: store.place.reactor.into(),
        free_len_bytes,
    }
}

/// The state now, and in one line why; where nothing is wrong, what the daemon does without.
pub(crate) fn standing(store: &Store) -> (HealthState, String) {
    (state(store), in_words(store, faults(store).first()))
}

/// Why a report says what it says, in one line.
pub(crate) fn reason(store: &Store, report: &HealthReport<'static>) -> String {
    in_words(store, report.faults.first())
}

fn in_words(store: &Store, first: Option<&Fault<'static>>) -> String {
    match first {
        Some(fault) => fault.reason.0.to_string(),
        None => without_rings(&store.place).unwrap_or_default(),
    }
}

/// The state as `system.info` tells it.
pub(crate) fn in_info(state: HealthState) -> Health {
    match state {
        HealthState::Ok => Health::Ok,
        HealthState::Draining => Health::Draining,
        HealthState::Poisoned => Health::Poisoned,
        HealthState::ReadOnly => Health::ReadOnly,
        HealthState::Degraded => Health::Degraded,
    }
}

/// Everything that is wrong, the worst first.
fn faults(store: &Store) -> Vec<Fault<'static>> {
    let inside = [log(store), stopping(store), recovery(store)];
    let outside = store.last_look.found.lock().clone();
    let found = inside.into_iter().flatten().chain(outside);
    let found = found.chain(snapshot(store));
    found.map(|(_, fault)| fault).collect()
}

impl LastLook {
    fn keep(&self, found: Vec<Finding>) {
        let first = found.first().map_or(HealthState::Ok, |(state, _)| *state);
        let place = STATES.iter().position(|state| *state == first);
        let place = place.and_then(|place| u8::try_from(place).ok());
        *self.found.lock() = found;
        self.state.store(place.unwrap_or(0), Ordering::Relaxed);
    }
}

fn is_read_only(store: &Store) -> bool {
    let result = store.database.last_recovery_result();
    result.is_some_and(|result| result.is_read_only)
}

type Finding = (HealthState, Fault<'static>);

type Found = Option<Finding>;

fn fault(state: HealthState, name: &'static str, reason: String) -> Found {
    Some((
        state,
        Fault {
            name: name.into(),
            reason: reason.into(),
        },
    ))
}

fn log(store: &Store) -> Found {
    if !store.database.is_poisoned() {
        return None;
    }
    let cause = store.database.poison_cause();
    let cause = cause.map_or_else(|| "a defect".to_owned(), |cause| cause.to_string());
    let reason = format!("the log failed ({cause}): reads go on, restart to write again");
    fault(HealthState::Poisoned, "log", reason)
}

fn stopping(store: &Store) -> Found {
    let reason = || "the server is shutting down".to_owned();
    store
        .is_draining()
        .then(|| fault(HealthState::Draining, "stopping", reason()))?
}

fn recovery(store: &Store) -> Found {
    let reason = || {
        "no room to make the recovered log writable: reads only; make room and restart".to_owned()
    };
    is_read_only(store).then(|| fault(HealthState::ReadOnly, "recovery", reason()))?
}

fn snapshot(store: &Store) -> Found {
    let reason = store.automatic.failure()?;
    fault(HealthState::Degraded, "snapshot", reason)
}

fn data_directory(store: &Store) -> Found {
    let root = store.place.root.as_ref()?;
    let names: &[&'static str] = if store.database.log_metrics().is_some() {
        &["LOCK", "MANIFEST", "WAL"]
    } else {
        &["LOCK"]
    };
    let displaced = root.check_in_place(names).err()?;
    let reason = format!(
        "{}: {displaced}; what is written now is lost when the server ends: save what you need \
         over the socket, then restart",
        root.path().display()
    );
    fault(HealthState::Degraded, "data_directory", reason)
}

fn disk_space(disk: &DiskFound) -> Found {
    let reason = disk.warning()?;
    fault(HealthState::Degraded, "disk_space", reason)
}
