//! One connection of the readiness reactor: its descriptor, what is wanted of it and what the
//! kernel last said about it.
//!
//! Readiness is reported once per change, so what was said is kept here until a call says
//! otherwise. A slot is free as soon as its connection is closed: the kernel holds nothing of it.

use std::os::fd::OwnedFd;

use in_mem_ipc::FrameBuffer;

/// A connection. Owned by the reactor thread.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) descriptor: OwnedFd,
    /// The server wants its bytes.
    pub(super) is_receiving: bool,
    /// There may be bytes, or an end, to receive.
    pub(super) is_readable: bool,
    /// There may be room to send; where not, the kernel was asked to say when.
    pub(super) is_writable: bool,
    /// It stands in the queue of connections to visit.
    pub(super) is_queued: bool,
    /// The send in progress.
    pub(super) sending: Option<Sending>,
}

/// Bytes on their way out.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) bytes: FrameBuffer,
    /// How many the peer's socket took already.
    pub(super) sent_len_bytes: usize,
}

impl Endpoint {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            descriptor,
            is_receiving: false,
            is_readable: false,
            is_writable: true,
            is_queued: false,
            sending: None,
        }
    }

    pub(super) fn can_receive(&self) -> bool {
        self.is_receiving && self.is_readable
    }

    pub(super) fn can_send(&self) -> bool {
        self.is_writable && self.sending.is_some()
    }

    /// Whether a call may get on.
    pub(super) fn has_work(&self) -> bool {
        self.can_receive() || self.can_send()
    }
}

/// Endpoints by slot; freed slots are used again, the last freed first.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    slots: Vec<Option<Endpoint>>,
    free: Vec<u32>,
}

impl Endpoints {
    /// The slot the next endpoint gets.
    pub(super) fn next_slot(&self) -> u32 {
        let fresh = || u32::try_from(self.slots.len()).expect("descriptors are fewer than 2^32");
        self.free.last().copied().unwrap_or_else(fresh)
    }

    pub(super) fn insert(&mut self, endpoint: Endpoint) {
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            debug_assert!(place.is_none());
            *place = Some(endpoint);
        } else {
            self.slots.push(Some(endpoint));
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Endpoint> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Endpoint> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Endpoint> {
        let endpoint = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(endpoint)
    }
}
