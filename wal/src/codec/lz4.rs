//! Stored bytes compressed with LZ4, or as they are where that makes them no shorter.
//!
//! ```text
//! offset  size  field
//!      0     1  form u8: 0 the plain bytes follow, 1 the rest follows
//!      1     4  plain length u32, at most 65 MiB and at most 255 times the bytes that follow
//!      5     .  an LZ4 block
//! ```
//!
//! It costs one byte at most. Bytes of another form, of another length than announced, or that no
//! LZ4 block begins with are an error; what is announced is allocated only within both bounds.

use std::borrow::Cow;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use parking_lot::Mutex;

use super::{CodecError, StorageCodec};
use crate::limits::RECORD_LEN_BYTES_MAX;

const FORM_PLAIN: u8 = 0;
const FORM_BLOCK: u8 = 1;

/// Before the plain bytes.
pub(super) const PLAIN_HEAD_LEN_BYTES: usize = 1;

/// Before the block.
const BLOCK_HEAD_LEN_BYTES: usize = 1 + size_of::<u32>();

/// Shorter plain bytes are not tried, bytes: a put of a number compresses by nothing worth its
/// time.
const PLAIN_LEN_BYTES_MIN: usize = 64;

/// The table for shorter plain bytes has entries of 16 bits, bytes.
const SMALL_LEN_BYTES: usize = 1 << 16;

/// No byte of a block stands for more plain bytes.
const EXPANSION_MAX: usize = 255;

/// No writeset and no block is longer, bytes.
const DECODED_LEN_BYTES_MAX: usize = RECORD_LEN_BYTES_MAX as usize;

/// Compresses with LZ4.
pub(super) struct Lz4Codec {
    /// Positions of the bytes compressed last, for the next one; no bytes.
    table: Mutex<Option<CompressTable>>,
}

impl Lz4Codec {
    pub(super) const ID: &'static str = "lz4";

    pub(super) fn new() -> Self {
        Self {
            table: Mutex::new(None),
        }
    }

    /// The block, behind room for its head; none when it does not become shorter.
    fn compress(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if !(PLAIN_LEN_BYTES_MIN..=DECODED_LEN_BYTES_MAX).contains(&plain.len()) {
            return None;
        }
        let mut stored = vec![0; BLOCK_HEAD_LEN_BYTES + get_maximum_output_size(plain.len())];
        let block = stored.get_mut(BLOCK_HEAD_LEN_BYTES..)?;
        let len = if plain.len() < SMALL_LEN_BYTES {
            // The lock is held for two moves, never while compressing.
            let table = self.table.lock().take();
            let mut table = table.unwrap_or_else(CompressTable::small);
            let len = compress_into_with_table(plain, block, &mut table);
            *self.table.lock() = Some(table);
            len
        } else {
            compress_into_with_table(plain, block, &mut CompressTable::large())
        };
        stored.truncate(BLOCK_HEAD_LEN_BYTES + len.ok()?);
        (stored.len() < PLAIN_HEAD_LEN_BYTES + plain.len()).then_some(stored)
    }
}

impl StorageCodec for Lz4Codec {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let error = || CodecError::Encode {
            codec_id: Self::ID,
            len_bytes: plain.len(),
        };
        let Some(mut stored) = self.compress(plain) else {
            let mut stored = Vec::with_capacity(PLAIN_HEAD_LEN_BYTES + plain.len());
            stored.push(FORM_PLAIN);
            stored.extend_from_slice(plain);
            return Ok(stored.into());
        };
        let (form, rest) = stored.split_first_mut().ok_or_else(error)?;
        *form = FORM_BLOCK;
        let plain_len = u32::try_from(plain.len()).map_err(|_| error())?;
        let place = rest.first_chunk_mut().ok_or_else(error)?;
        *place = plain_len.to_le_bytes();
        Ok(stored.into())
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let error = || CodecError::Decode {
            codec_id: Self::ID,
            len_bytes: stored.len(),
        };
        let (form, rest) = stored.split_first().ok_or_else(error)?;
        match *form {
            FORM_PLAIN => Ok(Cow::Borrowed(rest)),
            FORM_BLOCK => {
                let (announced, block) = rest.split_first_chunk().ok_or_else(error)?;
                let plain_len = bounded(u32::from_le_bytes(*announced), block.len());
                let mut plain = vec![0; plain_len.ok_or_else(error)?];
                match decompress_into(block, &mut plain) {
                    Ok(len) if len == plain.len() => Ok(plain.into()),
                    _ => Err(error()),
                }
            }
            _ => Err(error()),
        }
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        plain_len_bytes.saturating_add(PLAIN_HEAD_LEN_BYTES)
    }

    fn codec_id(&self) -> &str {
        Self::ID
    }
}

