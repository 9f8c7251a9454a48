//! The inside of a world: what is in flight, which fault meets it, and what finishes next.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{AlignedBuf, Output, Ticket};
use super::media::{DiskId, Media, Request};
use super::rng::{SimRng, mix};
use super::{Fault, FaultRule, Fired, Moment, OpKind, SimOptions, SimWorld, SimulatedCrash};

/// Everything there is to one world.
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) media: Media,
    pub(super) rng: SimRng,
    pub(super) flights: Vec<Flight>,
    pub(super) op_count: u64,
    pub(super) next_disk: u32,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) rules: Vec<FaultRule>,
    pub(super) fired: Vec<Fired>,
    pub(super) crash_at: Option<u64>,
    /// What was in flight when the world stopped; it has stopped when this is set.
    pub(super) stopped_with: Option<Vec<Request>>,
    pub(super) moments: Option<Vec<Moment>>,
}

/// An operation in flight.
pub(super) struct Flight {
    pub(super) ticket: Ticket,
    pub(super) request: Request,
}

impl State {
    pub(super) fn new(media: Media, options: SimOptions) -> Self {
        Self {
            rng: SimRng::new(options.seed),
            options,
            media,
            flights: Vec::new(),
            op_count: 0,
            next_disk: 0,
            faults: BTreeMap::new(),
            rules: Vec::new(),
            fired: Vec::new(),
            crash_at: None,
            stopped_with: None,
            moments: None,
        }
    }

    /// Takes an operation in: gives it its number and its fault, and keeps the moment.
    pub(super) fn submit(&mut self, ticket: Ticket, mut request: Request) {
        let op_index = self.op_count;
        self.op_count += 1;
        let path = self.media.path_of(request.disk, &request.op);
        let kind = OpKind::of(&request.op);
        let is_running = self.stopped_with.is_none();
        if is_running {
            request.fault = self.fault_for(op_index, &request, &path);
        }
        self.flights.push(Flight { ticket, request });
        if is_running && let Some(moments) = &self.moments {
            let world = self.stopped_copy();
            debug_assert!(
                moments
                    .last()
                    .is_none_or(|moment| moment.op_index < op_index)
            );
            let moment = Moment {
                op_index,
                kind,
                path,
                world,
            };
            self.moments.get_or_insert_default().push(moment);
        }
        if is_running && self.crash_at.is_some_and(|at| at <= op_index) {
            self.stopped_with = Some(self.in_flight());
        }
    }

    fn fault_for(&mut self, op_index: u64, request: &Request, path: &str) -> Option<Fault> {
        let op = &request.op;
        let asked = self
            .faults
            .remove(&op_index)
            .filter(|fault| fault.applies_to(op));
        let rng = &mut self.rng;
        let fault = asked.or_else(|| {
            self.rules
                .iter_mut()
                .find_map(|rule| rule.hit(op, path, rng))
        })?;
        let (kind, path) = (OpKind::of(op), path.to_owned());
        self.fired.push(Fired {
            op_index,
            kind,
            path,
            fault,
        });
        Some(fault)
    }

    /// Draws which of a disk's operations finishes next.
    pub(super) fn draw(&mut self, disk: DiskId) -> Option<Flight> {
        let is_ready = |flight: &Flight| flight.request.fault != Some(Fault::Delay);
        let of_disk = |flight: &Flight| flight.request.disk == disk;
        let mut choices: Vec<usize> = Vec::new();
        for wants_ready in [true, false] {
            let wanted = |(_, flight): &(usize, &Flight)| {
                of_disk(flight) && (!wants_ready || is_ready(flight))
            };
            choices.extend(
                self.flights
                    .iter()
                    .enumerate()
                    .filter(wanted)
                    .map(|(index, _)| index),
            );
            if !choices.is_empty() {
                break;
            }
        }
        let index = choices.get(self.rng.index(choices.len()))?;
        Some(self.flights.remove(*index))
    }

    /// Lets an operation take effect, unless the world has stopped.
    pub(super) fn finish(
        &mut self,
        request: &Request,
        target: &mut AlignedBuf,
    ) -> io::Result<Output> {
        if self.stopped_with.is_some() {
            return Err(io::Error::other(SimulatedCrash));
        }
        self.media.execute(request, &mut self.rng, target)
    }

    /// What was on its way to the device when the world stopped, or is now.
    pub(super) fn in_flight(&self) -> Vec<Request> {
        match &self.stopped_with {
            Some(requests) => requests.clone(),
            None => self
                .flights
                .iter()
                .map(|flight| flight.request.clone())
                .collect(),
        }
    }

    /// A copy of this world that is stopped now.
    fn stopped_copy(&self) -> SimWorld {
        let mut state = Self::new(self.media.clone(), self.options.clone());
        state.op_count = self.op_count;
        state.stopped_with = Some(self.in_flight());
        SimWorld {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn options_of_image(&self, image_seed: u64) -> SimOptions {
        SimOptions {
            seed: self.options.seed ^ mix(image_seed),
            ..self.options.clone()
        }
    }
}
