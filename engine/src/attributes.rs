//! Commit attributes version 1: what a client said about a commit, in the record of that commit.
//! The value of the entry of type 0x03. Little-endian.
//!
//! ```text
//! attributes := version u8 (= 1), then fields
//! field      := id u8 | len u16 | bytes, ids ascending
//!
//! id  content
//!  1  client id, 16 bytes
//!  2  request sequence u64
//!  3  result of the request, as `once_result.rs` draws it, at most 4 KiB
//!  4  fingerprint of the request u64
//!  5  lowest sequence the client still waits for u64
//! 16  session or agent name, UTF-8
//! 17  process id u32 | user id u32, always beside id 1
//! 18  active trace id, 16 bytes
//! 19  causing event sequence u64
//! ```
//!
//! This build writes 1 to 5 and 17, all of them, for an exactly-once request, and nothing for any
//! other. Of field 5 it rests that recovery forgets the same results as the server did. Fields of
//! unknown ids are passed over: they have no effect on what is stored.

use crate::once::OnceRequest;
use crate::writeset_reader::WritesetError;

const ATTRIBUTES_VERSION: u8 = 1;

const ID_CLIENT: u8 = 1;
const ID_SEQUENCE: u8 = 2;
const ID_RESULT: u8 = 3;
const ID_FINGERPRINT: u8 = 4;
const ID_LOWEST_AWAITED: u8 = 5;
const ID_NAME: u8 = 16;
const ID_PEER: u8 = 17;
const ID_TRACE: u8 = 18;
const ID_CAUSE: u8 = 19;

const FIELD_HEAD_LEN_BYTES: usize = size_of::<u8>() + size_of::<u16>();

/// The attributes of an exactly-once request without its result, bytes.
pub(crate) const ONCE_ATTRIBUTES_LEN_BYTES: usize =
    size_of::<u8>() + 6 * FIELD_HEAD_LEN_BYTES + size_of::<[u8; 16]>() + 4 * size_of::<u64>();

/// The attributes of one record, as far as this build knows them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes<'a> {
    client_id: Option<[u8; 16]>,
    sequence: Option<u64>,
    result: Option<&'a [u8]>,
    fingerprint: Option<u64>,
    lowest_awaited: Option<u64>,
    /// Process id and user id.
    peer: Option<[u32; 2]>,
}

impl<'a> Attributes<'a> {
    /// The request and its result, if this is the commit of one.
    pub(crate) fn once(&self) -> Option<(OnceRequest, &'a [u8])> {
        let [process, user] = self.peer?;
        let sequence = self.sequence?;
        let once = OnceRequest {
            user,
            process,
            client_id: self.client_id?,
            // Not needed for what was committed.
            registered_at: 0,
            sequence,
            lowest_awaited: self.lowest_awaited.unwrap_or(0),
            fingerprint: self.fingerprint?,
        };
        Some((once, self.result.unwrap_or_default()))
    }
}

/// Appends the attributes of the commit of an exactly-once request.
///
/// # Panics
/// When the result is longer than a field may be; it is bounded by its maker.
pub(crate) fn write_attributes(once: &OnceRequest, result: &[u8], bytes: &mut Vec<u8>) {
    let mut peer = [0; 2 * size_of::<u32>()];
    let (process, user) = peer.split_at_mut(size_of::<u32>());
    process.copy_from_slice(&once.process.to_le_bytes());
    user.copy_from_slice(&once.user.to_le_bytes());
    bytes.push(ATTRIBUTES_VERSION);
    for (id, field) in [
        (ID_CLIENT, &once.client_id[..]),
        (ID_SEQUENCE, &once.sequence.to_le_bytes()),
        (ID_RESULT, result),
        (ID_FINGERPRINT, &once.fingerprint.to_le_bytes()),
        (ID_LOWEST_AWAITED, &once.lowest_awaited.to_le_bytes()),
        (ID_PEER, &peer),
    ] {
        let len = u16::try_from(field.len()).expect("a result is bounded by its maker");
        bytes.push(id);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(field);
    }
}

/// Reads the attributes of a commit, which are at `offset` in the writeset.
pub(crate) fn read_attributes(
    value: &[u8],
    offset: usize,
) -> Result<Attributes<'_>, WritesetError> {
    let (version, mut rest) = value
        .split_first()
        .ok_or(WritesetError::InsufficientData { offset })?;
    if *version != ATTRIBUTES_VERSION {
        return Err(WritesetError::InvalidTag {
            tag: *version,
            offset,
        });
    }
    let mut attributes = Attributes::default();
    let mut last_id = 0;
    while let Some((id, behind)) = rest.split_first() {
        let offset = offset + (value.len() - rest.len());
        let cut = WritesetError::InsufficientData { offset };
        let (len, behind) = behind.split_first_chunk().ok_or(cut)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (field, behind) = behind.split_at_checked(len).ok_or(cut)?;
        rest = behind;
        if *id <= last_id || !attributes.take(*id, field) {
            return Err(WritesetError::InvalidTag { tag: *id, offset });
        }
        last_id = *id;
    }
    Ok(attributes)
}

impl<'a> Attributes<'a> {
    /// Takes one field; false when it is not what its id says.
    fn take(&mut self, id: u8, field: &'a [u8]) -> bool {
        let number = || field.try_into().ok().map(u64::from_le_bytes);
        match id {
            0 => false,
            ID_CLIENT => {
                self.client_id = field.try_into().ok();
                self.client_id.is_some()
            }
            ID_SEQUENCE => {
                self.sequence = number();
                self.sequence.is_some()
            }
            ID_RESULT => {
                self.result = Some(field);
                field.len() <= crate::limits::ONCE_RESULT_LEN_BYTES_MAX
            }
            ID_FINGERPRINT => {
                self.fingerprint = number();
                self.fingerprint.is_some()
            }
            ID_LOWEST_AWAITED => {
                self.lowest_awaited = number();
                self.lowest_awaited.is_some()
            }
            ID_NAME => std::str::from_utf8(field).is_ok(),
            ID_PEER => {
                self.peer = peer(field);
                self.peer.is_some()
            }
            ID_TRACE => field.len() == size_of::<[u8; 16]>(),
            ID_CAUSE => field.len() == size_of::<u64>(),
            _ => true,
        }
    }
}

fn peer(field: &[u8]) -> Option<[u32; 2]> {
    let (process, user) = field.split_first_chunk()?;
    Some([
        u32::from_le_bytes(*process),
        u32::from_le_bytes(user.try_into().ok()?),
    ])
}
