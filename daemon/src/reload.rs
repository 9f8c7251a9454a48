//! Reading the configuration again while requests are served.
//!
//! Everything that can fail or take time (the file, the names of users and groups, the filter)
//! happens on a thread of its own and comes back whole or not at all: a broken configuration changes
//! nothing. What comes back is put into force by the reactor, between two turns.

use std::path::PathBuf;
use std::sync::Arc;

use crate::completions::Inbox;
use crate::config::{
    Changes, ConfigError, Configuration, DescribedSetting, Given, Principals, Settings,
};
use crate::log::{Filter, Log, LogError};
use crate::reactor::Waker;

/// Where the configuration comes from; the same at every reading.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The file that was named, if one was.
    pub(crate) file: Option<PathBuf>,
    /// What flags and environment say.
    pub(crate) given: Vec<Given>,
}

impl Sources {
    /// Reads it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn load(&self) -> Result<Configuration, ConfigError> {
        Configuration::load(self.file.clone(), &self.given)
    }
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A configuration that was read and understood, and is not in force.
#[derive(Debug)]
pub(crate) struct Fresh {
    configuration: Configuration,
    pub(crate) principals: Principals,
    filter: Filter,
}

/// Readings on their way.
pub(crate) struct Reload {
    sources: Sources,
    log: Log,
    /// What holds now.
    in_force: Configuration,
    inbox: Arc<Inbox<Result<Fresh, ReloadError>>>,
    is_reading: bool,
    /// Asked for while a reading was on its way: it may have missed what was changed meanwhile.
    is_asked_again: bool,
}

impl Reload {
    /// Nothing is on its way; the reactor of `waker` is woken when something comes.
    pub(crate) fn new(sources: Sources, log: Log, in_force: Configuration, waker: Waker) -> Self {
        Self {
            sources,
            log,
            in_force,
            inbox: Arc::new(Inbox::new(waker)),
            is_reading: false,
            is_asked_again: false,
        }
    }

    /// Starts a reading, or has another follow the one on its way.
    pub(crate) fn begin(&mut self) {
        if self.is_reading {
            self.is_asked_again = true;
            return;
        }
        let (sources, inbox) = (self.sources.clone(), Arc::clone(&self.inbox));
        let read = move || {
            inbox.push(read(&sources));
            inbox.wake();
        };
        let spawned = std::thread::Builder::new()
            .name("inmem-reload".to_owned())
            .spawn(read);
        match spawned {
            Ok(_) => self.is_reading = true,
            Err(error) => {
                tracing::error!(target: "db", %error, "the configuration cannot be read again");
            }
        }
    }

    /// Whether a reading is on its way.
    pub(crate) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// What has come since the last look.
    pub(crate) fn take(&mut self) -> Option<Result<Fresh, ReloadError>> {
        let mut come = Vec::new();
        self.inbox.take(&mut come);
        let come = come.pop()?;
        self.is_reading = false;
        if std::mem::take(&mut self.is_asked_again) {
            self.begin();
        }
        Some(come)
    }

    /// Puts the filter into force, takes over what else can be, and tells what changes.
    pub(crate) fn adopt(&mut self, fresh: Fresh) -> Changes {
        let changes = self.in_force.adopt(&fresh.configuration);
        if changes.live.contains(&"log") {
            self.log.set_filter(fresh.filter);
        }
        changes
    }

    /// The settings in force.
    pub(crate) fn in_force(&self) -> &Settings {
        &self.in_force.settings
    }

    /// Every setting in force with its origin.
    pub(crate) fn described(&self) -> Vec<DescribedSetting> {
        self.in_force.described()
    }
}

fn read(sources: &Sources) -> Result<Fresh, ReloadError> {
    let configuration = sources.load()?;
    let principals = Principals::resolve(&configuration.settings.access)?;
    let filter = Filter::parse(&configuration.settings.log)?;
    Ok(Fresh {
        configuration,
        principals,
        filter,
    })
}
