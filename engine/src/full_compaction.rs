//! Full compaction, on the background thread: a checkpoint that leaves out what the retention
//! policies let go, and then the same in memory and in the log.
//!
//! ```text
//! 1  as a checkpoint: the last durable record is the watermark W, everything at or below it is
//!    published
//! 2  read the policies in force at W and the clock, once; wait for the views that began before
//!    that: a run whose views go on is left as it is, and named
//! 3  write the snapshot without what goes, read it back, publish it, name it in MANIFEST
//! 4  cut the chains in memory: from here on the trim floors hold
//! 5  remove the segments of the log that no kept snapshot needs
//! ```
//!
//! A crash before MANIFEST names the snapshot leaves everything as it was; after it, recovery loads
//! the compacted snapshot, which is what memory would have become. A disk without room for the
//! snapshot first loses the segments that the snapshots of before cover, and then the reserve file,
//! which is made again afterwards. Nothing of this is done by a dry run, which counts.

use std::io;
use std::ops::ControlFlow;

use in_mem_model::RetentionMoment;
use in_mem_snapshot::{Manifest, SnapshotError};
use in_mem_wal::disk::Disk;
use in_mem_wal::recover::release_reserve;

use crate::checkpoint::{CheckpointError, CheckpointPhase, LogPoint};
use crate::checkpoint_job::{CheckpointContext, Freeze};
use crate::compaction::{CompactDone, CompactError, CompactInfo, CompactMode, Removal};
use crate::faults::Mutant;
use crate::limits::COMPACTION_GRACE_MS;
use crate::once_image::{begin_capture, give_up_capture};
use crate::shared::Shared;
use crate::trim::{TrimPlan, Trimmed};

/// A Full compaction under way.
pub(crate) struct FullCompaction {
    request: Request,
    stage: Stage,
}

/// What was asked for, and what is known of it from the beginning.
struct Request {
    done: CompactDone,
    is_dry_run: bool,
    timestamp_us: u64,
    started_us: u64,
    /// Everything that could make room on the disk was given up.
    is_room_made: bool,
}

enum Stage {
    /// Step 1.
    Freezing(Freeze),
    /// Step 2.
    Draining {
        point: LogPoint,
        plan: TrimPlan,
        until_us: u64,
    },
    /// Steps 4 and 5, once nobody walks the chains as a whole.
    Trimming {
        plan: TrimPlan,
        watermark: u64,
        /// Of snapshots, bytes.
        removed_bytes: u64,
    },
}

/// What came of one step.
pub(crate) enum Stepped {
    /// It goes on at once.
    Again(FullCompaction),
    /// Something is waited for.
    Waiting(FullCompaction),
    /// It is over, and whoever asked was told.
    Over,
}

impl FullCompaction {
    pub(crate) fn begin(shared: &Shared, is_dry_run: bool, done: CompactDone) -> Self {
        let clock = &shared.clock;
        let request = Request {
            done,
            is_dry_run,
            timestamp_us: clock.wall_us(),
            started_us: clock.monotonic_us(),
            is_room_made: false,
        };
        let stage = freeze(shared);
        Self { request, stage }
    }

    /// Goes on by a step.
    pub(crate) fn step(
        self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
    ) -> Stepped {
        let Self { request, stage } = self;
        let shared = context.shared;
        match stage {
            Stage::Freezing(mut freeze) => {
                if !freeze.is_over(shared) {
                    let stage = Stage::Freezing(freeze);
                    return Stepped::Waiting(Self { request, stage });
                }
                let planned = freeze
                    .point(shared)
                    .map_err(CompactError::from)
                    .and_then(|point| Ok((point, plan(shared, point)?)));
                match planned {
                    Ok((point, plan)) => {
                        let grace_us = COMPACTION_GRACE_MS * 1_000;
                        let until_us = shared.clock.monotonic_us().saturating_add(grace_us);
                        let stage = Stage::Draining {
                            point,
                            plan,
                            until_us,
                        };
                        Stepped::Again(Self { request, stage })
                    }
                    Err(error) => request.end(shared, Err(error)),
                }
            }
            Stage::Draining {
                point,
                plan,
                until_us,
            } => {
                let is_closing = shared.refuse_checkpoint().is_err();
                let is_late = is_closing || until_us <= shared.clock.monotonic_us();
                if !is_late && !plan.held_back().is_empty() {
                    let stage = Stage::Draining {
                        point,
                        plan,
                        until_us,
                    };
                    return Stepped::Waiting(Self { request, stage });
                }
                request.write(context, disk, manifest, point, plan)
            }
            Stage::Trimming {
                plan,
                watermark,
                removed_bytes,
            } => {
                let Some(chains) = shared.store.chains.try_write() else {
                    let stage = Stage::Trimming {
                        plan,
                        watermark,
                        removed_bytes,
                    };
                    return Stepped::Waiting(Self { request, stage });
                };
                shared.checkpoint.enter(CheckpointPhase::Trimming);
                let trimmed = trim(context, disk, &plan, true);
                drop(chains);
                let info = request.info(shared, trimmed, watermark);
                request.remove(context, disk, manifest, (info, removed_bytes))
            }
        }
    }

    /// The database is closed.
    pub(crate) fn give_up(self, shared: &Shared) {
        match self.stage {
            Stage::Freezing(_) => {}
            Stage::Draining { plan, .. } | Stage::Trimming { plan, .. } => plan.give_up(),
        }
        self.request
            .end(shared, Err(CheckpointError::Closed.into()));
    }
}

