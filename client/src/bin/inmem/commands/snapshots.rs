//! Commands about snapshots and the log they cover.

use in_mem_client::{CompactMode, SnapshotInfo};

use crate::cli::arguments::snapshots::{CompactArgs, CompactModeArgument, SnapshotsCommand};
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

/// Takes a snapshot.
pub(super) fn checkpoint(session: &mut Session) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("checkpoint")?;
    let info = session.patient_client()?.checkpoint()?;
    let result = json::object([
        ("watermark_txn", info.watermark_txn.to_string()),
        ("snapshot_id", info.snapshot_id.to_string()),
        ("timestamp_us", info.timestamp_us.to_string()),
        ("size_bytes", info.size_bytes.to_string()),
    ]);
    let lines = vec![
        format!("snapshot   {}", info.snapshot_id),
        format!("watermark  {}", info.watermark_txn),
        format!("size       {} bytes", info.size_bytes),
    ];
    Ok(Outcome::lines(result, lines))
}

/// Lets go of what the newest snapshot has made superfluous.
pub(super) fn compact(session: &mut Session, args: &CompactArgs) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("compact")?;
    let mode = match args.mode {
        CompactModeArgument::WalOnly => CompactMode::WalOnly,
        CompactModeArgument::Full => CompactMode::Full,
    };
    let info = session.patient_client()?.compact(mode)?;
    let result = json::object([
        ("mode", json::string(&info.mode)),
        ("reclaimed_bytes", info.reclaimed_bytes.to_string()),
        (
            "wal_segments_removed",
            info.wal_segments_removed.to_string(),
        ),
        ("versions_removed", info.versions_removed.to_string()),
        ("snapshot_watermark", info.snapshot_watermark.to_string()),
        ("duration_ms", info.duration_ms.to_string()),
        ("timestamp_us", info.timestamp_us.to_string()),
    ]);
    let lines = vec![
        format!("mode       {}", info.mode),
        format!("versions   {} removed", info.versions_removed),
        format!("segments   {} removed", info.wal_segments_removed),
        format!("reclaimed  {} bytes", info.reclaimed_bytes),
        format!("watermark  {}", info.snapshot_watermark),
        format!("took       {} ms", info.duration_ms),
    ];
    Ok(Outcome::lines(result, lines))
}

/// Lists snapshots, or removes one.
pub(super) fn execute(
    session: &mut Session,
    command: &SnapshotsCommand,
) -> Result<Outcome, Failure> {
    match command {
        SnapshotsCommand::List => {
            session.refuse_in_transaction("snapshots list")?;
            Ok(listed(&session.client()?.list_snapshots()?))
        }
        SnapshotsCommand::Delete(args) => {
            session.refuse_in_transaction("snapshots delete")?;
            let was_there = session.patient_client()?.delete_snapshot(args.id)?;
            let outcome = Outcome::flag(was_there);
            Ok(match was_there {
                true => outcome,
                false => outcome.negative(),
            })
        }
    }
}

fn listed(snapshots: &[SnapshotInfo]) -> Outcome {
    let result = snapshots.iter().map(|info| {
        json::object([
            ("snapshot_id", info.snapshot_id.to_string()),
            ("watermark", info.watermark.to_string()),
            ("created_at_us", info.created_at_us.to_string()),
            ("size_bytes", info.size_bytes.to_string()),
            ("path", json::string(&info.path)),
        ])
    });
    let lines = snapshots.iter().map(|info| {
        format!(
            "{}  watermark {}  {} bytes  {}",
            info.snapshot_id, info.watermark, info.size_bytes, info.path
        )
    });
    Outcome::lines(json::array(result), lines.collect())
}
