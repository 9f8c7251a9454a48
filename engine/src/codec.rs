//! Which codec a database is opened with, decided before anything of it is decoded or changed.
//!
//! ```text
//! asked for                 MANIFEST says      outcome
//! a name                    nothing yet        that codec; its id goes into the new MANIFEST
//! a name                    the same name      that codec, if the key fits
//! a name                    another name       CodecMismatch
//! whatever is stored        any name           that codec, if this build has it and the key fits
//! whatever is stored        cannot be read     the one asked for
//! ```

use std::sync::Arc;

use in_mem_snapshot::peek;
use in_mem_wal::StorageCodec;
use in_mem_wal::codec::{CODEC_NAMES, codec_name, needs_key, open_codec};
use in_mem_wal::disk::Disk;

use crate::config::DatabaseConfig;
use crate::errors::OpenError;

/// Longest id of a codec, bytes: as in MANIFEST and in snapshots.
const CODEC_ID_LEN_BYTES_MAX: usize = 255;

/// Opens the codec of what is on `disk`, or of what will be created there.
pub(crate) fn codec_for(
    disk: &mut dyn Disk,
    config: &DatabaseConfig,
) -> Result<Arc<dyn StorageCodec>, OpenError> {
    // A MANIFEST that cannot be read is reported by whoever needs more of it than this.
    let stored = match peek(disk) {
        Ok(Some(manifest)) => Some(manifest.codec_id),
        Ok(None) | Err(_) => None,
    };
    let asked = config.codec_id.as_str();
    let is_asked = |stored: &str| match &config.custom_codec {
        Some(codec) => codec.codec_id() == stored,
        None => stored == asked || codec_name(stored) == asked,
    };
    let mismatch = |stored: String| OpenError::CodecMismatch {
        expected: asked.to_owned(),
        got: stored,
    };
    match (stored, &config.custom_codec) {
        (Some(stored), _) if !config.takes_stored_codec && !is_asked(&stored) => {
            Err(mismatch(stored))
        }
        (Some(stored), Some(codec)) if is_asked(&stored) => Ok(Arc::clone(codec)),
        (None, Some(codec)) => Ok(Arc::clone(codec)),
        (Some(stored), _) => Ok(open_codec(&stored, config.key.as_ref())?),
        (None, None) => Ok(open_codec(asked, config.key.as_ref())?),
    }
}

/// The codec that is asked for exists, and has the key it needs and no other.
pub(crate) fn check_codec(config: &DatabaseConfig) -> Result<(), OpenError> {
    if let Some(codec) = &config.custom_codec {
        return check_custom(codec.codec_id());
    }
    if config.takes_stored_codec {
        return Ok(());
    }
    let codec_id = || config.codec_id.clone();
    if !CODEC_NAMES.contains(&codec_name(&config.codec_id)) {
        let codec_id = codec_id();
        return Err(in_mem_wal::codec::CodecError::UnknownCodec { codec_id }.into());
    }
    match (needs_key(&config.codec_id), &config.key) {
        (true, None) => {
            let codec_id = codec_id();
            Err(in_mem_wal::codec::CodecError::KeyMissing { codec_id }.into())
        }
        // Whoever gives a key believes that the data is encrypted.
        (false, Some(_)) => Err(OpenError::InvalidConfig {
            what: "a key, and a codec that does not encrypt",
        }),
        _ => Ok(()),
    }
}

/// The id of a caller's codec can be recorded, and is no other codec's.
fn check_custom(codec_id: &str) -> Result<(), OpenError> {
    let what = match codec_id.len() {
        1..=CODEC_ID_LEN_BYTES_MAX if !CODEC_NAMES.contains(&codec_name(codec_id)) => return Ok(()),
        1..=CODEC_ID_LEN_BYTES_MAX => "a codec of the caller's with the name of another",
        _ => "the id of a codec, which has 1 to 255 bytes",
    };
    Err(OpenError::InvalidConfig { what })
}
