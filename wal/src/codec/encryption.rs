//! Stored bytes encrypted and authenticated with AES-256-GCM, after another codec if there is one.
//!
//! ```text
//! offset  size  field
//!      0    16  salt, drawn at random when the codec was opened
//!     16     8  number u64, rising from 0 under one salt
//!     24     W  what the inner codec has made, encrypted
//!   24+W    16  tag over it
//!
//! key of the bytes  HKDF-SHA-256(key, salt, "in-mem storage v1 " name)
//! nonce             4 zero bytes | number, little-endian
//! id of the key     HKDF-SHA-256(key, no salt, "in-mem key id v1"), its first 8 bytes
//! ```
//!
//! No pair of key and nonce is used twice: a codec is opened anew with each open of a database and
//! draws its own salt, so two of them (after a restart, over a copy) count under keys that differ;
//! all threads of one count together, under one lock; and before 2^32 numbers are used up another
//! salt is drawn. What is moved as it is stands (a clone, a rewritten tail) is the same bytes under
//! the same pair, which tells nobody more.
//!
//! Each record and block is authenticated by itself, and the writeset inside a record repeats its
//! run and its version; nothing here says that none is missing: who can write the directory can put
//! an older state back.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use parking_lot::Mutex;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::{CodecKey, KEY_LEN_BYTES};
use super::{ADDED_LEN_BYTES_MAX, CodecError, StorageCodec};

/// The codec that encrypts plain bytes.
pub(super) const NAME: &str = "aes-256-gcm";

/// The codec that compresses them before.
#[cfg(feature = "lz4")]
pub(super) const NAME_WITH_LZ4: &str = "lz4+aes-256-gcm";

const SALT_LEN_BYTES: usize = 16;
const NUMBER_LEN_BYTES: usize = size_of::<u64>();
const HEAD_LEN_BYTES: usize = SALT_LEN_BYTES + NUMBER_LEN_BYTES;
const TAG_LEN_BYTES: usize = 16;

/// What it adds, bytes.
const OVERHEAD_LEN_BYTES: usize = HEAD_LEN_BYTES + TAG_LEN_BYTES;

// Whatever the codec before it adds.
#[cfg(feature = "lz4")]
const _: () = assert!(OVERHEAD_LEN_BYTES + super::lz4::PLAIN_HEAD_LEN_BYTES <= ADDED_LEN_BYTES_MAX);
const _: () = assert!(OVERHEAD_LEN_BYTES <= ADDED_LEN_BYTES_MAX);

const NONCE_LEN_BYTES: usize = 12;

/// Numbers used under one salt, count: keeps what one key encrypts far from where AES-GCM begins to
/// lose strength, whatever the records' length. At a million commits a second it is an hour.
const NUMBER_COUNT_MAX: u64 = 1 << 32;

/// Before the name of the codec, where the key of the bytes is derived.
const STORAGE_LABEL: &[u8] = b"in-mem storage v1 ";

/// Where the id of a key is derived.
const KEY_ID_LABEL: &[u8] = b"in-mem key id v1";

const KEY_ID_LEN_BYTES: usize = 8;

type Salt = [u8; SALT_LEN_BYTES];

