//! The settings of what is stored: with which codec, and where its key comes from. The key itself is
//! never a setting: neither the file, nor an argument, nor the environment may carry it.

use in_mem_wal::codec::needs_key;
use toml::Value;

use super::keys::{Key, ValueError, path, text};
use super::{Origin, Settings};

/// The codecs there are; a build may lack some.
const NAMES: [&str; 4] = ["identity", "lz4", "aes-256-gcm", "lz4+aes-256-gcm"];

pub(super) const CODEC: Key = Key {
    name: "codec",
    set: |settings, value| {
        let name = text(value)?;
        if !NAMES.contains(&name.as_str()) {
            return Err(ValueError::Word {
                allowed: "\"identity\", \"lz4\", \"aes-256-gcm\", \"lz4+aes-256-gcm\"",
                value: name,
            });
        }
        settings.codec = name;
        Ok(())
    },
    show: |settings| Some(Value::String(settings.codec.clone())),
};

pub(super) const KEY_FILE: Key = Key {
    name: "key_file",
    set: |settings, value| path(value).map(|path| settings.key_file = Some(path)),
    show: |settings| {
        let path = settings.key_file.as_ref()?;
        Some(Value::String(path.display().to_string()))
    },
};

/// Whoever names a key file believes that the data is encrypted. A credential may be there for
/// nothing: it is found, not named.
pub(super) fn check_key_file(settings: &Settings, origin: &Origin) -> Result<(), ValueError> {
    let is_named = settings.key_file.is_some() && !matches!(origin, Origin::Systemd(_));
    match is_named && !needs_key(&settings.codec) {
        true => Err(ValueError::NotEncrypting {
            codec: settings.codec.clone(),
        }),
        false => Ok(()),
    }
}
