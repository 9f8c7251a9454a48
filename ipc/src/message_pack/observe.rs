//! The results of `system.health` and `system.describe` as maps.

use super::Fault;
use super::form::{
    Flag, Form, Id, Many, Message, Name, Object, Optional, Presence, Required, Unsigned, Words,
    key, map, message, names, once, text, unknown_key, unknown_name,
};
use super::reader::Reader;
use super::writer::Writer;
use crate::response::observe::{
    Description, Fault as ServerFault, HealthReport, HealthState, RunSummary, Setting,
};

/// A map of its own that stands in a box.
pub(super) struct Boxed;

impl<'a, T: Message<'a>> Form<'a, Box<T>> for Boxed {
    fn write(field: &Box<T>, out: &mut Writer<'_>) {
        field.as_ref().write(out);
    }

    fn read(input: &mut Reader<'a>) -> Result<Box<T>, Fault> {
        T::read(input).map(Box::new)
    }
}

names!(HealthState {
    "ok" Ok,
    "draining" Draining,
    "poisoned" Poisoned,
    "read_only" ReadOnly,
    "degraded" Degraded,
});

message!(ServerFault<'a> {
    "name" name: Required<Words>,
    "reason" reason: Required<Words>,
});
message!(HealthReport<'a> {
    "state" state: Required<Name>,
    "faults" faults: Required<Many<Object>>,
    "log_backend" log_backend: Required<Words>,
    "socket_backend" socket_backend: Required<Words>,
    "free_len_bytes" free_len_bytes: Optional<Unsigned>,
});
message!(Setting<'a> {
    "name" name: Required<Words>,
    "value" value: Optional<Words>,
    "origin" origin: Required<Words>,
});
message!(RunSummary<'a> {
    "id" id: Required<Id>,
    "name" name: Optional<Words>,
    "status" status: Required<Words>,
    "key_count" key_count: Required<Unsigned>,
});
message!(Description<'a> {
    "info" info: Required<Object>,
    "health" health: Required<Object>,
    "capabilities" capabilities: Required<Object>,
    "settings" settings: Required<Many<Object>>,
    "runs" runs: Required<Many<Object>>,
    "has_more_runs" has_more_runs: Required<Flag>,
});
