//! From the files of a database to its state in memory, and to a log that takes records again.
//!
//! The state begins with the snapshot that MANIFEST names, if any (`recovery_snapshot.rs`); records
//! above its watermark are applied in log order through the primitive registry, with the versions stored in
//! them; nothing is executed again and nothing is invented. A record without its commit marker is
//! discarded whole. A crash anywhere inside and a rerun give the same state.

use std::io;
use std::sync::Arc;

use in_mem_model::RunId;
use in_mem_snapshot::{
    LoadError, MANIFEST_PATH, Manifest, PublishError, SNAPSHOTS_DIR, load, peek, publish,
    remove_temps,
};
use in_mem_wal::disk::{Disk, Op, OpenMode};
use in_mem_wal::faults::{self as wal_faults, Point};
use in_mem_wal::recover::{
    RecoveredRecord, Scan, ScanError, ScanOptions, SettleError, SettleOptions, Settled, create_log,
    scan, settle,
};
use in_mem_wal::{LogConfig, StorageCodec, files, names};

use crate::checkpoint::LogPoint;
use crate::errors::{OpenError, RecordError};
use crate::faults::Mutant;
use crate::limits::VERSION_FLOOR_STEP;
use crate::recovery_snapshot::{Base, load_base};
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;
use crate::writeset_reader::{RecordHead, Unknown, WritesetError, read_writeset};

/// A first segment no longer than this holds nothing but its header.
const EMPTY_SEGMENT_LEN_BYTES: u64 = 4096;

/// What the last open found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryResult {
    /// The snapshot that was loaded; 0 for none.
    pub snapshot_used: u64,
    /// Every commit at or below it came from the snapshot; 0 without one.
    pub snapshot_watermark: u64,
    /// Segments read.
    pub segments_read: u64,
    /// Records read.
    pub records_read: u64,
    /// Records without a commit marker, discarded whole.
    pub records_skipped: u64,
    /// Records applied: as many transactions were recovered.
    pub records_applied: u64,
    /// Runs recovered as Active that nobody owns.
    pub orphaned_runs: u64,
    /// Mutations of unknown types that were passed over, because that was asked for.
    pub entries_skipped: u64,
    /// Bytes behind the end of the log that went to quarantine.
    pub truncated_bytes: u64,
    /// Reads only: the disk was too full to make the log writable, or that was asked for.
    pub is_read_only: bool,
    /// How long it took, microseconds.
    pub recovery_time_us: u64,
}

impl RecoveryResult {
    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "snapshot {} and {} transactions from {} segments in {} us, {} bytes in quarantine, {} \
             runs without an owner",
            self.snapshot_used,
            self.records_applied,
            self.segments_read,
            self.recovery_time_us,
            self.truncated_bytes,
            self.orphaned_runs
        )
    }
}

/// What stands in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A database.
    Database,
    /// Nothing, or what a creation left that a crash cut short.
    Nothing,
    /// Log or disk images without a MANIFEST.
    DataWithoutManifest,
}

/// Looks for a database; changes nothing.
pub(crate) fn look(disk: &mut dyn Disk) -> Result<Found, OpenError> {
    let root = files::list(disk, "").map_err(OpenError::Io)?;
    if root.iter().any(|name| name == MANIFEST_PATH) {
        return Ok(Found::Database);
    }
    let list = |disk: &mut dyn Disk, directory: &str| {
        if root.iter().any(|name| name == directory) {
            files::list(disk, directory).map_err(OpenError::Io)
        } else {
            Ok(Vec::new())
        }
    };
    if list(disk, SNAPSHOTS_DIR)?
        .iter()
        .any(|name| name.ends_with(".chk"))
    {
        return Ok(Found::DataWithoutManifest);
    }
    for name in list(disk, names::WAL_DIR)? {
        let path = format!("{}/{name}", names::WAL_DIR);
        if !name.ends_with(".seg") {
            continue;
        }
        if path != names::segment_path(1)
            || EMPTY_SEGMENT_LEN_BYTES < len_of(disk, &path).map_err(OpenError::Io)?
        {
            return Ok(Found::DataWithoutManifest);
        }
    }
    Ok(Found::Nothing)
}

pub(crate) fn len_of(disk: &mut dyn Disk, path: &str) -> io::Result<u64> {
    let file = files::open(disk, path, OpenMode::Read)?;
    let len = files::len(disk, file);
    files::close(disk, file);
    len
}

