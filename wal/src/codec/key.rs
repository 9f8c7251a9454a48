//! The secret of an encrypting codec: 32 bytes that are never shown, never compared byte by byte
//! with anything stored, and wiped when the last holder lets go of them.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Length of a key, bytes: that of AES-256.
pub const KEY_LEN_BYTES: usize = 32;

/// Length of a key as hexadecimal digits.
const HEX_LEN_BYTES: usize = 2 * KEY_LEN_BYTES;

/// The key of a database. Clones share one copy, which is wiped with the last of them; what is
/// derived from it is wiped with the codec. No text made of it shows a byte of it.
#[derive(Clone)]
pub struct CodecKey {
    bytes: Arc<Zeroizing<[u8; KEY_LEN_BYTES]>>,
}

impl CodecKey {
    /// A key of 32 bytes, which should be random: they are used as they are, not as a pass phrase.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LEN_BYTES]) -> Self {
        let mut shared = Arc::new(Zeroizing::new([0; KEY_LEN_BYTES]));
        // Copied into its place, so that no other copy is left behind.
        if let Some(place) = Arc::get_mut(&mut shared) {
            place.copy_from_slice(bytes);
        }
        Self { bytes: shared }
    }

    /// A key as it stands in a file: 32 bytes, or 64 hexadecimal digits and at most one line end.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(content: &[u8]) -> Result<Self, KeyFormatError> {
        if let Ok(bytes) = content.try_into() {
            return Ok(Self::from_bytes(bytes));
        }
        let digits = content.strip_suffix(b"\n").unwrap_or(content);
        let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
        if digits.len() != HEX_LEN_BYTES {
            return Err(KeyFormatError::Length);
        }
        let mut bytes = Zeroizing::new([0; KEY_LEN_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let digit = char::from(*digit).to_digit(16);
                let digit = digit.ok_or(KeyFormatError::Digits)?;
                *byte = *byte << 4 | u8::try_from(digit).unwrap_or_default();
            }
        }
        Ok(Self::from_bytes(&bytes))
    }

    /// What tells this key from others, and nothing of the key: 16 hexadecimal digits of what
    /// HKDF-SHA-256 makes of it with a label of its own. It stands in MANIFEST behind the codec's
    /// name. Two databases with one key have one id; empty in a build that encrypts nothing.
    #[must_use]
    pub fn id(&self) -> String {
        #[cfg(feature = "encryption")]
        return super::encryption::key_id(self);
        #[cfg(not(feature = "encryption"))]
        String::new()
    }

    /// The secret itself.
    #[cfg(feature = "encryption")]
    pub(super) fn secret(&self) -> &[u8; KEY_LEN_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for CodecKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The strong count is no secret, and nothing else is worth showing.
        write!(
            f,
            "CodecKey(not shown, {} holders)",
            Arc::strong_count(&self.bytes)
        )
    }
}

impl PartialEq for CodecKey {
    /// In a time that does not depend on where two keys differ.
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.bytes.iter().zip(other.bytes.iter());
        pairs.fold(0, |differ, (one, two)| differ | (one ^ two)) == 0
    }
}

impl Eq for CodecKey {}

/// Why bytes are no key. It tells nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// Neither length.
    #[error("a key is 32 bytes, or 64 hexadecimal digits")]
    Length,
    /// The right length, and not digits alone.
    #[error("a key of 64 characters has hexadecimal digits alone")]
    Digits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_or_64_digits_and_nothing_else() {
        let bytes = [0xA5; KEY_LEN_BYTES];
        let key = CodecKey::from_bytes(&bytes);
        let digits = "a5".repeat(KEY_LEN_BYTES);
        for content in [
            bytes.to_vec(),
            digits.clone().into_bytes(),
            digits.to_uppercase().into_bytes(),
            format!("{digits}\n").into_bytes(),
            format!("{digits}\r\n").into_bytes(),
        ] {
            assert_eq!(CodecKey::parse(&content), Ok(key.clone()));
        }
        let many = format!("{digits}\n\n");
        for content in [
            b"".as_slice(),
            &bytes[1..],
            &digits.as_bytes()[1..],
            many.as_bytes(),
        ] {
            assert_eq!(CodecKey::parse(content), Err(KeyFormatError::Length));
        }
        let almost = digits.replacen('a', "g", 1);
        assert_eq!(
            CodecKey::parse(almost.as_bytes()),
            Err(KeyFormatError::Digits)
        );
        let other = CodecKey::parse(digits.replacen('a', "b", 1).as_bytes());
        assert_ne!(other, Ok(key));
    }

    #[test]
    fn no_text_made_of_a_key_shows_it() {
        let bytes = std::array::from_fn(|index| u8::try_from(index).unwrap() + 65);
        let key = CodecKey::from_bytes(&bytes);
        let shown = format!("{key:?} {key:#?} {:?}", Some(&key));
        assert!(!shown.contains("ABC") && !shown.contains("65"), "{shown}");
    }
}
