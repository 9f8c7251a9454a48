//! Runs: the statuses with their transitions, and the metadata every run carries.

use crate::encoding::{EncodedValue, ValueError, decode, encode};
use crate::id::RunId;
use crate::value::Value;

/// Where a run stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RunStatus {
    /// Takes writes.
    Active = 1,
    /// Ended well.
    Completed = 2,
    /// Ended badly; has an error.
    Failed = 3,
    /// Given up.
    Cancelled = 4,
    /// Takes no writes until resumed.
    Paused = 5,
    /// Put away; left out of lists.
    Archived = 6,
    /// Was Active when its owner died. Derived at recovery, never stored by it.
    Orphaned = 7,
}

impl RunStatus {
    /// Every status, by number.
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Paused,
        Self::Archived,
        Self::Orphaned,
    ];

    /// The name in replies and in metadata.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
            Self::Archived => "archived",
            Self::Orphaned => "orphaned",
        }
    }

    /// The status of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// The status of a number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as u8 == number)
    }

    /// The statuses this one may change to.
    #[must_use]
    pub fn allowed(self) -> &'static [Self] {
        use RunStatus::{Active, Archived, Cancelled, Completed, Failed, Orphaned, Paused};
        match self {
            Active => &[Completed, Failed, Cancelled, Paused, Archived],
            Paused => &[Active, Cancelled, Archived],
            Completed | Failed | Cancelled => &[Archived],
            Archived => &[],
            Orphaned => &[Active, Failed, Cancelled, Archived],
        }
    }

    /// True when this status may change to `target`.
    #[must_use]
    pub fn can_become(self, target: Self) -> bool {
        self.allowed().contains(&target)
    }

    /// True for any status other than Active and Paused.
    #[must_use]
    pub fn is_closed(self) -> bool {
        !matches!(self, Self::Active | Self::Paused)
    }
}

/// The metadata of a run, as stored and as returned.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// The identity.
    pub id: RunId,
    /// The unique name, if it has one.
    pub name: Option<String>,
    /// The run this one was begun under: information only.
    pub parent: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was begun, microseconds since the Unix epoch.
    pub created_at_us: u64,
    /// When its metadata last changed, microseconds since the Unix epoch.
    pub updated_at_us: u64,
    /// When it was closed, microseconds since the Unix epoch.
    pub completed_at_us: Option<u64>,
    /// What it is for.
    pub description: Option<String>,
    /// Tags, without repeats, in the order given.
    pub tags: Vec<String>,
    /// An Object or Null.
    pub metadata: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// Who owns it.
    pub owner: Option<String>,
    /// Events in its log, count.
    pub event_count: u64,
    /// The commit version of its last change; 0 in the stored form, where the record carries it.
    pub version: u64,
}

/// Why bytes are no run metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunInfoError {
    /// The bytes are no value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A field is missing or of another type.
    #[error("the field {field} of the run metadata is missing or of the wrong type")]
    Field {
        /// Its name.
        field: &'static str,
    },
}

impl RunInfo {
    /// A new Active run without anything optional.
    #[must_use]
    pub fn new(id: RunId, now_us: u64) -> Self {
        Self {
            id,
            name: None,
            parent: None,
            status: RunStatus::Active,
            created_at_us: now_us,
            updated_at_us: now_us,
            completed_at_us: None,
            description: None,
            tags: Vec::new(),
            metadata: Value::Null,
            error: None,
            owner: None,
            event_count: 0,
            version: 0,
        }
    }

    /// True while the run takes writes.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == RunStatus::Active
    }

    /// How long it ran, or has run until `now_us`, microseconds.
    #[must_use]
    pub fn duration_us(&self, now_us: u64) -> u64 {
        self.completed_at_us
            .unwrap_or(now_us)
            .saturating_sub(self.created_at_us)
    }

    /// The metadata as an Object; absent optional fields are left out.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let fields = [
            ("id", Some(Value::String(self.id.to_string()))),
            ("name", text(&self.name)),
            (
                "parent",
                self.parent.map(|parent| Value::String(parent.to_string())),
            ),
            ("status", Some(Value::from(self.status.name()))),
            ("created_at", Some(number(self.created_at_us))),
            ("updated_at", Some(number(self.updated_at_us))),
            ("completed_at", self.completed_at_us.map(number)),
            ("description", text(&self.description)),
            (
                "tags",
                Some(Value::Array(
                    self.tags.iter().cloned().map(Value::String).collect(),
                )),
            ),
            ("metadata", Some(self.metadata.clone())),
            ("error", text(&self.error)),
            ("owner", text(&self.owner)),
            ("event_count", Some(number(self.event_count))),
            ("version", Some(number(self.version))),
        ];
        let present = |(name, value): (&str, Option<Value>)| value.map(|v| (name.to_owned(), v));
        Value::Object(fields.into_iter().filter_map(present).collect())
    }

    /// The encoding of [`RunInfo::to_value`].
    ///
    /// # Errors
    /// When the user's part exceeds a limit of values.
    pub fn encode(&self) -> Result<EncodedValue, ValueError> {
        encode(&self.to_value())
    }

    /// Reads what [`RunInfo::encode`] wrote. Unknown fields are skipped.
    ///
    /// # Errors
    /// When the bytes are no such Object.
    pub fn decode(bytes: &[u8]) -> Result<Self, RunInfoError> {
        let Value::Object(entries) = decode(bytes)? else {
            return Err(RunInfoError::Field { field: "id" });
        };
        let fields = Fields(entries);
        let status = fields
            .text("status")?
            .and_then(|name| RunStatus::from_name(&name));
        Ok(Self {
            id: fields
                .run_id("id")?
                .ok_or(RunInfoError::Field { field: "id" })?,
            name: fields.text("name")?,
            parent: fields.run_id("parent")?,
            status: status.ok_or(RunInfoError::Field { field: "status" })?,
            created_at_us: fields.required_number("created_at")?,
            updated_at_us: fields.required_number("updated_at")?,
            completed_at_us: fields.number("completed_at")?,
            description: fields.text("description")?,
            tags: fields.tags()?,
            metadata: fields.metadata()?,
            error: fields.text("error")?,
            owner: fields.text("owner")?,
            event_count: fields.required_number("event_count")?,
            version: fields.required_number("version")?,
        })
    }
}

