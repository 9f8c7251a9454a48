//! Who a client is to the server over all its connections, and the sequences of its writes.
//!
//! What goes over the wire is drawn in `in_mem_ipc::once`. A client makes a client id when it is
//! built, numbers its writes, and repeats one whose answer did not come under the number it had,
//! so that it has one effect and one answer. Only what a program writes down itself outlives the
//! process: see [`Identity`].

use in_mem_ipc::operation::OperationKind;
use in_mem_ipc::request::RequestHeader;
use in_mem_model::RunId;

/// What a program keeps to go on as the same client after it was stopped: with it, a write that was
/// sent and not answered before can be repeated, see [`Client::repeat`](crate::Client::repeat).
///
/// One identity is used by one client at a time: the server ends an earlier connection of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The client id.
    pub client_id: [u8; 16],
    /// What the server said when the client id was new; none before the first connection.
    pub registered_at: Option<u64>,
    /// The highest sequence given to a write; the next one gets the one behind it.
    pub last_sequence: u64,
}

impl Identity {
    /// A client that nobody has seen.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client_id: *RunId::new_random().as_bytes(),
            registered_at: None,
            last_sequence: 0,
        }
    }

    /// The sequence a write carries: its own, if it repeats one, else the next; none when there is
    /// no next one.
    pub(crate) fn sequence_of(&mut self, header: &RequestHeader) -> Option<u64> {
        if header.client_sequence == 0 {
            self.last_sequence = self.last_sequence.checked_add(1)?;
            return Some(self.last_sequence);
        }
        self.last_sequence = self.last_sequence.max(header.client_sequence);
        Some(header.client_sequence)
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the server remembers what became of a request: of one that commits something by itself.
pub(crate) fn is_remembered(kind: OperationKind, header: &RequestHeader) -> bool {
    kind.is_write() && (header.txn_id == 0 || kind == OperationKind::TxnCommit)
}
