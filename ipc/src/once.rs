//! Exactly-once requests on the wire: what a client must send so that a write it repeats has one
//! effect and one answer, also over a lost connection and a restarted server.
//!
//! ```text
//! hello        field 8  client id, 16 random bytes, made once by the client and kept
//!              field 9  registered_at u64, from the second hello of the client id on
//! hello reply  field 10 registered_at u64, to be kept with the client id and sent in later
//!                       hellos; without it the server keeps no results
//! request      client_sequence u64: 0 for none, else 1 and rising with every write of the client
//!              client_sequence_lag u16: client_sequence minus the lowest sequence whose answer
//!                       the client still waits for; answers below it are forgotten
//! ```
//!
//! **The client** gives each write a sequence of its own, whatever run it goes to, and repeats a
//! write whose answer did not come with the same sequence, the same operation and the same run,
//! after a new hello with its client id. Writes: every operation of the table that `is_write`,
//! outside a transaction; inside one only `txn.commit`, with the `txn_id` it had and in the run of
//! the transaction: that of the request, or the session's where the request names none. In another
//! run it is refused with `cross_run_write`, and the transaction stays open. The server ignores
//! the sequence of anything else. A client has at most 64 writes unanswered. One client
//! id has one connection at a time: a hello ends the earlier connection of its client id and user,
//! and what that one had not started is never executed. While something it had started is on its
//! way to the log, the hello is refused with `goodbye`; try again.
//!
//! **The server** keeps, for each user, client id and run, the answers of the last 64 committed
//! writes, in the records that committed them. A repeat
//!
//! * of a committed write is answered as the first time, whatever happened since. An answer
//!   of more than 4 KiB is kept without its values: it is repeated as `Written`, or `Deleted`, with
//!   the original receipt;
//! * of a write on its way waits for it, and is told the same;
//! * of a write that committed nothing (a conflict, a mismatch, an error, a deletion of nothing) is
//!   executed, and may end otherwise than before;
//! * of a `txn.commit` that did not happen is `transaction_not_active`, `not_committed`: the
//!   transaction was rolled back with its connection;
//! * with another operation, or other parameters, is `invalid_argument`, `not_committed`;
//! * older than the answers that are kept is `invalid_argument`, `outcome_unknown`: never executed;
//! * of a client the run has forgotten (1,024 clients and 16 MiB a run are kept, those that
//!   committed last) is `session_expired`, `outcome_unknown`: never executed. A write that had been
//!   sent once only has certainly not happened then. Go on with a new client id.
//!
//! A refusal that comes before the server has looked (`unavailable`, `database_closed`,
//! `resource_exhausted`, `timeout`, `permission_denied`) speaks of this attempt alone:
//! of a repeat it does not say that the first attempt committed nothing. The guarantee is as
//! durable as the effect: a power loss that takes a Buffered commit takes its answer with it, and
//! `in_memory` commits are forgotten with the process.
//!
//! `run.begin` with a sequence makes a run whose id follows from user, client id and sequence, so
//! that a repeat goes to the same run.
//!
//! The **fingerprint** that tells requests apart is the server's: XXH64 of the 40 bytes of the
//! operation at the end of the body, seeded with the XXH64 of everything before the 80 bytes of
//! the root, seeded with `txn_id`. So it covers the operation, all parameters and the
//! transaction, and neither run, durability, deadline nor lag. A request in another encoding has
//! the fingerprint of the archive it stands for.

use std::mem::offset_of;

use crate::frame::{HEADER_LEN_BYTES, parse_header};
use crate::request::{ArchivedRequest, ArchivedRequestHeader};

/// Most writes a client may have unanswered, count: as many answers as the server keeps.
pub const UNANSWERED_COUNT_MAX: usize = 64;

const ROOT_LEN_BYTES: usize = size_of::<ArchivedRequest<'static>>();
const HEADER_AT: usize = offset_of!(ArchivedRequest<'static>, header);
const SEQUENCE_AT: usize = HEADER_AT + offset_of!(ArchivedRequestHeader, client_sequence);
const LAG_AT: usize = HEADER_AT + offset_of!(ArchivedRequestHeader, client_sequence_lag);
const OPERATION_AT: usize = offset_of!(ArchivedRequest<'static>, operation);

const _: () = assert!(HEADER_AT == 0);
const _: () = assert!(OPERATION_AT == size_of::<ArchivedRequestHeader>());

/// The fingerprint of a request, from its body, a checked archive, and its `txn_id`.
#[must_use]
pub fn fingerprint(body: &[u8], txn_id: u64) -> u64 {
    let root_at = body.len().saturating_sub(ROOT_LEN_BYTES);
    let (parameters, root) = body.split_at(root_at);
    let operation = root.get(OPERATION_AT..).unwrap_or_default();
    xxh64(operation, xxh64(parameters, txn_id))
}

/// Writes a sequence and its lag into a request that is encoded already. `frame` is one whole
/// frame as [`crate::codec::encode_request`] made it; anything else stays as it is.
pub fn stamp_sequence(frame: &mut [u8], client_sequence: u64, client_sequence_lag: u16) {
    let Ok(Some(header)) = parse_header(frame) else {
        return;
    };
    let body_end = HEADER_LEN_BYTES + header.body_len_bytes as usize;
    let Some(root_at) = body_end.checked_sub(ROOT_LEN_BYTES) else {
        return;
    };
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(target) = frame.get_mut(root_at + at..root_at + at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    };
    put(SEQUENCE_AT, &client_sequence.to_le_bytes());
    put(LAG_AT, &client_sequence_lag.to_le_bytes());
}

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// XXH64, as its specification (xxhash_spec.md, version 0.2.0) says: the same everywhere.
#[must_use]
pub fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        seed.wrapping_add(PRIME_5)
    } else {
        let mut lanes = [
            seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
            seed.wrapping_add(PRIME_2),
            seed,
            seed.wrapping_sub(PRIME_1),
        ];
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let sum = lanes
            .iter()
            .zip([1, 7, 12, 18])
            .fold(0_u64, |sum, (lane, turn)| {
                sum.wrapping_add(lane.rotate_left(turn))
            });
        lanes.iter().fold(sum, |sum, lane| {
            (sum ^ round(0, *lane))
                .wrapping_mul(PRIME_1)
                .wrapping_add(PRIME_4)
        })
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        hash = (hash ^ round(0, u64::from_le_bytes(*word)))
            .rotate_left(27)
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
    }
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        hash = (hash ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIME_1))
            .rotate_left(23)
            .wrapping_mul(PRIME_2)
            .wrapping_add(PRIME_3);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}