/// Times and counts stay far below the range of an integer value for any real clock; one beyond
/// it is held at the end of the range.
fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

struct Fields(Vec<(String, Value)>);

impl Fields {
    fn find(&self, field: &'static str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, value)| value)
    }

    fn text(&self, field: &'static str) -> Result<Option<String>, RunInfoError> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(RunInfoError::Field { field }),
        }
    }

    fn run_id(&self, field: &'static str) -> Result<Option<RunId>, RunInfoError> {
        let parse = |text: String| text.parse().map_err(|_| RunInfoError::Field { field });
        self.text(field)?.map(parse).transpose()
    }

    fn number(&self, field: &'static str) -> Result<Option<u64>, RunInfoError> {
        match self.find(field) {
            None => Ok(None),
            Some(Value::Int(value)) => u64::try_from(*value)
                .map(Some)
                .map_err(|_| RunInfoError::Field { field }),
            Some(_) => Err(RunInfoError::Field { field }),
        }
    }

    fn required_number(&self, field: &'static str) -> Result<u64, RunInfoError> {
        self.number(field)?.ok_or(RunInfoError::Field { field })
    }

    fn metadata(&self) -> Result<Value, RunInfoError> {
        match self.find("metadata") {
            None => Ok(Value::Null),
            Some(found @ (Value::Object(_) | Value::Null)) => Ok(found.clone()),
            Some(_) => Err(RunInfoError::Field { field: "metadata" }),
        }
    }

    fn tags(&self) -> Result<Vec<String>, RunInfoError> {
        let Some(Value::Array(tags)) = self.find("tags") else {
            return Err(RunInfoError::Field { field: "tags" });
        };
        let text = |tag: &Value| match tag {
            Value::String(text) => Ok(text.clone()),
            _ => Err(RunInfoError::Field { field: "tags" }),
        };
        tags.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_table_is_the_published_one() {
        let table = [
            ("active", "completed failed cancelled paused archived"),
            ("paused", "active cancelled archived"),
            ("completed", "archived"),
            ("failed", "archived"),
            ("cancelled", "archived"),
            ("archived", ""),
            ("orphaned", "active failed cancelled archived"),
        ];
        for (from, allowed) in table {
            let from = RunStatus::from_name(from).unwrap();
            for to in RunStatus::ALL {
                let expected = allowed.split(' ').any(|name| name == to.name());
                assert_eq!(from.can_become(to), expected, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn closed_is_any_status_but_active_and_paused() {
        let open: Vec<_> = RunStatus::ALL
            .into_iter()
            .filter(|s| !s.is_closed())
            .collect();
        assert_eq!(open, [RunStatus::Active, RunStatus::Paused]);
    }

    #[test]
    fn metadata_reads_back_as_written_with_and_without_its_optional_fields() {
        let plain = RunInfo::new(RunId::new_random(), 5);
        let full = RunInfo {
            name: Some("agent-7".into()),
            parent: Some(RunId::new_random()),
            status: RunStatus::Failed,
            completed_at_us: Some(9),
            description: Some("a try".into()),
            tags: vec!["a".into(), "b".into()],
            metadata: Value::Object(vec![("k".into(), Value::Float(-0.5))]),
            error: Some("no luck".into()),
            owner: Some("pid 12".into()),
            ..plain.clone()
        };
        for info in [plain, full] {
            let encoded = info.encode().unwrap();
            assert_eq!(RunInfo::decode(encoded.as_bytes()).unwrap(), info);
        }
    }

    #[test]
    fn metadata_that_is_neither_object_nor_null_is_refused() {
        let mut info = RunInfo::new(RunId::DEFAULT, 1);
        info.metadata = Value::Array(Vec::new());
        let bytes = info.encode().unwrap();
        let refused = Err(RunInfoError::Field { field: "metadata" });
        assert_eq!(RunInfo::decode(bytes.as_bytes()), refused);
    }
}