/// Creates the files of an empty database; MANIFEST last, since its presence means that the
/// database exists. Harmless to repeat after a crash inside.
pub(crate) fn create_files(disk: &mut dyn Disk, codec_id: &str) -> Result<(), OpenError> {
    let uuid = *RunId::new_random().as_bytes();
    if let Err(error) = files::run(
        disk,
        Op::Unlink {
            path: names::segment_path(1),
        },
    )
    .map(drop)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(OpenError::Io(error));
    }
    create_log(disk, uuid).map_err(OpenError::Io)?;
    files::create_dir_if_absent(disk, SNAPSHOTS_DIR).map_err(OpenError::Io)?;
    files::sync_dir(disk, "").map_err(OpenError::Io)?;
    publish(disk, &Manifest::new(uuid, codec_id)).map_err(OpenError::Publish)
}

/// A log that is ready to be started; without `settled` it can only be read.
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    pub(crate) settled: Option<Settled>,
    pub(crate) result: RecoveryResult,
}

/// What recovery works with.
pub(crate) struct RecoveryContext<'a> {
    pub(crate) shared: &'a Shared,
    /// Changes nothing on disk.
    pub(crate) only_reads: bool,
    /// Passes over what no primitive knows; reads only.
    pub(crate) skips_unknown: bool,
    pub(crate) registry: &'a PrimitiveRegistry,
    pub(crate) config: LogConfig,
    pub(crate) codec: Arc<dyn StorageCodec>,
    /// Reads up to the first damage of the log instead of refusing it; changes nothing on disk.
    pub(crate) is_permissive: bool,
    /// Records are recovered; else a log that holds one is another database's.
    pub(crate) takes_records: bool,
}

/// What was read, before anything on disk is changed for it.
pub(crate) struct ReadBack {
    pub(crate) base: Base,
    pub(crate) scanned: Scan,
    /// The highest commit version in the store.
    pub(crate) last_txn_id: u64,
    pub(crate) result: RecoveryResult,
}

/// Reads the snapshot and the log of a manifest into the store.
pub(crate) fn read_back(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    manifest: &Manifest,
) -> Result<ReadBack, OpenError> {
    let mut result = RecoveryResult::default();
    let base = begin_with_snapshot(disk, context, manifest, &mut result)?;
    let scanned = apply_log(disk, context, manifest, &base, &mut result)?;
    let sequencer = &context.shared.store.sequencer;
    let last_txn_id = scanned.last_txn_id.max(base.watermark());
    let base_floor = base.used.as_ref().map_or(0, |(_, meta)| meta.version_floor);
    sequencer.recover(last_txn_id.max(scanned.version_floor).max(base_floor));
    // What a mark or a snapshot proves is durable; the rest only once the log is settled, if it is.
    let durable_txn_id = scanned.durable_txn_id.max(base.watermark());
    context.shared.durable.advance(durable_txn_id);
    rebuild(context, last_txn_id, &mut result)?;
    Ok(ReadBack {
        base,
        scanned,
        last_txn_id,
        result,
    })
}

/// Recovers the database of `disk` into the store.
pub(crate) fn recover(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
) -> Result<Recovered, OpenError> {
    let started_us = context.shared.clock.monotonic_us();
    let mut manifest = load_manifest(disk, context)?;
    let ReadBack {
        scanned,
        last_txn_id,
        mut result,
        ..
    } = read_back(disk, context, &manifest)?;
    let sequencer = &context.shared.store.sequencer;
    let options = SettleOptions {
        config: context.config,
        database_uuid: manifest.database_uuid,
        version_floor: sequencer.last_issued().saturating_add(VERSION_FLOOR_STEP),
        now_us: context.shared.clock.wall_us(),
    };
    let settled = settle_unless(context.only_reads, disk, scanned, &options, &mut manifest)?;
    if let Some(settled) = &settled {
        sequencer.floor_durable(settled.version_floor);
        context.shared.durable.advance(last_txn_id);
        result.truncated_bytes = settled.quarantined_len_bytes;
    }
    result.is_read_only = settled.is_none();
    result.recovery_time_us = context
        .shared
        .clock
        .monotonic_us()
        .saturating_sub(started_us);
    report(&result);
    Ok(Recovered {
        manifest,
        settled,
        result,
    })
}

/// Loads the snapshot, if one is to be used, and removes what unfinished ones have left.
fn begin_with_snapshot(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    manifest: &Manifest,
    result: &mut RecoveryResult,
) -> Result<Base, OpenError> {
    if !context.only_reads {
        remove_temps(disk).map_err(OpenError::Io)?;
    }
    if manifest.has_snapshot() && !context.takes_records {
        return Err(OpenError::AlreadyExists);
    }
    let base = load_base(disk, context, manifest)?;
    result.entries_skipped += base.skipped_count;
    if let Some((_, meta)) = &base.used {
        result.snapshot_used = meta.snapshot_id;
        result.snapshot_watermark = meta.watermark_txn;
        context
            .shared
            .durable
            .recovered_snapshot(meta.watermark_txn);
        wal_faults::pass(Point::RecoveryAfterSnapshot);
    }
    *context.shared.checkpoint.log_point.lock() = base.log_point();
    Ok(base)
}

