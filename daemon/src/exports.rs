//! Exports as clients see them: the names they may have, where they go, and why there is none.
//!
//! A client names no path. It gives one plain name, which lies in the directory the configuration
//! says (`export_dir`); without that setting every export is refused. The directory is opened once
//! for each export and worked beneath from then on, so that no link in it is followed.

use std::path::{Path, PathBuf};

use in_mem_engine::{CheckpointError, ExportError, ExportInfo};
use in_mem_ipc::response::db;
use in_mem_model::{Error, Retry, SubCode};
use in_mem_wal::disk::RootError;

use crate::snapshot_errors::{of_checkpoint, of_storage};
use crate::start::chain;

/// Longest name, bytes: with what is put around it while it is being made, a name of a file.
pub(crate) const NAME_LEN_BYTES_MAX: usize = 200;

/// Where what has this name lies.
///
/// # Errors
/// When nothing is exported here, or this is no plain name.
pub(crate) fn place(export_dir: Option<&Path>, name: &str) -> Result<PathBuf, Error> {
    let Some(export_dir) = export_dir else {
        let message = "this server exports to no directory: its operator sets `export_dir` in \
                       the configuration, or starts it with --export-dir";
        let error = Error::new(SubCode::Unavailable, message).with_retry(Retry::No);
        return Err(error.with_detail("setting", "export_dir"));
    };
    let why = if name.is_empty() {
        "it is empty"
    } else if NAME_LEN_BYTES_MAX < name.len() {
        "it is longer than 200 bytes"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.contains('/') {
        "it is a path: the directory is the server's own"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(export_dir.join(name));
    };
    let shown: String = name.chars().take(64).collect();
    let message = format!("{shown:?} is no name to export to: {why}");
    Err(Error::new(SubCode::InvalidArgument, message).with_detail("name", shown))
}

/// A clone that was made.
pub(crate) fn answer(info: &ExportInfo) -> db::ExportInfo<'static> {
    db::ExportInfo {
        path: info.path.display().to_string().into(),
        checkpoint_watermark: info.checkpoint_watermark,
        watermark_txn: info.watermark_txn,
        size_bytes: info.size_bytes,
        digest: info.digest.to_hex().into(),
    }
}

/// There is no clone; nothing of the database was changed.
pub(crate) fn of_export(error: &ExportError) -> Error {
    const NONE: &str = "nothing was exported";
    match error {
        ExportError::Exists { path } => {
            let message = format!("{}: choose another name, or remove it", chain(error));
            Error::new(SubCode::AlreadyExists, message)
                .with_detail("path", path.display().to_string())
        }
        ExportError::Destination { .. } => Error::new(SubCode::InvalidArgument, chain(error)),
        ExportError::Directory(source) => of_directory(source, &chain(error)),
        ExportError::Refused(why) => of_checkpoint(why),
        ExportError::AlreadyInProgress => of_checkpoint(&CheckpointError::AlreadyInProgress),
        ExportError::Poisoned(cause) => {
            crate::errors::poisoned(cause.as_ref().map(ToString::to_string), false)
        }
        ExportError::PermissionDenied { path, .. } => Error::new(
            SubCode::PermissionDenied,
            format!("{}; {NONE}", chain(error)),
        )
        .with_detail("path", path.as_str()),
        ExportError::NotWhole { reason } => Error::new(SubCode::Damage, format!("{error}; {NONE}"))
            .with_detail("reason", reason.as_str()),
        ExportError::NoSpace { .. } | ExportError::Io { .. } => of_storage(error, NONE),
        ExportError::Unsynced { .. } => of_storage(error, "export again under another name"),
    }
}

/// The directory of the configuration is not one to make anything in.
fn of_directory(error: &RootError, cause: &str) -> Error {
    let message = format!("{cause}: the operator of the server sees to `export_dir`");
    let is_denied = match error {
        RootError::NotOurs { .. } | RootError::WritableByOthers { .. } => true,
        RootError::Io { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        RootError::NotFound { .. } | RootError::NotADirectory { .. } => false,
    };
    let sub = match is_denied {
        true => SubCode::PermissionDenied,
        false => SubCode::Unavailable,
    };
    let error = Error::new(sub, message).with_retry(Retry::No);
    error.with_detail("setting", "export_dir")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_name_is_one_plain_name_and_lies_in_the_directory_of_the_configuration() {
        let dir = Some(Path::new("/exports"));
        for good in ["a", "backup-2026.inmem", "with space", "\u{fc}", "..."] {
            match place(dir, good) {
                Ok(path) => assert_eq!(path, Path::new("/exports").join(good)),
                Err(error) => assert!(good.starts_with('.'), "{good}: {error}"),
            }
        }
        let long = "x".repeat(NAME_LEN_BYTES_MAX + 1);
        for bad in [
            "", ".", "..", ".hidden", "a/b", "/a", "a/", "../a", "a\0b", "a\nb", &long,
        ] {
            let error = place(dir, bad).expect_err(bad);
            assert_eq!(error.sub, Some(SubCode::InvalidArgument), "{bad:?}");
        }
        assert!(place(dir, &long[1..]).is_ok(), "exactly at the limit");
    }

    #[test]
    fn without_a_directory_every_name_is_refused_and_the_setting_is_named() {
        let error = place(None, "a").expect_err("refused");
        assert_eq!(error.sub, Some(SubCode::Unavailable));
        assert_eq!(error.retry, Retry::No);
        assert!(error.message.contains("export_dir"), "{error}");
    }

    #[test]
    fn each_reason_of_an_export_that_failed_has_a_code_of_its_own() {
        let path = || "f".to_owned();
        let source = |kind: ErrorKind| std::io::Error::from(kind);
        let exists = ExportError::Exists {
            path: "/e/a".into(),
        };
        let no_space = ExportError::NoSpace {
            path: path(),
            source: source(ErrorKind::StorageFull),
        };
        let denied = ExportError::PermissionDenied {
            path: path(),
            source: source(ErrorKind::PermissionDenied),
        };
        let missing = ExportError::Directory(RootError::NotFound { path: "/e".into() });
        let not_whole = ExportError::NotWhole { reason: path() };
        for (error, sub) in [
            (exists, SubCode::AlreadyExists),
            (no_space, SubCode::ResourceExhausted),
            (denied, SubCode::PermissionDenied),
            (ExportError::AlreadyInProgress, SubCode::AlreadyInProgress),
            (missing, SubCode::Unavailable),
            (not_whole, SubCode::Damage),
        ] {
            assert_eq!(of_export(&error).sub, Some(sub), "{error}");
        }
    }
}
