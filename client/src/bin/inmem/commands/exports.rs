//! Commands that make the daemon write something for others to take away.

use crate::cli::arguments::exports::ExportArgs;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::outcome::Outcome;
use crate::cli::session::Session;

/// Makes a clone of the database.
pub(super) fn export(session: &mut Session, args: &ExportArgs) -> Result<Outcome, Failure> {
    session.refuse_in_transaction("export")?;
    let info = session.patient_client()?.export(&args.name)?;
    let result = json::object([
        ("path", json::string(&info.path)),
        (
            "checkpoint_watermark",
            info.checkpoint_watermark.to_string(),
        ),
        ("watermark_txn", info.watermark_txn.to_string()),
        ("size_bytes", info.size_bytes.to_string()),
        ("digest", json::string(&info.digest)),
    ]);
    let lines = vec![
        format!("path       {}", info.path),
        format!("snapshot   watermark {}", info.checkpoint_watermark),
        format!("watermark  {}", info.watermark_txn),
        format!("size       {} bytes", info.size_bytes),
        format!("digest     {}", info.digest),
    ];
    Ok(Outcome::lines(result, lines))
}
