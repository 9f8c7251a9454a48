//! The kernel's side of one connection: its descriptor and the operations in flight on it.
//!
//! An endpoint outlives every operation that names it: a slot is free for another connection only
//! after its last completion was reaped, so a completion can never be taken for another
//! connection's.

use std::os::fd::OwnedFd;

use in_mem_ipc::FrameBuffer;

/// The operations and buffers of one connection. Owned by the reactor thread.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) descriptor: OwnedFd,
    /// The multishot receive is armed.
    pub(super) is_receiving: bool,
    /// A cancellation of the receive is in flight.
    pub(super) is_cancelling: bool,
    /// Both directions were shut down; the slot is freed by the last completion.
    pub(super) is_closing: bool,
    /// The send in flight.
    pub(super) sending: Option<Sending>,
}

/// Bytes given to the kernel, owned here until the completion is reaped.
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
            is_cancelling: false,
            is_closing: false,
            sending: None,
        }
    }

    /// Whether the kernel holds no operation of this connection.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_receiving && !self.is_cancelling && self.sending.is_none()
    }
}

/// Endpoints by slot; freed slots are used again, the last freed first.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    slots: Vec<Option<Endpoint>>,
    free: Vec<u32>,
}

impl Endpoints {
    pub(super) fn insert(&mut self, endpoint: Endpoint) -> u32 {
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot as usize)
        {
            debug_assert!(place.is_none());
            *place = Some(endpoint);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("descriptors are fewer than 2^32");
        self.slots.push(Some(endpoint));
        slot
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Endpoint> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Endpoint> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Frees the slot and closes its descriptor.
    pub(super) fn remove(&mut self, slot: u32) {
        let place = self
            .slots
            .get_mut(slot as usize)
            .expect("only occupied slots are removed");
        let endpoint = place.take().expect("only occupied slots are removed");
        assert!(
            endpoint.is_quiet(),
            "the kernel holds no buffer of a freed slot"
        );
        self.free.push(slot);
    }

    /// Every send buffer the kernel still holds.
    pub(super) fn take_sends(&mut self) -> Vec<Sending> {
        self.slots
            .iter_mut()
            .flatten()
            .filter_map(|endpoint| endpoint.sending.take())
            .collect()
    }
}