/// See [`CodecKey::id`].
pub(super) fn key_id(key: &CodecKey) -> String {
    let mut id = [0; KEY_ID_LEN_BYTES];
    expand(key, None, &[KEY_ID_LABEL], &mut id);
    let mut text = String::with_capacity(2 * id.len());
    for byte in id {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn expand(key: &CodecKey, salt: Option<&Salt>, labels: &[&[u8]], into: &mut [u8]) {
    Hkdf::<Sha256>::new(salt.map(Salt::as_slice), key.secret())
        .expand_multi_info(labels, into)
        .expect("a few bytes are fewer than HKDF can make");
}

/// A cipher with the salt its key is derived with.
#[derive(Clone)]
struct Salted {
    salt: Salt,
    /// Wiped with its last holder.
    cipher: Arc<Aes256Gcm>,
}

impl Salted {
    fn derive(key: &CodecKey, name: &str, salt: Salt) -> Self {
        let mut derived = Zeroizing::new([0; KEY_LEN_BYTES]);
        expand(
            key,
            Some(&salt),
            &[STORAGE_LABEL, name.as_bytes()],
            &mut *derived,
        );
        let cipher = Arc::new(Aes256Gcm::new((&*derived).into()));
        Self { salt, cipher }
    }
}

/// What the next bytes are encrypted with.
struct Sealing {
    salted: Salted,
    next_number: u64,
}

/// Encrypts what another codec makes.
pub(super) struct EncryptingCodec {
    name: &'static str,
    codec_id: String,
    key: CodecKey,
    inner: Arc<dyn StorageCodec>,
    number_count_max: u64,
    sealing: Mutex<Sealing>,
    /// The one needed last: bytes of one open stand together.
    opening: Mutex<Option<Salted>>,
}

impl EncryptingCodec {
    /// Draws a salt.
    pub(super) fn open(
        name: &'static str,
        key: &CodecKey,
        inner: Arc<dyn StorageCodec>,
    ) -> Result<Self, CodecError> {
        let salted = Salted::derive(key, name, draw_salt()?);
        Ok(Self {
            name,
            codec_id: format!("{name}:{}", key.id()),
            key: key.clone(),
            inner,
            number_count_max: NUMBER_COUNT_MAX,
            sealing: Mutex::new(Sealing {
                salted,
                next_number: 0,
            }),
            opening: Mutex::new(None),
        })
    }

    /// A cipher and a number that nobody else gets.
    fn take_number(&self) -> Result<(Salted, u64), CodecError> {
        let mut sealing = self.sealing.lock();
        if self.number_count_max <= sealing.next_number {
            *sealing = Sealing {
                salted: Salted::derive(&self.key, self.name, draw_salt()?),
                next_number: 0,
            };
        }
        let number = sealing.next_number;
        sealing.next_number += 1;
        Ok((sealing.salted.clone(), number))
    }

    /// The cipher of a salt.
    fn cipher_of(&self, salt: Salt) -> Arc<Aes256Gcm> {
        let mut opening = self.opening.lock();
        match &*opening {
            Some(last) if last.salt == salt => Arc::clone(&last.cipher),
            _ => {
                let salted = Salted::derive(&self.key, self.name, salt);
                Arc::clone(&opening.insert(salted).cipher)
            }
        }
    }

    /// What the inner codec made; none if the bytes are not what this key encrypted.
    fn decrypt(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = stored.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG_LEN_BYTES>()?;
        let mut plain = encrypted.to_vec();
        let nonce = nonce_of(u64::from_le_bytes(*number));
        self.cipher_of(*salt)
            .decrypt_inout_detached(&nonce, &[], plain.as_mut_slice().into(), &Tag::from(*tag))
            .ok()?;
        Some(plain)
    }
}

fn nonce_of(number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; NONCE_LEN_BYTES];
    if let Some(place) = nonce.last_chunk_mut() {
        *place = number.to_le_bytes();
    }
    nonce.into()
}

fn draw_salt() -> Result<Salt, CodecError> {
    let mut salt = [0; SALT_LEN_BYTES];
    // So few bytes come whole, once the kernel has any; until then it waits.
    let flags = rustix::rand::GetRandomFlags::empty();
    let drawn = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut salt[..], flags));
    match drawn {
        Ok(SALT_LEN_BYTES) => Ok(salt),
        Ok(_) => Err(CodecError::Random { os_error: 0 }),
        Err(error) => Err(CodecError::Random {
            os_error: error.raw_os_error(),
        }),
    }
}

