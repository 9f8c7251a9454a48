//! Reading what can be read of a database that may be damaged: the longest beginning of its history
//! that is whole. Nothing is changed.
//!
//! ```text
//! MANIFEST   whole: as it says. Damaged or missing: taken from the newest segment's header and
//!            from the newest whole snapshot of the same database
//! snapshot   the one MANIFEST names, else the newest older one that is whole, else none
//! log        from that snapshot on, up to the first damage or the first missing segment; never
//!            behind it, since what is committed later may depend on what is gone
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use in_mem_model::RunId;
use in_mem_snapshot::{
    LoadError, MANIFEST_PATH, Manifest, ManifestError, SNAPSHOTS_DIR, SnapshotError,
    list_snapshots, peek, snapshot_path, validate,
};
use in_mem_wal::disk::{Disk, OpenMode};
use in_mem_wal::format::header::{HeaderState, SegmentHeader};
use in_mem_wal::recover::{Damage, Inspection, ScanError, ScanOptions, SegmentSeen, inspect};
use in_mem_wal::{LogConfig, Lsn, StorageCodec, files, names};

use crate::check::{CheckReport, CheckedSnapshot, CheckedState, Finding, Loss};
use crate::codec::codec_for;
use crate::config::{DatabaseConfig, Setup};
use crate::errors::OpenError;
use crate::logical_digest::{counts_of, digest_of};
use crate::open::Files;
use crate::recovery::{Found, ReadBack, RecoveryContext, look, read_back};
use crate::registry::PrimitiveRegistry;
use crate::shared::Shared;

/// What was read, and what was found.
pub(crate) struct Salvaged {
    /// Holds the lock.
    pub(crate) _files: Files,
    pub(crate) shared: Shared,
    pub(crate) registry: PrimitiveRegistry,
    pub(crate) codec: Arc<dyn StorageCodec>,
    pub(crate) log_config: LogConfig,
    pub(crate) manifest: Manifest,
    /// The highest number of a snapshot that is there, whole or not.
    pub(crate) snapshot_id_highest: u64,
    /// No version above it was issued, as far as can be seen.
    pub(crate) version_floor: u64,
    /// Records in the state, those of the snapshot included.
    pub(crate) record_count: u64,
    pub(crate) report: CheckReport,
}

/// Reads the database of a setup.
pub(crate) fn salvage(setup: Setup) -> Result<Salvaged, OpenError> {
    let Setup {
        config,
        place,
        clock,
        registry,
        progress,
    } = setup;
    let files = Files::new(place.ok_or(OpenError::NotFound)?);
    let opener = files.open_for_reading()?;
    let shared = Shared::new(clock, config.planted);
    if let Some(progress) = progress {
        let _ = shared.recovery_progress.set(progress);
    }
    let disk = &mut *opener.open_disk().map_err(OpenError::Io)?;
    let codec = codec_for(disk, &config)?;
    let mut salvage = Salvage {
        shared: &shared,
        registry: &registry,
        codec: &codec,
        config: &config,
        faults: Vec::new(),
        notes: Vec::new(),
    };
    let manifest = salvage.manifest(disk)?;
    let (snapshots, snapshot_id_highest) = salvage.snapshots(disk, &manifest)?;
    let read = salvage.read(disk, &manifest)?;
    let state = match &read {
        Some(read) => Some(salvage.state(read)?),
        None => None,
    };
    let after_version = state.map_or(0, |state| state.digest.watermark);
    let mut lost = Lost::new(after_version, manifest.snapshot_watermark);
    let inspection = salvage.inspect(disk, &manifest, &mut lost)?;
    salvage.segments(&inspection, &snapshots);
    if let Some(damage) = read.and_then(|read| read.scanned.damage) {
        salvage.stopped_at(&damage);
    }
    let version_floor = highest_seen(&inspection).max(manifest.snapshot_watermark);
    let Salvage { faults, notes, .. } = salvage;
    let report = CheckReport {
        database_uuid: manifest.database_uuid,
        faults,
        notes,
        snapshots,
        segments: inspection.segments,
        state,
        loss: lost.loss(),
    };
    let record_count = shared.checkpoint.log_point.lock().record_count;
    let version_floor = version_floor.max(shared.store.sequencer.last_issued());
    Ok(Salvaged {
        _files: files,
        log_config: config.log_config(),
        shared,
        registry,
        codec,
        manifest,
        snapshot_id_highest,
        version_floor,
        record_count,
        report,
    })
}

