//! One user's handle on a simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{AlignedBuf, Completion, Disk, DiskKind, Op, Ticket};
use super::SimWorld;
use super::media::{DiskId, Request};

/// A [`Disk`] of a [`SimWorld`]. Its operations finish in any order; dropping it lets those in
/// flight take effect and closes its files.
#[derive(Debug)]
pub struct SimDisk {
    world: SimWorld,
    id: DiskId,
    bufs: BTreeMap<Ticket, AlignedBuf>,
    next_ticket: u64,
    in_flight_count: usize,
}

impl SimDisk {
    pub(super) fn new(world: SimWorld, id: DiskId) -> Self {
        Self {
            world,
            id,
            bufs: BTreeMap::new(),
            next_ticket: 0,
            in_flight_count: 0,
        }
    }

    /// Finishes one operation, when there is one.
    fn finish_next(&mut self) -> Option<Completion> {
        let mut state = self.world.state();
        let flight = state.draw(self.id)?;
        let mut buf = self.bufs.remove(&flight.ticket);
        let mut no_buf = AlignedBuf::new();
        let result = state.finish(&flight.request, buf.as_mut().unwrap_or(&mut no_buf));
        drop(state);
        self.in_flight_count -= 1;
        if let (Op::Read { .. }, Some(buf), Err(_)) = (&flight.request.op, &mut buf, &result) {
            buf.clear();
        }
        Some(Completion {
            ticket: flight.ticket,
            result,
            buf,
        })
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, mut op: Op) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight_count += 1;
        let mut bytes: Arc<[u8]> = Arc::default();
        if let Op::Write { buf, .. } | Op::Read { buf, .. } = &mut op {
            let buf = std::mem::take(buf);
            if matches!(op, Op::Write { .. }) {
                bytes = Arc::from(&*buf);
            }
            self.bufs.insert(ticket, buf);
        }
        let request = Request {
            disk: self.id,
            op,
            bytes,
            fault: None,
        };
        self.world.state().submit(ticket, request);
        ticket
    }

    fn complete(&mut self) -> Completion {
        self.finish_next()
            .expect("complete is called only while something is in flight")
    }

    fn in_flight_count(&self) -> usize {
        self.in_flight_count
    }

    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }
}

impl Drop for SimDisk {
    fn drop(&mut self) {
        while self.finish_next().is_some() {}
        let mut state = self.world.state();
        if state.stopped_with.is_none() {
            state.media.close_all(self.id);
        }
    }
}
