//! Whether the daemon is fit: looks at the database, its directory and its disk.
//!
//! Asks the kernel about files, so it belongs on a worker, never on the reactor.

use in_mem_ipc::response::observe::{Fault, HealthReport, HealthState};

use crate::disk_space::DiskFound;
use crate::store::Store;

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

/// Looks now. The state is that of the first fault: a poisoned log before the end of the process,
/// both before what only threatens.
pub(crate) fn look(store: &Store) -> HealthReport<'static> {
    let disk = store.look_at_disk();
    let free_len_bytes = disk.free_len_bytes;
    let found = [
        log(store),
        stopping(store),
        recovery(store),
        data_directory(store),
        disk_space(&disk),
    ];
    let found: Vec<_> = found.into_iter().flatten().collect();
    HealthReport {
        state: found.first().map_or(HealthState::Ok, |(state, _)| *state),
        faults: found.into_iter().map(|(_, fault)| fault).collect(),
        log_backend: store.place.disk.name().into(),
        socket_backend: store.place.reactor.into(),
        free_len_bytes,
    }
}

type Found = Option<(HealthState, Fault<'static>)>;

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
    let result = store.database.last_recovery_result()?;
    let reason = || {
        "no room to make the recovered log writable: reads only; make room and restart".to_owned()
    };
    result
        .is_read_only
        .then(|| fault(HealthState::ReadOnly, "recovery", reason()))?
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
