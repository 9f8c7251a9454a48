//! The setting of where clients may have exports made.

use toml::Value;

use super::Settings;
use super::keys::{Key, ValueError, path};

pub(super) const EXPORT_DIR: Key = Key {
    name: "export_dir",
    set: |settings, value| path(value).map(|path| settings.export_dir = Some(path)),
    show: |settings| {
        let path = settings.export_dir.as_ref()?;
        Some(Value::String(path.display().to_string()))
    },
};

/// What a client names in there is no file of the database.
pub(super) fn check(settings: &Settings) -> Result<(), (&'static str, ValueError)> {
    match &settings.export_dir {
        Some(dir) if dir.starts_with(&settings.data_dir) => {
            Err((EXPORT_DIR.name, ValueError::Inside { other: "data_dir" }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_do_not_go_into_the_data_directory() {
        let mut settings = Settings {
            data_dir: "/data/one".into(),
            ..Settings::default()
        };
        for (dir, is_refused) in [
            (None, false),
            (Some("/data/one"), true),
            (Some("/data/one/WAL"), true),
            (Some("/data/one-exports"), false),
            (Some("/data"), false),
        ] {
            settings.export_dir = dir.map(Into::into);
            assert_eq!(check(&settings).is_err(), is_refused, "{dir:?}");
        }
    }
}