impl StorageCodec for EncryptingCodec {
    fn encode<'a>(&self, plain: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let inner = self.inner.encode(plain)?;
        let (salted, number) = self.take_number()?;
        let mut stored = Vec::with_capacity(inner.len() + OVERHEAD_LEN_BYTES);
        stored.extend_from_slice(&salted.salt);
        stored.extend_from_slice(&number.to_le_bytes());
        stored.extend_from_slice(&inner);
        let error = || CodecError::Encode {
            codec_id: self.name,
            len_bytes: plain.len(),
        };
        let place = stored.get_mut(HEAD_LEN_BYTES..).ok_or_else(error)?;
        let tag = salted
            .cipher
            .encrypt_inout_detached(&nonce_of(number), &[], place.into())
            .map_err(|_| error())?;
        stored.extend_from_slice(&tag);
        Ok(stored.into())
    }

    fn decode<'a>(&self, stored: &'a [u8]) -> Result<Cow<'a, [u8]>, CodecError> {
        let made = self.decrypt(stored).ok_or(CodecError::Decode {
            codec_id: self.name,
            len_bytes: stored.len(),
        })?;
        let plain = match self.inner.decode(&made)? {
            Cow::Borrowed(plain) if plain.len() == made.len() => None,
            Cow::Borrowed(plain) => Some(plain.to_vec()),
            Cow::Owned(plain) => Some(plain),
        };
        Ok(Cow::Owned(plain.unwrap_or(made)))
    }

    fn max_encoded_len(&self, plain_len_bytes: usize) -> usize {
        let made = self.inner.max_encoded_len(plain_len_bytes);
        made.saturating_add(OVERHEAD_LEN_BYTES)
    }

    fn codec_id(&self) -> &str {
        &self.codec_id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::codec::{IdentityCodec, get_codec, open_codec};

    fn key(byte: u8) -> CodecKey {
        CodecKey::from_bytes(&[byte; KEY_LEN_BYTES])
    }

    fn open(key: &CodecKey) -> EncryptingCodec {
        EncryptingCodec::open(NAME, key, Arc::new(IdentityCodec)).unwrap()
    }

    /// The salt and the number stored bytes begin with.
    fn pair(stored: &[u8]) -> Vec<u8> {
        stored[..HEAD_LEN_BYTES].to_vec()
    }

    #[test]
    fn the_stored_bytes_are_those_drawn_at_the_head_of_this_file() {
        // Salt, number and derivation spelled out once more, with the one-shot of the cipher.
        use aes_gcm::aead::Aead;
        let key = key(7);
        let stored = open(&key).encode(b"plain").unwrap().into_owned();
        let (salt, rest) = stored.split_at(16);
        let (number, sealed) = rest.split_at(8);
        assert_eq!(number, [0; 8]);
        let mut derived = [0; 32];
        Hkdf::<Sha256>::new(Some(salt), &[7; 32])
            .expand(b"in-mem storage v1 aes-256-gcm", &mut derived)
            .unwrap();
        let cipher = Aes256Gcm::new(&derived.into());
        let plain = cipher.decrypt(&[0; 12].into(), sealed).unwrap();
        assert_eq!(plain, b"plain");
        // Fixed for good: it stands in the MANIFEST of every database with this key.
        assert_eq!(key.id(), KEY_ID_OF_SEVENS);
    }

    /// HKDF-SHA-256 of 32 bytes of 7, without a salt, for "in-mem key id v1".
    const KEY_ID_OF_SEVENS: &str = "0cfe6780bc673da2";

    #[test]
    fn every_encrypting_codec_gives_back_what_it_was_given_and_keeps_its_bound() {
        for name in crate::codec::CODEC_NAMES {
            let key = key(1);
            let codec = open_codec(name, Some(&key)).unwrap();
            for len in [0, 1, 40, 5_000, 1 << 20] {
                let plain = vec![b'x'; len];
                let stored = codec.encode(&plain).unwrap();
                assert!(stored.len() <= codec.max_encoded_len(len), "{name} {len}");
                assert_eq!(codec.decode(&stored).unwrap(), plain, "{name} {len}");
                let again = open_codec(codec.codec_id(), Some(&key)).unwrap();
                assert_eq!(again.decode(&stored).unwrap(), plain, "{name} {len}");
            }
        }
    }

    #[test]
    fn no_key_and_nonce_are_used_twice_over_threads_restarts_copies_and_new_salts() {
        let key = key(2);
        let mut pairs = HashSet::new();
        for _restart in 0..20 {
            let mut codec = open(&key);
            // Another salt every hundred.
            codec.number_count_max = 100;
            let from_threads: Vec<Vec<u8>> = std::thread::scope(|scope| {
                let encode = || -> Vec<_> {
                    let stored = (0..333).map(|_| codec.encode(b"same").unwrap());
                    stored.map(|stored| pair(&stored)).collect()
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(encode)).collect();
                let all = threads.into_iter().flat_map(|it| it.join().unwrap());
                all.collect()
            });
            for taken in from_threads {
                assert!(pairs.insert(taken), "a pair came twice");
            }
        }
        assert_eq!(pairs.len(), 20 * 4 * 333);
        let salts: HashSet<_> = pairs.iter().map(|pair| &pair[..SALT_LEN_BYTES]).collect();
        assert_eq!(salts.len(), 20 * 14, "each salt serves a hundred");
    }

    #[test]
    fn a_changed_bit_anywhere_and_any_cut_is_an_error() {
        let codec = open(&key(3));
        let good = codec.encode(b"a put of something").unwrap().into_owned();
        for bit in 0..8 * good.len() {
            let mut changed = good.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let decoded = codec.decode(&changed);
            assert!(matches!(decoded, Err(CodecError::Decode { .. })), "{bit}");
        }
        for len in 0..good.len() {
            assert!(codec.decode(&good[..len]).is_err(), "cut at {len}");
        }
        assert!(codec.decode(&good).is_ok());
    }

    #[test]
    fn another_key_or_another_codec_reads_nothing() {
        let codec = open(&key(4));
        let stored = codec.encode(b"secret").unwrap().into_owned();
        let error = CodecError::Decode {
            codec_id: NAME,
            len_bytes: stored.len(),
        };
        assert_eq!(open(&key(5)).decode(&stored), Err(error));
        #[cfg(feature = "lz4")]
        assert!(
            open_codec(NAME_WITH_LZ4, Some(&key(4)))
                .unwrap()
                .decode(&stored)
                .is_err(),
            "the keys of two codecs differ"
        );
    }

    #[test]
    fn a_wrong_or_missing_key_is_told_before_anything_is_decoded() {
        let made = open(&key(6)).codec_id;
        let opened = open_codec(&made, Some(&key(8))).err();
        let expected = key(6).id();
        let got = key(8).id();
        assert_ne!(expected, got);
        assert_eq!(opened, Some(CodecError::WrongKey { expected, got }));
        let missing = get_codec(&made).err();
        assert!(matches!(missing, Some(CodecError::KeyMissing { .. })));
        let unknown = open_codec("zip+aes-256-gcm", Some(&key(6))).err();
        assert!(matches!(unknown, Some(CodecError::UnknownCodec { .. })));
        let suffixed = open_codec("identity:0011223344556677", None).err();
        assert!(matches!(suffixed, Some(CodecError::UnknownCodec { .. })));
    }
}
