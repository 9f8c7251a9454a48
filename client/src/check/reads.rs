//! Rule 2 for everything that only looked: there is one moment, not before what had been answered
//! when the request was sent, that shows all it saw.

use std::collections::HashSet;

use super::chain::{Chains, Moments, link_at, moments, moments_of};
use super::history::{Operation, Outcome, Run, Sight};
use super::order::Floors;
use super::unknown::Loose;
use super::violation::Violation;

/// Compares answers with the replayed chains.
pub(super) struct Reads<'a, 'l> {
    pub(super) operations: &'a [Operation],
    pub(super) chains: &'l Chains<'a>,
    pub(super) floors: &'l Floors,
    pub(super) loose: &'l mut Loose<'a>,
    pub(super) version_max: u64,
    pub(super) violations: Vec<Violation>,
}

impl Reads<'_, '_> {
    /// Checks every answer of requests that committed nothing.
    pub(super) fn check(&mut self) {
        for (place, operation) in self.operations.iter().enumerate() {
            let Outcome::Saw { at, sights, listed } = &operation.outcome else {
                continue;
            };
            let Some(run) = operation.run() else { continue };
            let floor = self.floors.run(place);
            let within = match at {
                None => vec![(floor, u64::MAX)],
                Some(at) if floor <= *at => vec![(*at, *at)],
                Some(_) => Moments::new(),
            };
            let shown = self.sights(operation, &run, sights, within, floor);
            if let (Some(within), Some(prefix)) = (shown, listed) {
                self.listing(operation, &run, sights, prefix, within);
            }
        }
    }

    /// The moments that show every sight; nothing once a violation is reported.
    fn sights(
        &mut self,
        operation: &Operation,
        run: &Run,
        sights: &[Sight],
        mut within: Moments,
        floor: u64,
    ) -> Option<Moments> {
        let done_at_ns = operation.done_at_ns.unwrap_or(u64::MAX);
        for sight in sights {
            // It may have been so at any moment, not only where the replay shows the same.
            if self.loose.explains(run, sight, done_at_ns) {
                continue;
            }
            let chain = self.chains.chain(run, &sight.key);
            let narrowed = moments_of(sight, chain, &within, self.version_max);
            if narrowed.is_empty() {
                self.violations.push(Violation::StaleRead {
                    name: operation.name(),
                    key: sight.key.clone(),
                    answered: sight.shown(),
                    seen: floor,
                });
                return None;
            }
            if let Some(writer) = self.writer_after(sight, run, done_at_ns) {
                let (name, key) = (operation.name(), sight.key.clone());
                self.violations
                    .push(Violation::ReadFromFuture { name, key, writer });
                return None;
            }
            within = narrowed;
        }
        Some(within)
    }

    /// Who wrote what was seen, if it was sent only after the answer.
    fn writer_after(
        &self,
        sight: &Sight,
        run: &Run,
        done_at_ns: u64,
    ) -> Option<super::violation::Name> {
        let link = link_at(self.chains.chain(run, &sight.key), sight.version?)?;
        let writer = self.operations.get(link.writer?)?;
        (done_at_ns < writer.sent_at_ns).then(|| writer.name())
    }

    fn listing(
        &mut self,
        operation: &Operation,
        run: &Run,
        sights: &[Sight],
        prefix: &str,
        mut within: Moments,
    ) {
        let named: HashSet<&str> = sights.iter().map(|sight| sight.key.as_str()).collect();
        let done_at_ns = operation.done_at_ns.unwrap_or(u64::MAX);
        for (key, chain) in self.chains.listed(run, prefix) {
            if named.contains(key) || self.loose.explains(run, &Sight::absent(key), done_at_ns) {
                continue;
            }
            let is_absent = |link: Option<&super::chain::Link<'_>>| {
                link.is_none_or(|link| link.datum.is_none())
            };
            let narrowed = moments(chain, &within, is_absent);
            if narrowed.is_empty() {
                self.violations.push(Violation::ListingIncomplete {
                    name: operation.name(),
                    prefix: prefix.to_owned(),
                    key: key.to_owned(),
                });
                return;
            }
            within = narrowed;
        }
    }
}
