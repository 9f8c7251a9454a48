//! Changes of a run itself: its beginning, its status, its description. Each is decided here, pure,
//! from the newest metadata, and committed like any other mutation of the run.

use in_mem_model::keys::validate_run_name;
use in_mem_model::{EncodedValue, RunId, RunInfo, RunStatus, Value, ValueType, decode, type_of};

use crate::errors::CommitError;
use crate::limits::{RUN_METADATA_LEN_BYTES_MAX, RUN_TAG_COUNT_MAX, RUN_TAG_LEN_BYTES_MAX};
use crate::writeset::entry_type;

/// One change of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunChange {
    /// The run begins to exist.
    Begin(BeginRun),
    /// Active to Completed.
    End,
    /// Active or Orphaned to Failed; needs a message.
    Fail {
        /// Why.
        message: String,
    },
    /// To Cancelled.
    Cancel,
    /// Active to Paused.
    Pause,
    /// Paused or Orphaned to Active.
    Resume,
    /// To Archived.
    Archive,
    /// Replaces the metadata.
    SetMetadata {
        /// An encoded Object or Null.
        metadata: EncodedValue,
    },
    /// Adds tags; those it has already are ignored.
    AddTags {
        /// The tags.
        tags: Vec<String>,
    },
    /// Removes tags; those it does not have are ignored.
    RemoveTags {
        /// The tags.
        tags: Vec<String>,
    },
}

/// The name of the default run; no other may take it.
pub const DEFAULT_RUN_NAME: &str = "default";

/// What a run begins with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BeginRun {
    /// Unique among all runs.
    pub name: Option<String>,
    /// An existing run; information only.
    pub parent: Option<RunId>,
    /// Tags.
    pub tags: Vec<String>,
    /// An encoded Object or Null.
    pub metadata: Option<EncodedValue>,
    /// For people.
    pub description: Option<String>,
    /// Who is to be alive for the run not to be orphaned.
    pub owner: Option<String>,
}

/// What a change is decided from.
pub(crate) struct RunNow {
    pub(crate) run: RunId,
    /// The newest metadata, pending changes included.
    pub(crate) info: Option<RunInfo>,
    /// The newest status; Orphaned where that is derived.
    pub(crate) status: Option<RunStatus>,
    /// The commit's time, microseconds since the epoch.
    pub(crate) now_us: u64,
}

impl RunChange {
    /// The status this change asks for; none when it leaves the status alone.
    pub(crate) fn target(&self) -> Option<RunStatus> {
        match self {
            Self::Begin(_) | Self::Resume => Some(RunStatus::Active),
            Self::End => Some(RunStatus::Completed),
            Self::Fail { .. } => Some(RunStatus::Failed),
            Self::Cancel => Some(RunStatus::Cancelled),
            Self::Pause => Some(RunStatus::Paused),
            Self::Archive => Some(RunStatus::Archived),
            Self::SetMetadata { .. } | Self::AddTags { .. } | Self::RemoveTags { .. } => None,
        }
    }

    /// Whether it is refused where memory is at its limit: each change keeps the whole metadata once
    /// more, and what ends a run goes on.
    pub(crate) fn grows_data(&self) -> bool {
        !self.target().is_some_and(RunStatus::is_closed)
    }

    /// The entry type of its record.
    pub(crate) fn entry_type(&self) -> u8 {
        match self {
            Self::Begin(_) => entry_type::RUN_CREATE,
            Self::Resume => entry_type::RUN_BEGIN,
            Self::End | Self::Fail { .. } | Self::Cancel | Self::Archive => entry_type::RUN_END,
            Self::Pause
            | Self::SetMetadata { .. }
            | Self::AddTags { .. }
            | Self::RemoveTags { .. } => entry_type::RUN_UPDATE,
        }
    }

    /// Checks what can be checked without the run.
    pub(crate) fn validate(&self) -> Result<(), CommitError> {
        match self {
            Self::Begin(begin) => {
                if let Some(name) = &begin.name {
                    validate_run_name(name)
                        .map_err(|_| CommitError::InvalidArgument { what: "run name" })?;
                    if name == DEFAULT_RUN_NAME {
                        return Err(CommitError::AlreadyExists {
                            run: RunId::DEFAULT,
                        });
                    }
                }
                if let Some(metadata) = &begin.metadata {
                    validate_metadata(metadata)?;
                }
                validate_text(begin.description.as_deref())?;
                validate_text(begin.owner.as_deref())?;
                validate_tags(&begin.tags)
            }
            Self::Fail { message } if message.is_empty() => Err(CommitError::InvalidArgument {
                what: "failing a run needs a message",
            }),
            Self::Fail { message } => validate_text(Some(message)),
            Self::SetMetadata { metadata } => validate_metadata(metadata),
            Self::AddTags { tags } | Self::RemoveTags { tags } => validate_tags(tags),
            Self::End | Self::Cancel | Self::Pause | Self::Resume | Self::Archive => Ok(()),
        }
    }

