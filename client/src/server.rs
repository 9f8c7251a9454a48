//! What a server says about itself.

use in_mem_ipc::response::ArchivedResponse;
use in_mem_ipc::response::system::{ArchivedCapabilities, ArchivedInfo, ArchivedMeasure, Health};

use crate::answer::{self, Answer};
use crate::error::{self, ClientError};

/// Whether a server takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHealth {
    /// Reads and writes.
    Ok,
    /// Finishing what it has, taking nothing new.
    Draining,
    /// A write or sync of the log failed; reads only, until reopened.
    Poisoned,
    /// Opened for reading only.
    ReadOnly,
    /// Serves, but somebody has to see to it: what is acknowledged now, or soon, may not be kept.
    Degraded,
}

impl ServerHealth {
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

/// A named number; the unit is in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// The state of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version.
    pub server_version: String,
    /// Time since it was ready, microseconds.
    pub uptime_us: u64,
    /// Runs there are, the default run included.
    pub run_count: u64,
    /// Live keys in all runs.
    pub key_count: u64,
    /// Name of the durability mode of the database.
    pub durability: String,
    /// Whether it takes writes.
    pub health: ServerHealth,
    /// Why not, if it does not; if it does, what it does without and what to change, or nothing.
    pub health_reason: String,
    /// Counters and gauges.
    pub measures: Vec<Measure>,
}

/// What a server can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCapabilities {
    /// Its version.
    pub server_version: String,
    /// Version of the protocol spoken in this session.
    pub protocol_version: u16,
    /// Operations that work.
    pub operations: Vec<String>,
    /// Limits in force.
    pub limits: Vec<Measure>,
    /// Names of the encodings.
    pub encodings: Vec<String>,
    /// Names of the features.
    pub features: Vec<String>,
    /// Names of the durability modes.
    pub durability_modes: Vec<String>,
    /// Names of the transports.
    pub transports: Vec<String>,
    /// The text analyser of search; none where search does not exist.
    pub analyser: Option<String>,
}

pub(crate) fn info(answer: &Answer) -> Result<ServerInfo, ClientError> {
    let ArchivedResponse::Info(info) = answer else {
        return answer::done(answer).and_then(|()| Err(error::wrong_shape()));
    };
    Ok(info_of(info))
}

pub(crate) fn info_of(info: &ArchivedInfo<'static>) -> ServerInfo {
    ServerInfo {
        server_version: info.server_version.as_str().to_owned(),
        uptime_us: info.uptime_us.to_native(),
        run_count: info.run_count.to_native(),
        key_count: info.key_count.to_native(),
        durability: info.durability.as_str().to_owned(),
        health: match info.health {
            Health::Ok => ServerHealth::Ok,
            Health::Draining => ServerHealth::Draining,
            Health::Poisoned => ServerHealth::Poisoned,
            Health::ReadOnly => ServerHealth::ReadOnly,
            Health::Degraded => ServerHealth::Degraded,
        },
        health_reason: info.health_reason.as_str().to_owned(),
        measures: measures(&info.measures),
    }
}

pub(crate) fn capabilities(answer: &Answer) -> Result<ServerCapabilities, ClientError> {
    let ArchivedResponse::Capabilities(capabilities) = answer else {
        return answer::done(answer).and_then(|()| Err(error::wrong_shape()));
    };
    Ok(capabilities_of(capabilities))
}

pub(crate) fn capabilities_of(capabilities: &ArchivedCapabilities<'static>) -> ServerCapabilities {
    let texts = |texts: &[_]| texts.iter().map(text).collect();
    ServerCapabilities {
        server_version: text(&capabilities.server_version),
        protocol_version: capabilities.protocol_version.to_native(),
        operations: texts(&capabilities.operations),
        limits: measures(&capabilities.limits),
        encodings: texts(&capabilities.encodings),
        features: texts(&capabilities.features),
        durability_modes: texts(&capabilities.durability_modes),
        transports: texts(&capabilities.transports),
        analyser: capabilities.analyser.as_ref().map(text),
    }
}

/// Archived text derefs to `str`; its type is the wire's own.
fn text(text: &impl std::ops::Deref<Target = str>) -> String {
    str::to_owned(text)
}

fn measures(measures: &[ArchivedMeasure<'static>]) -> Vec<Measure> {
    let measure = |measure: &ArchivedMeasure<'static>| Measure {
        name: text(&measure.name),
        value: measure.value.to_native(),
    };
    measures.iter().map(measure).collect()
}