/// The plain length that is announced, if a block of that length can hold so much.
fn bounded(announced: u32, block_len: usize) -> Option<usize> {
    let len_max = DECODED_LEN_BYTES_MAX.min(block_len.saturating_mul(EXPANSION_MAX));
    let len = usize::try_from(announced).ok()?;
    (len <= len_max).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimRng;

    fn decode(stored: &[u8]) -> Result<Vec<u8>, CodecError> {
        Lz4Codec::new().decode(stored).map(Cow::into_owned)
    }

    #[test]
    fn what_was_encoded_comes_back_within_the_bound_whatever_it_is() {
        let codec = Lz4Codec::new();
        let mut rng = SimRng::new(7);
        let lens = [0, 1, 63, 64, 65, 200, 4096, 65_535, 65_536, 65_537, 1 << 20];
        for len in lens {
            for kind in 0..3 {
                let plain: Vec<u8> = (0..len)
                    .map(|index: usize| match kind {
                        0 => 0,
                        1 => u8::try_from(index % 23).unwrap(),
                        _ => rng.next_u64().to_le_bytes()[0],
                    })
                    .collect();
                let stored = codec.encode(&plain).unwrap();
                assert!(stored.len() <= codec.max_encoded_len(len), "{len} {kind}");
                assert_eq!(codec.decode(&stored).unwrap(), plain, "{len} {kind}");
                if kind < 2 && 64 < len {
                    assert!(
                        stored.len() < len,
                        "{len} {kind}: repeated bytes become shorter"
                    );
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_what_the_bytes_can_hold_is_refused_before_it_is_allocated() {
        for (announced, block_len, expected) in [
            (0, 0, Some(0)),
            (1, 0, None),
            (255 * 16, 16, Some(255 * 16)),
            (255 * 16 + 1, 16, None),
            (u32::MAX, 16, None),
            (RECORD_LEN_BYTES_MAX, 1 << 20, Some(DECODED_LEN_BYTES_MAX)),
            (RECORD_LEN_BYTES_MAX + 1, 1 << 20, None),
            (u32::MAX, usize::MAX, None),
        ] {
            assert_eq!(bounded(announced, block_len), expected, "{announced}");
        }
        let mut stored = vec![FORM_BLOCK];
        stored.extend_from_slice(&(255_u32 * 16 + 1).to_le_bytes());
        stored.extend_from_slice(&[0; 16]);
        assert!(decode(&stored).is_err());
    }

    #[test]
    fn bytes_of_another_form_or_length_are_an_error_and_never_a_panic() {
        let codec = Lz4Codec::new();
        let plain: Vec<u8> = b"abcdefgh".repeat(40);
        let good = codec.encode(&plain).unwrap().into_owned();
        assert!(decode(&[]).is_err());
        assert!(decode(&[2, 3, 4]).is_err());
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "cut at {len}");
        }
        let mut longer = good.clone();
        longer[1] += 1;
        assert!(decode(&longer).is_err(), "announces one byte more");
        let mut rng = SimRng::new(11);
        for _ in 0..20_000 {
            let mut changed = good.clone();
            let at = rng.index(changed.len());
            changed[at] ^= u8::try_from(rng.below(255)).unwrap() + 1;
            // Any answer will do, its length is bounded.
            if let Ok(plain) = decode(&changed) {
                assert!(plain.len() <= 255 * changed.len());
            }
        }
    }
}
