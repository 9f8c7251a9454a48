//! The codec of the data directory and its key: from the settings to the database, and from what is
//! refused to what can be done about it.

use in_mem_engine::OpenError;
use in_mem_wal::codec::{CodecError, CodecKey, codec_name, needs_key};
use in_mem_wal::disk::{KeyFileError, read_key_file};
use in_mem_wal::recover::ScanError;

use crate::config::Settings;
use crate::exit::{self, Exit};
use crate::start::RunError;

/// Reads the key, if the codec needs one.
pub(crate) fn read(settings: &Settings) -> Result<Option<CodecKey>, RunError> {
    if !needs_key(&settings.codec) {
        return Ok(None);
    }
    let missing = || CodecError::KeyMissing {
        codec_id: settings.codec.clone(),
    };
    let path = settings.key_file.as_deref();
    let path = path.ok_or_else(|| OpenError::Codec(missing()))?;
    Ok(Some(read_key_file(path)?))
}

/// The exit code of a key file that gives no key.
pub(crate) fn exit_of(error: &KeyFileError) -> Exit {
    match error {
        KeyFileError::NotOurs { .. } | KeyFileError::OpenToOthers { .. } => Exit::Permission,
        KeyFileError::Io { source, .. } => match exit::of_io(source) {
            Exit::Permission => Exit::Permission,
            _ => Exit::Codec,
        },
        KeyFileError::NotAFile { .. } | KeyFileError::Format { .. } => Exit::Codec,
    }
}

/// Whether a database does not open because of its codec or key.
pub(crate) fn is_of_codec(error: &OpenError) -> bool {
    match error {
        OpenError::Codec(_) | OpenError::CodecMismatch { .. } => true,
        OpenError::Scan(error) => matches!(**error, ScanError::Codec { .. }),
        _ => false,
    }
}

/// What to do about a codec or key that does not fit, behind what is wrong.
pub(crate) fn advice_on(error: &OpenError) -> String {
    match error {
        OpenError::CodecMismatch { got, .. } => format!(
            "; a database keeps its codec for life: set codec = \"{}\", or name another data_dir; \
             nothing was changed",
            codec_name(got)
        ),
        OpenError::Codec(CodecError::KeyMissing { .. }) => {
            "; name its file with key_file, or hand it over as the credential inmem-key \
             (LoadCredential=)"
                .to_owned()
        }
        OpenError::Codec(CodecError::WrongKey { expected, .. }) => {
            format!("; give the key of id {expected}; nothing was changed")
        }
        OpenError::Codec(CodecError::UnknownCodec { .. }) => {
            "; use a build that has it (its features lz4 and encryption)".to_owned()
        }
        OpenError::Scan(error) if matches!(**error, ScanError::Codec { .. }) => {
            "; its checksum is right, so it is not the work of a crash: nothing was changed; inmem \
             check says how far the data can be read, inmem repair writes that into another directory"
                .to_owned()
        }
        _ => String::new(),
    }
}