/// Derives what is not stored.
fn rebuild(
    context: &RecoveryContext<'_>,
    last_txn_id: u64,
    result: &mut RecoveryResult,
) -> Result<(), OpenError> {
    // Nothing recovered, nothing to derive. The first durable commit of an InMemory database comes
    // here too, and its live runs are not recovered ones.
    let is_recovered = result.records_applied != 0 || result.snapshot_used != 0;
    for primitive in context.registry.all().filter(|_| is_recovered) {
        primitive
            .rebuild_indexes(&context.shared.store)
            .map_err(|source| OpenError::Record {
                commit_version: last_txn_id,
                source: source.into(),
            })?;
    }
    let shards = context.shared.store.shards();
    let unowned = shards.iter().filter(|shard| shard.is_recovered_unowned());
    result.orphaned_runs = unowned.count() as u64;
    Ok(())
}

/// Makes the log writable, unless it is only read: then nothing on disk is changed. None when it can
/// only be read.
fn settle_unless(
    is_only_read: bool,
    disk: &mut dyn Disk,
    scanned: Scan,
    options: &SettleOptions,
    manifest: &mut Manifest,
) -> Result<Option<Settled>, OpenError> {
    if is_only_read {
        return Ok(None);
    }
    let mut lower_hint = |disk: &mut dyn Disk, segment| lower_hint(disk, manifest, segment);
    match settle(disk, scanned, options, &mut lower_hint) {
        Ok(settled) => Ok(Some(settled)),
        Err(SettleError::NoSpace(error)) => {
            tracing::error!(target: "recovery", %error, "disk is full: opened for reading only");
            Ok(None)
        }
        Err(error) => Err(OpenError::Settle(error)),
    }
}

/// Makes MANIFEST name no segment above `segment`.
fn lower_hint(disk: &mut dyn Disk, manifest: &mut Manifest, segment: u64) -> io::Result<()> {
    // It may never have been raised: then nothing needs room on a disk that is full.
    if manifest.active_wal_segment <= segment {
        return Ok(());
    }
    let lowered = Manifest {
        active_wal_segment: segment,
        ..manifest.clone()
    };
    match publish(disk, &lowered) {
        Ok(()) => {
            *manifest = lowered;
            Ok(())
        }
        // Nothing has happened; with room it can be done again.
        Err(PublishError::Unchanged(error)) => Err(error),
        // Its kind must not look like a lack of room: a sync that failed is not tried again.
        Err(error @ PublishError::Unknown(_)) => Err(io::Error::other(error)),
    }
}

fn report(result: &RecoveryResult) {
    if result.entries_skipped != 0 {
        let count = result.entries_skipped;
        tracing::warn!(target: "recovery", count, "mutations of unknown types were passed over");
    }
    tracing::info!(target: "recovery", summary = %result.summary(), "recovered");
    if result.orphaned_runs != 0 {
        let count = result.orphaned_runs;
        tracing::warn!(target: "recovery", count, "active runs without a live owner");
    }
}

pub(crate) fn load_manifest(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
) -> Result<Manifest, OpenError> {
    let root = files::list(disk, "").map_err(OpenError::Io)?;
    let has = |directory: &str| root.iter().any(|name| name == directory);
    let loaded = match context.only_reads {
        true => peek(disk),
        false => load(disk),
    };
    let manifest = match loaded {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Err(OpenError::MissingManifest),
        Err(LoadError::Io(error)) => return Err(OpenError::Io(error)),
        Err(LoadError::Damaged(error)) => return Err(OpenError::Manifest(error)),
    };
    if !has(names::WAL_DIR) {
        return Err(OpenError::MissingWalDir);
    }
    if !has(SNAPSHOTS_DIR) {
        return Err(OpenError::MissingSnapshotsDir);
    }
    if manifest.codec_id != context.codec.codec_id() {
        return Err(OpenError::CodecMismatch {
            expected: context.codec.codec_id().to_owned(),
            got: manifest.codec_id,
        });
    }
    Ok(manifest)
}