    /// The texts it brings along, bytes: bounds what it adds to the metadata.
    pub(crate) fn text_len_bytes(&self) -> usize {
        let tags_len = |tags: &[String]| tags.iter().map(|tag| tag.len() + 5).sum::<usize>();
        match self {
            Self::Begin(begin) => {
                let texts = [&begin.name, &begin.description, &begin.owner];
                texts
                    .into_iter()
                    .flatten()
                    .map(|text| text.len() + 5)
                    .sum::<usize>()
                    + tags_len(&begin.tags)
                    + begin
                        .metadata
                        .as_ref()
                        .map_or(0, |metadata| metadata.as_bytes().len())
            }
            Self::Fail { message } => message.len() + 5,
            Self::SetMetadata { metadata } => metadata.as_bytes().len(),
            Self::AddTags { tags } | Self::RemoveTags { tags } => tags_len(tags),
            Self::End | Self::Cancel | Self::Pause | Self::Resume | Self::Archive => 0,
        }
    }

    /// The metadata after the change.
    pub(crate) fn decide(&self, now: RunNow) -> Result<RunInfo, CommitError> {
        let run = now.run;
        if let Self::Begin(begin) = self {
            return match now.status {
                Some(_) => Err(CommitError::AlreadyExists { run }),
                None => begun(run, begin, now.now_us),
            };
        }
        let from = now.status.ok_or(CommitError::RunNotFound { run })?;
        let mut info = now.info.unwrap_or_else(|| default_run_info(now.now_us));
        info.updated_at_us = now.now_us;
        let Some(to) = self.target() else {
            if from != RunStatus::Active {
                return Err(CommitError::RunClosed { run, status: from });
            }
            self.describe(&mut info)?;
            return Ok(info);
        };
        if run == RunId::DEFAULT || !from.can_become(to) {
            return Err(CommitError::InvalidTransition { run, from, to });
        }
        info.status = to;
        if to.is_closed() && info.completed_at_us.is_none() {
            info.completed_at_us = Some(now.now_us);
        }
        if to == RunStatus::Active {
            info.completed_at_us = None;
        }
        if let Self::Fail { message } = self {
            info.error = Some(message.clone());
        }
        Ok(info)
    }

    fn describe(&self, info: &mut RunInfo) -> Result<(), CommitError> {
        match self {
            Self::SetMetadata { metadata } => info.metadata = metadata_value(metadata)?,
            Self::AddTags { tags } => {
                for tag in tags {
                    if !info.tags.contains(tag) {
                        info.tags.push(tag.clone());
                    }
                }
                if RUN_TAG_COUNT_MAX < info.tags.len() {
                    return Err(CommitError::InvalidArgument {
                        what: "too many tags",
                    });
                }
            }
            Self::RemoveTags { tags } => info.tags.retain(|tag| !tags.contains(tag)),
            _ => {}
        }
        Ok(())
    }
}

/// The default run before anyone described it: it exists without a record.
pub(crate) fn default_run_info(created_at_us: u64) -> RunInfo {
    let mut info = RunInfo::new(RunId::DEFAULT, created_at_us);
    info.name = Some(DEFAULT_RUN_NAME.to_owned());
    info
}

fn begun(run: RunId, begin: &BeginRun, now_us: u64) -> Result<RunInfo, CommitError> {
    let mut info = RunInfo::new(run, now_us);
    info.name = begin.name.clone();
    info.parent = begin.parent;
    for tag in &begin.tags {
        if !info.tags.contains(tag) {
            info.tags.push(tag.clone());
        }
    }
    if let Some(metadata) = &begin.metadata {
        info.metadata = metadata_value(metadata)?;
    }
    info.description = begin.description.clone();
    info.owner = begin.owner.clone();
    Ok(info)
}

fn metadata_value(metadata: &EncodedValue) -> Result<Value, CommitError> {
    Ok(decode(metadata.as_bytes())?)
}

fn validate_text(text: Option<&str>) -> Result<(), CommitError> {
    match text {
        Some(text) if RUN_METADATA_LEN_BYTES_MAX < text.len() => {
            Err(CommitError::InvalidArgument {
                what: "text of a run is too long",
            })
        }
        _ => Ok(()),
    }
}

fn validate_metadata(metadata: &EncodedValue) -> Result<(), CommitError> {
    let bytes = metadata.as_bytes();
    if RUN_METADATA_LEN_BYTES_MAX < bytes.len() {
        return Err(CommitError::InvalidArgument {
            what: "metadata of a run is too long",
        });
    }
    match type_of(bytes) {
        Some(ValueType::Object | ValueType::Null) => Ok(()),
        _ => Err(CommitError::InvalidArgument {
            what: "metadata is neither Object nor Null",
        }),
    }
}

fn validate_tags(tags: &[String]) -> Result<(), CommitError> {
    let is_bad = |tag: &String| tag.is_empty() || RUN_TAG_LEN_BYTES_MAX < tag.len();
    if RUN_TAG_COUNT_MAX < tags.len() || tags.iter().any(is_bad) {
        return Err(CommitError::InvalidArgument { what: "tags" });
    }
    Ok(())
}