/// No version above it was issued, as far as the log shows.
fn highest_seen(inspection: &Inspection) -> u64 {
    let of = |it: &SegmentSeen| {
        it.version_floor
            .max(it.versions.map_or(0, |(_, last)| last))
    };
    inspection.segments.iter().map(of).max().unwrap_or(0)
}

/// Collects what is not in the state.
struct Lost {
    loss: Loss,
    runs: BTreeSet<RunId>,
}

impl Lost {
    /// Behind the last version of the state; `known_version` was committed.
    fn new(after_version: u64, known_version: u64) -> Self {
        let loss = Loss {
            record_count: 0,
            after_version,
            last_version: known_version,
            runs: Vec::new(),
        };
        let runs = BTreeSet::new();
        Self { loss, runs }
    }

    /// A record that can be read.
    fn seen(&mut self, run: [u8; 16], version: u64) {
        if self.loss.after_version < version {
            self.loss.record_count += 1;
            self.loss.last_version = self.loss.last_version.max(version);
            self.runs.insert(RunId(run));
        }
    }

    fn loss(self) -> Option<Loss> {
        let runs = self.runs.into_iter().collect();
        let loss = Loss { runs, ..self.loss };
        (loss.after_version < loss.last_version).then_some(loss)
    }
}

struct Salvage<'a> {
    shared: &'a Shared,
    registry: &'a PrimitiveRegistry,
    codec: &'a Arc<dyn StorageCodec>,
    config: &'a DatabaseConfig,
    faults: Vec<Finding>,
    notes: Vec<Finding>,
}

