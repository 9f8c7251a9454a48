//! The entries each key went through in an epoch, in commit order.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::history::{Datum, Dump, Run, Sight};

/// One entry of a key.
#[derive(Debug, Clone)]
pub(super) struct Link<'a> {
    pub(super) version: u64,
    /// Nothing for a tombstone.
    pub(super) datum: Option<Cow<'a, Datum>>,
    /// Place of the request that made it; nothing if it was there before the epoch.
    pub(super) writer: Option<usize>,
    /// No entry of the key up to this one held a value.
    pub(super) was_never_live: bool,
}

/// The entries of one key, ascending.
pub(super) type Chain<'a> = Vec<Link<'a>>;

/// The entries of every key that the epoch began with or touched.
pub(super) struct Chains<'a> {
    pub(super) runs: HashMap<Run, BTreeMap<&'a str, Chain<'a>>>,
}

impl<'a> Chains<'a> {
    /// The state an epoch begins with.
    pub(super) fn of_base(base: &'a Dump) -> Self {
        let mut chains = Self {
            runs: HashMap::new(),
        };
        for (run, key, entry) in base.entries() {
            let datum = entry.datum.as_ref().map(Cow::Borrowed);
            chains.push(*run, key, entry.version, datum, None);
        }
        chains
    }

    /// The newest entry of a key.
    pub(super) fn newest(&self, run: &Run, key: &str) -> Option<&Link<'a>> {
        self.chain(run, key).last()
    }

    /// All entries of a key.
    pub(super) fn chain(&self, run: &Run, key: &str) -> &[Link<'a>] {
        self.runs
            .get(run)
            .and_then(|keys| keys.get(key))
            .map_or(&[], Vec::as_slice)
    }

    /// The keys of a run that begin with `prefix`, ascending.
    pub(super) fn listed<'p>(
        &'p self,
        run: &Run,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'p str, &'p [Link<'p>])> {
        let keys = self.runs.get(run).into_iter();
        keys.flat_map(move |keys| keys.range(prefix..))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, chain)| (*key, chain.as_slice()))
    }

    /// Adds an entry; a second one of the same commit replaces the first.
    pub(super) fn push(
        &mut self,
        run: Run,
        key: &'a str,
        version: u64,
        datum: Option<Cow<'a, Datum>>,
        writer: Option<usize>,
    ) {
        let chain = self.runs.entry(run).or_default().entry(key).or_default();
        if chain.last().is_some_and(|last| last.version == version) {
            chain.pop();
        }
        let was_never_live = datum.is_none() && chain.last().is_none_or(|last| last.was_never_live);
        chain.push(Link {
            version,
            datum,
            writer,
            was_never_live,
        });
    }
}

/// The newest entry at or below a version.
pub(super) fn link_at<'c, 'a>(chain: &'c [Link<'a>], version: u64) -> Option<&'c Link<'a>> {
    let count = chain.partition_point(|link| link.version <= version);
    chain.get(count.checked_sub(1)?)
}

/// A set of versions: ranges, first and last inclusive, ascending.
pub(super) type Moments = Vec<(u64, u64)>;

/// The moments of `within` at which the key of `chain` fits.
pub(super) fn moments(
    chain: &[Link<'_>],
    within: &Moments,
    fits: impl Fn(Option<&Link<'_>>) -> bool,
) -> Moments {
    let starts =
        std::iter::once((0, None)).chain(chain.iter().map(|link| (link.version, Some(link))));
    let ends = chain
        .iter()
        .map(|link| link.version.saturating_sub(1))
        .chain([u64::MAX]);
    let fitting = starts.zip(ends).filter(|((first, _), last)| first <= last);
    let fitting: Moments = fitting
        .filter(|((_, link), _)| fits(*link))
        .map(|((first, _), last)| (first, last))
        .collect();
    intersection(&fitting, within)
}

/// The moments of `within` at which `sight` fits.
pub(super) fn moments_of(
    sight: &Sight,
    chain: &[Link<'_>],
    within: &Moments,
    version_max: u64,
) -> Moments {
    moments(chain, within, |link| sight.fits(link, version_max))
}

fn intersection(left: &Moments, right: &Moments) -> Moments {
    let mut common = Moments::new();
    let (mut lefts, mut rights) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(one), Some(other)) = (lefts.peek(), rights.peek()) {
        let (first, last) = (one.0.max(other.0), one.1.min(other.1));
        if first <= last {
            common.push((first, last));
        }
        if one.1 < other.1 {
            lefts.next();
        } else {
            rights.next();
        }
    }
    common
}
