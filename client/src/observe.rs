//! Looking inside a server: whether it is fit, its metrics, and everything about it at once.

use in_mem_ipc::response::ArchivedResponse;
use in_mem_ipc::response::observe::{ArchivedFault, ArchivedHealthReport, HealthState};
use in_mem_model::RunId;

use crate::answer::{self, Answer};
use crate::error::{self, ClientError};
use crate::server::{self, ServerCapabilities, ServerInfo};

/// What a server is fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Reads and writes, and nothing is wrong.
    Ok,
    /// Finishing what it has, taking nothing new.
    Draining,
    /// A write or sync of the log failed; reads only, until reopened.
    Poisoned,
    /// Opened for reading only.
    ReadOnly,
    /// Serves, but somebody has to see to it: what is acknowledged may not be kept.
    Degraded,
}

impl ServerState {
    /// The name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Draining => "draining",
            Self::Poisoned => "poisoned",
            Self::ReadOnly => "read-only",
            Self::Degraded => "degraded",
        }
    }
}

/// One thing that is wrong with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFault {
    /// Its stable name: `log`, `stopping`, `recovery`, `data_directory`, `disk_space` or `snapshot`.
    pub name: String,
    /// What is wrong and what to do, in one line.
    pub reason: String,
}

/// Whether a server is fit, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// What it is fit for.
    pub state: ServerState,
    /// Everything that is wrong, the worst first.
    pub faults: Vec<ServerFault>,
    /// How the log is written.
    pub log_backend: String,
    /// How the sockets are served.
    pub socket_backend: String,
    /// Bytes free below the data directory; none where the kernel does not say.
    pub free_len_bytes: Option<u64>,
}

/// One setting of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSetting {
    /// Its name, with its section.
    pub name: String,
    /// Its value as TOML; none if it is unset.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: String,
}

/// One run, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The name of its status.
    pub status: String,
    /// Its live keys.
    pub key_count: u64,
}

/// Everything about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDescription {
    /// Its state.
    pub info: ServerInfo,
    /// Whether it is fit.
    pub health: HealthReport,
    /// What it can do.
    pub capabilities: ServerCapabilities,
    /// Every setting.
    pub settings: Vec<ServerSetting>,
    /// The first runs in the order of their ids, archived ones left out.
    pub runs: Vec<RunSummary>,
    /// Whether there are more runs than these.
    pub has_more_runs: bool,
}

pub(crate) fn health(answer: &Answer) -> Result<HealthReport, ClientError> {
    let ArchivedResponse::Health(report) = answer else {
        return wrong(answer);
    };
    Ok(report_of(report))
}

pub(crate) fn metrics(answer: &Answer) -> Result<String, ClientError> {
    let ArchivedResponse::Metrics(text) = answer else {
        return wrong(answer);
    };
    Ok(text.as_str().to_owned())
}

pub(crate) fn description(answer: &Answer) -> Result<ServerDescription, ClientError> {
    let ArchivedResponse::Description(found) = answer else {
        return wrong(answer);
    };
    let settings = found.settings.iter().map(|setting| ServerSetting {
        name: setting.name.as_str().to_owned(),
        value: setting
            .value
            .as_ref()
            .map(|value| value.as_str().to_owned()),
        origin: setting.origin.as_str().to_owned(),
    });
    let runs = found.runs.iter().map(|run| RunSummary {
        id: RunId(run.id),
        name: run.name.as_ref().map(|name| name.as_str().to_owned()),
        status: run.status.as_str().to_owned(),
        key_count: run.key_count.to_native(),
    });
    Ok(ServerDescription {
        info: server::info_of(&found.info),
        health: report_of(&found.health),
        capabilities: server::capabilities_of(&found.capabilities),
        settings: settings.collect(),
        runs: runs.collect(),
        has_more_runs: found.has_more_runs,
    })
}

fn wrong<T>(answer: &Answer) -> Result<T, ClientError> {
    answer::done(answer).and_then(|()| Err(error::wrong_shape()))
}

fn report_of(report: &ArchivedHealthReport<'static>) -> HealthReport {
    let fault = |fault: &ArchivedFault<'static>| ServerFault {
        name: fault.name.as_str().to_owned(),
        reason: fault.reason.as_str().to_owned(),
    };
    HealthReport {
        state: match report.state {
            HealthState::Ok => ServerState::Ok,
            HealthState::Draining => ServerState::Draining,
            HealthState::Poisoned => ServerState::Poisoned,
            HealthState::ReadOnly => ServerState::ReadOnly,
            HealthState::Degraded => ServerState::Degraded,
        },
        faults: report.faults.iter().map(fault).collect(),
        log_backend: report.log_backend.as_str().to_owned(),
        socket_backend: report.socket_backend.as_str().to_owned(),
        free_len_bytes: report
            .free_len_bytes
            .as_ref()
            .map(|bytes| bytes.to_native()),
    }
}