impl Salvage<'_> {
    fn fault(&mut self, path: &str, offset: Option<u64>, what: impl Into<String>) {
        self.faults.push(finding(path, offset, what));
    }

    fn note(&mut self, path: &str, what: impl Into<String>) {
        self.notes.push(finding(path, None, what));
    }

    /// MANIFEST, or what it must have said.
    fn manifest(&mut self, disk: &mut dyn Disk) -> Result<Manifest, OpenError> {
        let what = match look(disk)? {
            Found::Nothing => return Err(OpenError::NotFound),
            Found::DataWithoutManifest => "it is missing beside a log or snapshots".to_owned(),
            Found::Database => match peek(disk) {
                Ok(Some(manifest)) if manifest.codec_id == self.codec.codec_id() => {
                    return Ok(manifest);
                }
                Ok(Some(manifest)) => {
                    return Err(OpenError::CodecMismatch {
                        expected: self.codec.codec_id().to_owned(),
                        got: manifest.codec_id,
                    });
                }
                Err(LoadError::Damaged(error @ ManifestError::UnsupportedVersion { .. })) => {
                    return Err(OpenError::Manifest(error));
                }
                Err(LoadError::Io(error)) => return Err(OpenError::Io(error)),
                Err(LoadError::Damaged(error)) => error.to_string(),
                Ok(None) => "it is gone".to_owned(),
            },
        };
        let assumed = self.assume_manifest(disk)?;
        self.fault(MANIFEST_PATH, None, what);
        assumed.ok_or(OpenError::MissingManifest)
    }

    fn assume_manifest(&self, disk: &mut dyn Disk) -> Result<Option<Manifest>, OpenError> {
        let nobodys = SegmentHeader {
            segment: 0,
            database_uuid: [0; 16],
        };
        let listed = files::list(disk, names::WAL_DIR).map_err(OpenError::Io)?;
        let segments = listed
            .iter()
            .filter(|name| names::parse_segment_name(name).is_some());
        for name in segments.rev() {
            let path = format!("{}/{name}", names::WAL_DIR);
            let bytes = files::read_file(disk, &path, in_mem_wal::limits::SEGMENT_LEN_BYTES_MAX);
            let bytes = bytes.map_err(OpenError::Io)?;
            if let HeaderState::Valid(header) = SegmentHeader::read(&bytes, &nobodys) {
                let uuid = header.database_uuid;
                let mut manifest = Manifest::new(uuid, self.codec.codec_id());
                let ids = list_snapshots(disk).map_err(OpenError::Io)?;
                for id in ids.into_iter().rev() {
                    if let Ok(found) = self.look_at(disk, id, uuid, None) {
                        manifest.snapshot_id = id;
                        manifest.snapshot_watermark = found.watermark_txn;
                        break;
                    }
                }
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    fn look_at(
        &self,
        disk: &mut dyn Disk,
        id: u64,
        uuid: [u8; 16],
        watermark: Option<u64>,
    ) -> Result<CheckedSnapshot, SnapshotError> {
        let path = snapshot_path(id);
        let codec = Arc::clone(self.codec);
        let go_on = &mut |_: &mut dyn Disk, _| ControlFlow::Continue(());
        let (header, meta) = validate(disk, &path, OpenMode::Read, codec, go_on)?;
        meta.check(id, uuid, self.codec.codec_id(), watermark)?;
        Ok(CheckedSnapshot {
            snapshot_id: id,
            watermark_txn: meta.watermark_txn,
            timestamp_us: header.timestamp_us,
            is_named: watermark.is_some(),
        })
    }

    /// Every snapshot that is whole, and the highest number of all.
    fn snapshots(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
    ) -> Result<(Vec<CheckedSnapshot>, u64), OpenError> {
        let ids = match list_snapshots(disk) {
            Ok(ids) => ids,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.fault(SNAPSHOTS_DIR, None, "the directory is missing");
                Vec::new()
            }
            Err(error) => return Err(OpenError::Io(error)),
        };
        let named = manifest.snapshot_id;
        if manifest.has_snapshot() && !ids.contains(&named) {
            self.fault(
                &snapshot_path(named),
                None,
                "MANIFEST names it, and it is not there",
            );
        }
        let mut whole = Vec::new();
        for &id in &ids {
            let path = snapshot_path(id);
            let watermark = (id == named).then_some(manifest.snapshot_watermark);
            match self.look_at(disk, id, manifest.database_uuid, watermark) {
                Ok(found) => whole.push(found),
                Err(error) if id <= named && error.needs_newer_build() => {
                    return Err(OpenError::Snapshot(error));
                }
                Err(_) if named < id => {}
                Err(SnapshotError::Damaged { offset, damage, .. }) => {
                    self.fault(&path, Some(offset), damage.to_string());
                }
                Err(SnapshotError::Io { source, .. }) => {
                    self.fault(&path, None, source.to_string())
                }
                Err(error) => self.fault(&path, None, error.to_string()),
            }
            if named < id {
                self.note(
                    &path,
                    "MANIFEST never named it; the next checkpoint removes it",
                );
            }
        }
        Ok((whole, ids.last().copied().unwrap_or(0).max(named)))
    }

    fn scan_options(&self, manifest: &Manifest) -> ScanOptions {
        ScanOptions {
            database_uuid: manifest.database_uuid,
            record_len_bytes_max: self.config.wal_config.record_len_bytes_max,
            snapshot_end: Lsn::ZERO,
            manifest_active_segment: manifest.active_wal_segment,
            is_permissive: true,
            planted: self.config.wal_config.planted,
        }
    }

    fn inspect(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        lost: &mut Lost,
    ) -> Result<Inspection, OpenError> {
        let options = self.scan_options(manifest);
        match inspect(disk, &options, &mut |run, version| lost.seen(run, version)) {
            Ok(inspection) => Ok(inspection),
            Err((path, error)) if error.kind() == std::io::ErrorKind::NotFound => {
                self.fault(&path, None, "it is missing");
                Ok(Inspection::default())
            }
            Err((_, error)) => Err(OpenError::Io(error)),
        }
    }

    /// What is wrong with segments; those that every snapshot covers are left over.
    fn segments(&mut self, inspection: &Inspection, snapshots: &[CheckedSnapshot]) {
        let is_covered = |segment: &SegmentSeen| {
            let last = segment.versions.map(|(_, last)| last);
            let covers = |it: &CheckedSnapshot| last.is_none_or(|last| last <= it.watermark_txn);
            !snapshots.is_empty() && snapshots.iter().all(covers)
        };
        let newest = inspection.segments.last().map_or(0, |it| it.number);
        let first_needed = inspection
            .segments
            .iter()
            .find(|segment| !is_covered(segment))
            .map_or(newest, |segment| segment.number);
        for segment in &inspection.segments {
            let path = names::segment_path(segment.number);
            if let Some(Damage { offset, .. }) = segment.damage {
                let what = segment.damage.map(|it| it.to_string()).unwrap_or_default();
                match segment.number < first_needed {
                    true => self.note(&path, format!("left over: {what}")),
                    false => self.fault(&path, Some(u64::from(offset)), what),
                }
            } else if segment.torn_len_bytes != 0 {
                let count = segment.torn_len_bytes;
                let what =
                    format!("a crash cut an append short; the next open drops {count} bytes");
                self.note(&path, what);
            } else if let Some(offset) = segment.padding_offset {
                let what = "bytes between batches have changed; nobody reads them";
                self.notes
                    .push(finding(&path, Some(u64::from(offset)), what));
            } else if segment.is_empty && segment.number == newest && 1 < newest {
                self.note(&path, "it was being created; the next open removes it");
            }
        }
        for &number in inspection.missing.iter().filter(|it| first_needed < **it) {
            self.fault(&names::segment_path(number), None, "the segment is missing");
        }
    }

    /// Where the state ends, unless that was found already.
    fn stopped_at(&mut self, damage: &Damage) {
        let path = names::segment_path(damage.segment);
        if !self.faults.iter().any(|fault| fault.path == path) {
            self.fault(&path, Some(u64::from(damage.offset)), damage.to_string());
        }
    }

    /// The state, up to the first damage; none when there is none.
    fn read(
        &mut self,
        disk: &mut dyn Disk,
        manifest: &Manifest,
    ) -> Result<Option<ReadBack>, OpenError> {
        let context = RecoveryContext {
            shared: self.shared,
            only_reads: true,
            skips_unknown: false,
            is_permissive: true,
            registry: self.registry,
            config: self.config.log_config(),
            codec: Arc::clone(self.codec),
            takes_records: true,
        };
        let read = match read_back(disk, &context, manifest) {
            Ok(read) => read,
            Err(error) if error.needs_newer_build() => return Err(error),
            Err(error @ (OpenError::Io(_) | OpenError::Interrupted)) => return Err(error),
            Err(OpenError::Scan(error)) if matches!(*error, ScanError::Io { .. }) => {
                return Err(OpenError::Scan(error));
            }
            Err(error) => {
                self.fault(names::WAL_DIR, None, chain(&error));
                return Ok(None);
            }
        };
        let is_nothing = read.base.used.is_none() && read.scanned.segment_count == 0;
        let is_damaged = read.scanned.damage.is_some() || !self.faults.is_empty();
        let is_short = read.base.used.is_none() && read.last_txn_id == 0 && is_damaged;
        Ok((!is_nothing && !is_short).then_some(read))
    }

    fn state(&self, read: &ReadBack) -> Result<CheckedState, OpenError> {
        let (store, watermark) = (&self.shared.store, read.last_txn_id);
        let digest = digest_of(store, self.registry, watermark).map_err(OpenError::Snapshot)?;
        Ok(CheckedState {
            digest,
            counts: counts_of(store, watermark),
            snapshot_used: read.result.snapshot_used,
            records_applied: read.result.records_applied,
        })
    }
}

fn finding(path: &str, offset: Option<u64>, what: impl Into<String>) -> Finding {
    Finding {
        path: path.to_owned(),
        offset,
        what: what.into(),
    }
}

/// An error with everything it brings along.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
