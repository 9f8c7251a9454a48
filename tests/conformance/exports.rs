//! Operations on exports, and what two daemons answer alike to them.

use std::path::Path;

use in_mem_ipc::Operation;
use in_mem_ipc::request::db::Export;
use in_mem_ipc::response::db::ExportInfo;

use crate::daemon_process::Daemon;

/// A daemon that exports.
pub fn start(directory: &Path) -> Daemon {
    let exports = directory.join("exports");
    std::fs::create_dir(&exports).expect("a directory");
    let exports = exports.to_str().expect("text");
    Daemon::start_with(directory, &["--export-dir", exports]).expect("ready")
}

/// A clone that is made, and what is no name.
pub fn operations() -> Vec<Operation<'static>> {
    let export = |name: &'static str| Operation::DbExport(Export { name: name.into() });
    ["one \u{fc}", "", "a/b \u{fc}"].map(export).into()
}

/// Directories and the ids of runs are each daemon's own.
pub fn forget_what_differs(info: &mut ExportInfo<'_>) {
    let name = info.path.rsplit('/').next().unwrap_or_default().to_owned();
    info.path = name.into();
    info.digest = format!("{} characters", info.digest.len()).into();
}
