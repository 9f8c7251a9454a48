//! A reference to one entity of one primitive in one run, as errors and histories name it.
//!
//! The bytes of a reference on disk belong to the writeset, not to this file.

use std::fmt;

use crate::id::{RunId, TraceId};
use crate::primitive::PrimitiveId;

/// Which entity. The text form is `primitive/run/rest`, the rest as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntityRef {
    /// A KV entry.
    Kv {
        /// Its run.
        run: RunId,
        /// Its user key.
        key: String,
    },
    /// An event.
    Event {
        /// Its run.
        run: RunId,
        /// Its position in the log of the run.
        sequence: u64,
    },
    /// A state cell.
    State {
        /// Its run.
        run: RunId,
        /// Its name.
        name: String,
    },
    /// A trace.
    Trace {
        /// Its run.
        run: RunId,
        /// Its id.
        trace_id: TraceId,
    },
    /// A run.
    Run {
        /// The run itself.
        run: RunId,
    },
    /// A JSON document.
    Json {
        /// Its run.
        run: RunId,
        /// Its key.
        doc_key: String,
    },
    /// A vector.
    Vector {
        /// Its run.
        run: RunId,
        /// Its collection.
        collection: String,
        /// Its key in the collection.
        key: String,
    },
}

impl EntityRef {
    /// The run the entity belongs to.
    #[must_use]
    pub const fn run(&self) -> RunId {
        match self {
            Self::Kv { run, .. }
            | Self::Event { run, .. }
            | Self::State { run, .. }
            | Self::Trace { run, .. }
            | Self::Run { run }
            | Self::Json { run, .. }
            | Self::Vector { run, .. } => *run,
        }
    }

    /// The primitive it belongs to.
    #[must_use]
    pub const fn primitive(&self) -> PrimitiveId {
        match self {
            Self::Kv { .. } => PrimitiveId::Kv,
            Self::Event { .. } => PrimitiveId::Event,
            Self::State { .. } => PrimitiveId::State,
            Self::Trace { .. } => PrimitiveId::Trace,
            Self::Run { .. } => PrimitiveId::Run,
            Self::Json { .. } => PrimitiveId::Json,
            Self::Vector { .. } => PrimitiveId::Vector,
        }
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.primitive().name(), self.run())?;
        match self {
            Self::Kv { key, .. } => write!(f, "/{key}"),
            Self::Event { sequence, .. } => write!(f, "/{sequence}"),
            Self::State { name, .. } => write!(f, "/{name}"),
            Self::Trace { trace_id, .. } => write!(f, "/{trace_id}"),
            Self::Run { .. } => Ok(()),
            Self::Json { doc_key, .. } => write!(f, "/{doc_key}"),
            Self::Vector {
                collection, key, ..
            } => write!(f, "/{collection}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_names_primitive_run_and_entity() {
        let run = RunId::DEFAULT;
        let zero = "00000000-0000-0000-0000-000000000000";
        let table = [
            (
                EntityRef::Kv {
                    run,
                    key: "a/b".into(),
                },
                format!("kv/{zero}/a/b"),
            ),
            (
                EntityRef::Event { run, sequence: 7 },
                format!("event/{zero}/7"),
            ),
            (
                EntityRef::State {
                    run,
                    name: "s".into(),
                },
                format!("state/{zero}/s"),
            ),
            (
                EntityRef::Trace {
                    run,
                    trace_id: TraceId([0; 16]),
                },
                format!("trace/{zero}/{zero}"),
            ),
            (EntityRef::Run { run }, format!("run/{zero}")),
            (
                EntityRef::Json {
                    run,
                    doc_key: "d".into(),
                },
                format!("json/{zero}/d"),
            ),
            (
                EntityRef::Vector {
                    run,
                    collection: "c".into(),
                    key: "k".into(),
                },
                format!("vector/{zero}/c/k"),
            ),
        ];
        for (entity, text) in table {
            assert_eq!(entity.to_string(), text);
            assert_eq!(entity.run(), run);
        }
    }
}
