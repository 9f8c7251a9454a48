//! `db.list_snapshots`: reads a little of each file, so a worker handles it.

use in_mem_ipc::response::Response;
use in_mem_ipc::response::db::SnapshotInfo;

use super::{Call, Handled, Out, Verdict};
use crate::snapshot_errors::of_listing;

/// Answers with the snapshots there are.
pub(super) fn list(call: &Call<'_>, out: &mut Out<'_>) -> Handled {
    let listed = call.store.database.list_snapshots();
    let listed = listed.map_err(|error| of_listing(&error))?;
    let snapshots = listed.into_iter().map(|info| SnapshotInfo {
        snapshot_id: info.snapshot_id,
        watermark: info.watermark,
        created_at_us: info.created_at_us,
        size_bytes: info.size_bytes,
        path: info.path.into(),
    });
    out.reply(&Response::Snapshots(snapshots.collect()));
    Ok(Verdict::Replied)
}
