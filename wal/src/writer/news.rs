//! What the sink is told, and in which order: tokens first, then positions, then room.

use super::Writer;
use crate::lsn::Lsn;
use crate::sink::Sink;

/// What the sink has not been told yet.
pub(super) struct News<T> {
    pub(super) reached: Vec<(T, Lsn)>,
    pub(super) durable_lsn: Option<Lsn>,
    pub(super) version_floor: Option<u64>,
    pub(super) rotated: Option<u64>,
}

impl<T> Default for News<T> {
    fn default() -> Self {
        Self {
            reached: Vec::new(),
            durable_lsn: None,
            version_floor: None,
            rotated: None,
        }
    }
}

impl<T, S: Sink<T>> Writer<T, S> {
    /// Tells the sink what happened since it was last told. True when there was something.
    pub(super) fn tell(&mut self) -> bool {
        let mut told = false;
        for (token, end_lsn) in self.news.reached.drain(..) {
            self.sink.reached(token, end_lsn);
            told = true;
        }
        if let Some(durable_lsn) = self.news.durable_lsn.take() {
            self.sink.durable(durable_lsn, self.txn_id_durable);
            told = true;
        }
        if let Some(version_floor) = self.news.version_floor.take() {
            self.sink.floor_durable(version_floor);
            told = true;
        }
        if let Some(segment) = self.news.rotated.take() {
            self.sink.rotated(segment);
            told = true;
        }
        if self.shared.room.take_refused() {
            self.sink.space_freed();
            self.shared.announce_progress();
            told = true;
        }
        if told {
            self.sink.batch_end();
        }
        told
    }
}
