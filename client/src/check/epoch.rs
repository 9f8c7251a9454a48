//! One epoch after the other: what is carried from each to the next, and the order of the checks.

use super::chain::Chains;
use super::history::{Dump, History, Operation};
use super::order::{self, Floors};
use super::reads::Reads;
use super::recovered::{self, Recovered};
use super::replay::{self, Replay};
use super::unknown::Loose;
use super::violation::{Report, Violation};

/// What the end of an epoch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing: the store was looked at while it ran.
    All,
    /// InMemory commits, and Buffered ones in their loss window.
    Restart {
        /// Buffered commits acknowledged up to here survive, nanoseconds of the workers' clock.
        /// `u64::MAX` where only the process died and the kernel had every acknowledged byte.
        buffered_acked_before_ns: u64,
    },
}

/// The end of an epoch.
#[derive(Debug, Clone)]
pub struct End {
    /// What it may take.
    pub survival: Survival,
    /// Everything the store shows afterwards.
    pub dump: Dump,
}

/// What an epoch held; the checks passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests recorded.
    pub operation_count: usize,
    /// Commits acknowledged.
    pub acked_count: usize,
    /// Commits acknowledged that the end had to leave.
    pub required_count: usize,
    /// Writes without an answer.
    pub unknown_count: usize,
    /// Of those, the ones that showed in an answer or in the recovered state.
    pub unknown_found_count: usize,
    /// Live entries in the recovered state.
    pub entry_count: usize,
    /// The point of the commit order that the recovered state shows; `u64::MAX` if all of it.
    pub reached_version: u64,
}

/// Checks a store's life, epoch by epoch.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    base: Dump,
    version_max: u64,
    epoch_count: u32,
}

impl Checker {
    /// A checker of a store that is empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks one epoch and moves on to the next, which begins with the recovered state.
    ///
    /// # Errors
    /// Every promise that was broken, the first of them in full. The checker then still stands at
    /// the beginning of the epoch.
    pub fn check(&mut self, history: &History, end: &End) -> Result<Summary, Report> {
        let operations = history.operations.as_slice();
        let mut violations = Vec::new();
        let floors = Floors::of(operations);
        order::check(operations, &floors, self.version_max, &mut violations);
        let mut loose = Loose::find(
            operations,
            &floors,
            &end.dump,
            self.version_max,
            &mut violations,
        );
        let commits = replay::commits(operations, &loose);

        let mut replay = Replay {
            operations,
            chains: Chains::of_base(&self.base),
            loose: &mut loose,
            version_max: self.version_max,
            violations: Vec::new(),
        };
        commits.iter().for_each(|commit| replay.apply(*commit));
        violations.append(&mut replay.violations);
        let chains = replay.chains;

        let mut reads = Reads {
            operations,
            chains: &chains,
            floors: &floors,
            loose: &mut loose,
            version_max: self.version_max,
            violations: Vec::new(),
        };
        reads.check();
        violations.append(&mut reads.violations);

        let mut recovered = Recovered {
            operations,
            commits: &commits,
            chains: &chains,
            loose: &mut loose,
            version_max: self.version_max,
            end,
            violations: Vec::new(),
            flushed_before_ns: recovered::flushed_before_ns(operations),
            reached: 0,
        };
        recovered.check();
        violations.append(&mut recovered.violations);
        let summary = recovered.summary();
        self.finish(operations, end, summary, violations)
    }

    /// Rule 5: checks that recovering once more, or again after a crash inside recovery, shows the
    /// same.
    ///
    /// # Errors
    /// When the digest differs.
    pub fn check_again(&self, dump: &Dump) -> Result<(), Report> {
        match recovered::same_digest(&self.base, dump) {
            None => Ok(()),
            Some(violation) => Err(Report {
                epoch: self.epoch_count,
                violations: vec![violation],
                count: 1,
            }),
        }
    }

    /// The highest version any epoch so far told of.
    #[must_use]
    pub fn version_max(&self) -> u64 {
        self.version_max
    }

    fn finish(
        &mut self,
        operations: &[Operation],
        end: &End,
        summary: Summary,
        mut violations: Vec<Violation>,
    ) -> Result<Summary, Report> {
        if !violations.is_empty() {
            let count = violations.len();
            violations.truncate(Report::VIOLATION_COUNT_MAX);
            return Err(Report {
                epoch: self.epoch_count + 1,
                violations,
                count,
            });
        }
        let answered = operations.iter().map(order::reached_version);
        let shown = end.dump.entries().map(|(_, _, entry)| entry.version);
        self.version_max = answered.chain(shown).fold(self.version_max, u64::max);
        self.base = end.dump.clone();
        self.epoch_count += 1;
        Ok(summary)
    }
}