impl Request {
    /// Step 3, or the counts of a dry run.
    fn write(
        mut self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &mut Manifest,
        point: LogPoint,
        mut plan: TrimPlan,
    ) -> Stepped {
        let shared = context.shared;
        let held = plan.held_back();
        for held in &held {
            tracing::warn!(
                target: "compaction",
                run = %held.run,
                views = held.view_count,
                "a run is not trimmed: someone reads an older time of it"
            );
        }
        plan.spare(&held);
        *shared.checkpoint.held_back.lock() = held;
        if self.is_dry_run {
            let trimmed = trim(context, disk, &plan, false);
            plan.give_up();
            let info = self.info(shared, trimmed, point.version);
            let result = context.remove_segments(disk, manifest, true);
            let result = result.or_else(|error| match error {
                CompactError::NoSnapshot => Ok((Removal::default(), 0)),
                error => Err(error),
            });
            let result = result.map(|(removal, _)| CompactInfo {
                reclaimed_bytes: removal.len_bytes,
                wal_segments_removed: removal.segment_count,
                ..info
            });
            return self.end(shared, result);
        }
        match context.take(disk, manifest, point, Some(&plan)) {
            Ok(taken) => {
                let stage = Stage::Trimming {
                    plan,
                    watermark: point.version,
                    removed_bytes: taken.removed_bytes,
                };
                Stepped::Again(FullCompaction {
                    request: self,
                    stage,
                })
            }
            Err(error) if is_disk_full(&error) && !self.is_room_made => {
                plan.give_up();
                make_room(context, disk, manifest);
                self.is_room_made = true;
                give_up_capture(&shared.store);
                let stage = freeze(shared);
                Stepped::Again(FullCompaction {
                    request: self,
                    stage,
                })
            }
            Err(error) => {
                plan.give_up();
                self.end(shared, Err(error.into()))
            }
        }
    }

    /// Step 5.
    fn remove(
        self,
        context: &CheckpointContext<'_>,
        disk: &mut dyn Disk,
        manifest: &Manifest,
        (info, removed_bytes): (CompactInfo, u64),
    ) -> Stepped {
        let result = context.remove_segments(disk, manifest, false);
        let result = result.map(|(removal, _)| CompactInfo {
            reclaimed_bytes: removed_bytes + removal.len_bytes,
            wal_segments_removed: removal.segment_count,
            ..info
        });
        self.end(context.shared, result)
    }

    fn info(&self, shared: &Shared, trimmed: Trimmed, snapshot_watermark: u64) -> CompactInfo {
        CompactInfo {
            mode: CompactMode::Full,
            reclaimed_bytes: 0,
            wal_segments_removed: 0,
            versions_removed: trimmed.version_count,
            snapshot_watermark,
            duration_ms: shared.clock.monotonic_us().saturating_sub(self.started_us) / 1_000,
            timestamp_us: self.timestamp_us,
        }
    }

    fn end(self, shared: &Shared, result: Result<CompactInfo, CompactError>) -> Stepped {
        give_up_capture(&shared.store);
        shared.checkpoint.end();
        match &result {
            Ok(info) => tracing::info!(
                target: "compaction",
                versions_removed = info.versions_removed,
                reclaimed_bytes = info.reclaimed_bytes,
                watermark = info.snapshot_watermark,
                is_dry_run = self.is_dry_run,
                "compacted"
            ),
            Err(error) => tracing::debug!(target: "compaction", %error, "not compacted"),
        }
        (self.done)(result);
        Stepped::Over
    }
}

fn freeze(shared: &Shared) -> Stage {
    shared.checkpoint.enter(CheckpointPhase::Syncing);
    // Any number but 0: there is one checkpoint at a time.
    begin_capture(&shared.store, 1);
    Stage::Freezing(Freeze::begin(shared))
}

fn plan(shared: &Shared, point: LogPoint) -> Result<TrimPlan, CompactError> {
    let moment = RetentionMoment {
        watermark: point.version,
        now_us: shared.clock.wall_us(),
    };
    let default = shared.default_retention.read().clone();
    let mut plan = TrimPlan::make(&shared.store, &default, moment)?;
    plan.counts_pending = shared.planted.is(Mutant::PendingCountedAsNewest);
    Ok(plan)
}

fn trim(
    context: &CheckpointContext<'_>,
    disk: &mut dyn Disk,
    plan: &TrimPlan,
    is_cut: bool,
) -> Trimmed {
    let mut between = || -> ControlFlow<()> { context.between_blocks(disk) };
    plan.apply(&context.shared.store, is_cut, &mut between)
}

/// Gives up what can be given up for the room of a snapshot. What fails here shows again when the
/// snapshot is written.
fn make_room(context: &CheckpointContext<'_>, disk: &mut dyn Disk, manifest: &Manifest) {
    if let Ok((removal, _)) = context.remove_segments(disk, manifest, false) {
        tracing::warn!(
            target: "compaction",
            segments = removal.segment_count,
            "the disk is full: covered segments were removed first"
        );
    }
    match release_reserve(disk) {
        Ok(was_there) => tracing::warn!(
            target: "compaction",
            was_there,
            "the disk is full: the reserve file is given up until there is room again"
        ),
        Err(error) => tracing::warn!(target: "compaction", %error, "the reserve file stays"),
    }
}

fn is_disk_full(error: &CheckpointError) -> bool {
    let of_io = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
    match error {
        CheckpointError::Write(SnapshotError::Io { source, .. })
        | CheckpointError::Publish { source, .. } => of_io(source),
        _ => false,
    }
}