fn apply_log(
    disk: &mut dyn Disk,
    context: &RecoveryContext<'_>,
    manifest: &Manifest,
    base: &Base,
    result: &mut RecoveryResult,
) -> Result<Scan, OpenError> {
    let options = ScanOptions {
        database_uuid: manifest.database_uuid,
        record_len_bytes_max: context.config.record_len_bytes_max,
        snapshot_end: base.snapshot_end(),
        manifest_active_segment: manifest.active_wal_segment,
        is_permissive: context.is_permissive,
        planted: context.config.planted,
    };
    if let Some(progress) = context.shared.recovery_progress.get() {
        let names = files::list(disk, names::WAL_DIR).map_err(OpenError::Io)?;
        let numbers = names
            .iter()
            .filter_map(|name| names::parse_segment_name(name));
        progress.set_newest_segment(numbers.max().unwrap_or(0));
    }
    let scanned = scan(disk, &options, &*context.codec, |record| {
        take_record(context, base, &record, result)
    })
    .map_err(|error| scan_error(error, manifest, base))?;
    // Records of the log alone may be fewer than those that the named snapshot held.
    let reached = scanned.last_txn_id.max(base.watermark());
    if reached < manifest.snapshot_watermark && !context.is_permissive {
        return Err(base.unrecoverable(manifest));
    }
    result.segments_read = scanned.segment_count;
    result.records_read = scanned.record_count;
    Ok(scanned)
}

/// What a scan that ended early says about the database.
fn scan_error(error: ScanError<RecordError>, manifest: &Manifest, base: &Base) -> OpenError {
    match error {
        ScanError::Visitor {
            source: RecordError::Foreign,
            ..
        } => OpenError::AlreadyExists,
        ScanError::Visitor {
            source: RecordError::Interrupted,
            ..
        } => OpenError::Interrupted,
        ScanError::MissingSegment { .. } if manifest.has_snapshot() => base.unrecoverable(manifest),
        error => OpenError::Scan(Box::new(error)),
    }
}

/// Applies one record of the log, unless the snapshot covers it.
fn take_record(
    context: &RecoveryContext<'_>,
    base: &Base,
    record: &RecoveredRecord<'_>,
    result: &mut RecoveryResult,
) -> Result<(), RecordError> {
    if let Some(progress) = context.shared.recovery_progress.get() {
        if progress.is_stop_requested() {
            return Err(RecordError::Interrupted);
        }
        progress.record_read(record.lsn.segment());
    }
    if !context.takes_records {
        return Err(RecordError::Foreign);
    }
    if record.txn_id <= base.watermark() {
        return Ok(());
    }
    note_record(context, record);
    match apply_record(context, record, &mut result.entries_skipped) {
        Ok(()) => {
            // The log begins with the first commit that was logged, or behind the snapshot: what
            // it leaves out before and between its records never was logged, or is lost.
            context.shared.durable.logged(record.txn_id);
            result.records_applied += 1;
        }
        Err(RecordError::Writeset(WritesetError::MissingCommit)) => {
            result.records_skipped += 1;
            let version = record.txn_id;
            tracing::warn!(target: "recovery", version, "record without a commit marker");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// A checkpoint may have this record as its last one.
fn note_record(context: &RecoveryContext<'_>, record: &RecoveredRecord<'_>) {
    let mut point = context.shared.checkpoint.log_point.lock();
    *point = LogPoint {
        version: record.txn_id,
        end_lsn: record.end_lsn,
        record_count: point.record_count + 1,
    };
}

/// Applies one record, all or nothing: everything is read before anything is applied.
fn apply_record(
    context: &RecoveryContext<'_>,
    record: &RecoveredRecord<'_>,
    entries_skipped: &mut u64,
) -> Result<(), RecordError> {
    let head = RecordHead {
        run_id: RunId(record.run_id),
        commit_version: record.txn_id,
        timestamp_us: record.timestamp_us,
    };
    let unknown = match context.skips_unknown {
        true => Unknown::Skipped,
        false => Unknown::Refused,
    };
    let mutations = read_writeset(record.writeset, head, context.registry, unknown)?;
    *entries_skipped += mutations.skipped_count;
    for entry in mutations.entries {
        let owner = context.registry.for_entry_type(entry.entry_type);
        let owner = owner.ok_or(WritesetError::UnknownEntryType {
            entry_type: entry.entry_type,
        })?;
        owner.apply_versioned(&context.shared.store, &entry)?;
    }
    if let Some((once, result)) = mutations.once
        && !context.shared.planted.is(Mutant::OnceNotRebuilt)
    {
        context
            .shared
            .store
            .apply_once_versioned(&head, &once, result);
    }
    Ok(())
}
