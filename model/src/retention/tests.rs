//! Retention policies: what they keep, and that bytes and text give back what they were made of.

use std::time::Duration;

use super::*;

const SEED: u64 = 42;

/// Numbers that depend on the seed alone.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn len(&mut self, below: usize) -> usize {
        usize::try_from(self.next(below as u64)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next(256).to_le_bytes()[0]
    }

    fn plain(&mut self) -> RetentionPolicy {
        match self.next(3) {
            0 => RetentionPolicy::KeepAll,
            1 => RetentionPolicy::keep_last(1 + self.next(u64::MAX - 1)).unwrap(),
            _ => {
                let unit_us = [1, 1_000, 60_000_000, 3_600_000_000][self.len(4)];
                let age = Duration::from_micros((1 + self.next(1_000)) * unit_us);
                RetentionPolicy::keep_for(age).unwrap()
            }
        }
    }

    fn policy(&mut self) -> RetentionPolicy {
        match self.next(3) {
            0 => self.plain(),
            1 => {
                let count = 1 + self.next(UNION_MEMBER_COUNT_MAX as u64);
                RetentionPolicy::union((0..count).map(|_| self.plain()).collect()).unwrap()
            }
            _ => {
                let default = self.plain();
                let mut overrides = Vec::new();
                for primitive in PrimitiveId::ALL {
                    if self.next(2) == 0 {
                        overrides.push((primitive, self.plain()));
                    }
                }
                RetentionPolicy::composite(default, overrides).unwrap()
            }
        }
    }
}

fn keep_last(count: u64) -> RetentionPolicy {
    RetentionPolicy::keep_last(count).unwrap()
}

fn keep_for_us(age_us: u64) -> RetentionPolicy {
    RetentionPolicy::keep_for(Duration::from_micros(age_us)).unwrap()
}

/// Versions newest first; each was made at ten times its number.
fn versions(numbers: &[u64]) -> Vec<VersionAge> {
    let age = |number: &u64| VersionAge {
        commit_version: *number,
        timestamp_us: number * 10,
        is_volatile: false,
    };
    numbers.iter().map(age).collect()
}

fn removable(policy: &RetentionPolicy, numbers: &[u64], watermark: u64, now_us: u64) -> Vec<u64> {
    let moment = RetentionMoment { watermark, now_us };
    policy.compute_removable_versions(&versions(numbers), moment, PrimitiveId::Kv)
}

#[test]
fn a_policy_reads_back_from_its_bytes_and_from_its_text() {
    println!("seed {SEED}");
    let mut numbers = Numbers(SEED);
    for _ in 0..2_000 {
        let policy = numbers.policy();
        let bytes = policy.encode();
        assert_eq!(RetentionPolicy::decode(&bytes), Ok(policy.clone()));
        let text = policy.to_string();
        assert_eq!(text.parse(), Ok(policy), "{text}");
    }
}

#[test]
fn no_bytes_make_the_decoder_panic_and_what_it_accepts_has_exactly_that_form() {
    println!("seed {SEED}");
    let mut numbers = Numbers(SEED);
    let mut accepted_count = 0;
    for _ in 0..20_000 {
        let mut bytes = numbers.policy().encode();
        for _ in 0..numbers.next(3) {
            let at = numbers.len(bytes.len());
            bytes[at] = numbers.byte();
        }
        match numbers.next(4) {
            0 => bytes.truncate(numbers.len(bytes.len() + 1)),
            1 => bytes.push(numbers.byte()),
            _ => {}
        }
        if let Ok(policy) = RetentionPolicy::decode(&bytes) {
            accepted_count += 1;
            assert_eq!(policy.encode(), bytes);
        }
    }
    assert!(0 < accepted_count);
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    let policy = RetentionPolicy::composite(
        keep_last(3),
        vec![
            (PrimitiveId::Vector, RetentionPolicy::KeepAll),
            (PrimitiveId::Kv, keep_for_us(7)),
        ],
    );
    let union = RetentionPolicy::union(vec![keep_last(3), keep_for_us(9)]);
    for policy in [policy.unwrap(), union.unwrap(), keep_last(1)] {
        let bytes = policy.encode();
        assert_eq!(RetentionPolicy::decode(&[]), Err(RetentionError::Empty));
        for len in 1..bytes.len() {
            let refused = RetentionPolicy::decode(&bytes[..len]);
            assert!(
                matches!(refused, Err(RetentionError::InsufficientData { .. })),
                "{len}: {refused:?}"
            );
        }
        let mut longer = bytes.clone();
        longer.push(1);
        let offset = bytes.len();
        let trailing = Err(RetentionError::TrailingBytes { offset });
        assert_eq!(RetentionPolicy::decode(&longer), trailing);
    }
}

#[test]
fn the_bytes_of_each_form_are_frozen() {
    assert_eq!(RetentionPolicy::KeepAll.encode(), [1]);
    assert_eq!(keep_last(0x0102).encode(), [2, 2, 1, 0, 0, 0, 0, 0, 0]);
    let mut age = vec![3, 5];
    age.resize(17, 0);
    assert_eq!(keep_for_us(5).encode(), age);
    let overrides = vec![(PrimitiveId::Event, keep_last(1))];
    let composite = RetentionPolicy::composite(RetentionPolicy::KeepAll, overrides).unwrap();
    let parts = [
        4, 1, 0, 0, 0, 1, 1, 0, 0, 0, 3, 9, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(composite.encode(), parts);
    let union = RetentionPolicy::union(vec![RetentionPolicy::KeepAll]).unwrap();
    assert_eq!(union.encode(), [5, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
}

#[test]
fn a_limit_of_zero_an_empty_union_and_a_nested_composition_are_no_policies() {
    let zero = Err(RetentionError::ZeroLimit);
    assert_eq!(RetentionPolicy::keep_last(0), zero);
    assert_eq!(RetentionPolicy::keep_for(Duration::from_nanos(999)), zero);
    assert_eq!(RetentionPolicy::decode(&[2, 0, 0, 0, 0, 0, 0, 0, 0]), zero);
    let mut age = vec![3];
    age.resize(17, 0);
    assert_eq!(RetentionPolicy::decode(&age), zero);
    assert_eq!(RetentionPolicy::union(vec![]), Err(RetentionError::Empty));
    let nothing = RetentionPolicy::decode(&[5, 0, 0, 0, 0]);
    assert_eq!(nothing, Err(RetentionError::Empty));
    let union = RetentionPolicy::union(vec![RetentionPolicy::KeepAll]).unwrap();
    let deep = Err(RetentionError::NestingTooDeep);
    assert_eq!(RetentionPolicy::union(vec![union.clone()]), deep);
    assert_eq!(RetentionPolicy::composite(union.clone(), vec![]), deep);
    let mut bytes = vec![5, 1, 0, 0, 0, 10, 0, 0, 0];
    bytes.extend(union.encode());
    assert_eq!(RetentionPolicy::decode(&bytes), deep);
    let tag = RetentionError::InvalidTag { tag: 9, offset: 0 };
    assert_eq!(RetentionPolicy::decode(&[9]), Err(tag));
}

#[test]
fn a_primitive_has_one_override_in_order_and_a_name() {
    let twice = vec![
        (PrimitiveId::Kv, keep_last(1)),
        (PrimitiveId::Kv, keep_last(2)),
    ];
    let invalid = |primitive| Err(RetentionError::InvalidPrimitiveType { primitive });
    assert_eq!(
        RetentionPolicy::composite(RetentionPolicy::KeepAll, twice),
        invalid(1)
    );
    let head = [4, 1, 0, 0, 0, 1];
    let all = [1, 0, 0, 0, 1];
    for (ids, refused) in [([2, 1], 1), ([2, 2], 2), ([2, 8], 8), ([0, 1], 0)] {
        let mut bytes = head.to_vec();
        bytes.extend([2, 0, 0, 0]);
        for id in ids {
            bytes.push(id);
            bytes.extend(all);
        }
        assert_eq!(RetentionPolicy::decode(&bytes), invalid(refused));
    }
}

#[test]
fn an_announced_count_allocates_nothing() {
    let many = RetentionPolicy::decode(&[5, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert!(matches!(many, Err(RetentionError::TooManyMembers { .. })));
    let many = RetentionPolicy::decode(&[4, 1, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(many, Err(RetentionError::InsufficientData { offset: 10 }));
    let long = RetentionPolicy::decode(&[5, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    assert_eq!(long, Err(RetentionError::InsufficientData { offset: 9 }));
}

#[test]
fn keep_last_counts_at_or_below_the_watermark_and_the_newest_there_always_stays() {
    let numbers = [9, 8, 6, 4, 2];
    assert_eq!(removable(&keep_last(2), &numbers, 9, 0), [6, 4, 2]);
    assert_eq!(removable(&keep_last(2), &numbers, 7, 0), [2]);
    assert_eq!(removable(&keep_last(1), &numbers, 5, 0), [2]);
    assert_eq!(removable(&keep_last(1), &numbers, 1, 0), [0_u64; 0]);
    assert_eq!(removable(&keep_last(1), &[5], 9, u64::MAX), [0_u64; 0]);
    assert_eq!(removable(&keep_last(1), &[], 9, 0), [0_u64; 0]);
}

#[test]
fn keep_for_reaches_back_from_now_with_that_instant_and_never_past_the_newest() {
    let numbers = [9, 8, 6, 4, 2];
    assert_eq!(removable(&keep_for_us(20), &numbers, 9, 100), [6, 4, 2]);
    assert_eq!(removable(&keep_for_us(40), &numbers, 9, 100), [4, 2]);
    assert_eq!(removable(&keep_for_us(39), &numbers, 9, 100), [6, 4, 2]);
    assert_eq!(
        removable(&keep_for_us(1), &numbers, 9, u64::MAX),
        [8, 6, 4, 2]
    );
    // A clock that ran ahead when the versions were made.
    assert_eq!(removable(&keep_for_us(1), &numbers, 9, 5), [0_u64; 0]);
}

#[test]
fn a_union_keeps_what_any_member_keeps_and_a_composite_what_the_primitive_has() {
    let numbers = [9, 8, 6, 4, 2];
    let union = RetentionPolicy::union(vec![keep_last(2), keep_for_us(60)]).unwrap();
    assert_eq!(removable(&union, &numbers, 9, 100), [2]);
    let overrides = vec![(PrimitiveId::Kv, keep_last(3))];
    let composite = RetentionPolicy::composite(RetentionPolicy::KeepAll, overrides).unwrap();
    assert_eq!(removable(&composite, &numbers, 9, 100), [4, 2]);
    let moment = RetentionMoment {
        watermark: 9,
        now_us: 100,
    };
    let json = composite.compute_removable_versions(&versions(&numbers), moment, PrimitiveId::Json);
    assert!(json.is_empty());
    let all = RetentionPolicy::KeepAll;
    assert!(all.keeps_everything() && !composite.keeps_everything());
    assert!(
        RetentionPolicy::union(vec![keep_last(1), all])
            .unwrap()
            .keeps_everything()
    );
}

#[test]
fn the_newest_logged_version_below_a_volatile_one_stays() {
    let mut numbers = versions(&[9, 8, 6, 4, 2]);
    numbers[0].is_volatile = true;
    numbers[1].is_volatile = true;
    let moment = RetentionMoment {
        watermark: 9,
        now_us: 0,
    };
    let policy = keep_last(1);
    let gone = policy.compute_removable_versions(&numbers, moment, PrimitiveId::Kv);
    assert_eq!(gone, [4, 2]);
    for (number, stays) in [(9, true), (8, true), (6, true), (4, false), (2, false)] {
        let is_retained = policy.is_retained(number, &numbers, moment, PrimitiveId::Kv);
        assert_eq!(is_retained, stays, "{number}");
    }
}

#[test]
fn a_text_that_is_no_policy_says_where() {
    for (text, expected) in [
        ("  keep-all ", "keep-all"),
        ("keep-for 48h", "keep-for 2d"),
        ("keep-for 90s", "keep-for 90s"),
        (
            "union( keep-last 10 ,keep-for 7d )",
            "union(keep-last 10, keep-for 7d)",
        ),
        (
            "composite(default keep-last 2,state keep-all,kv keep-for 1500ms)",
            "composite(default keep-last 2, kv keep-for 1500ms, state keep-all)",
        ),
    ] {
        let policy: RetentionPolicy = text.parse().unwrap();
        assert_eq!(policy.to_string(), expected);
    }
    let syntax = |text: &str| match text.parse::<RetentionPolicy>() {
        Err(PolicyTextError::Syntax { offset, .. }) => Some(offset),
        _ => None,
    };
    for (text, offset) in [
        ("", 0),
        ("keep", 0),
        ("keep-last", 9),
        ("keep-last -1", 10),
        ("keep-for 7", 9),
        ("keep-for 7w", 9),
        ("keep-for 999999999999999999999999999999999999999d", 9),
        ("keep-all keep-all", 9),
        ("union(keep-all", 14),
        ("union(keep-all,)", 15),
        ("composite(keep-all)", 10),
        ("composite(default keep-all, lists keep-all)", 28),
    ] {
        assert_eq!(syntax(text), Some(offset), "{text}");
    }
    let zero = Err(PolicyTextError::Invalid(RetentionError::ZeroLimit));
    assert_eq!("keep-last 0".parse::<RetentionPolicy>(), zero);
    assert_eq!("keep-for 0d".parse::<RetentionPolicy>(), zero);
    let empty = Err(PolicyTextError::Invalid(RetentionError::Empty));
    assert_eq!("union()".parse::<RetentionPolicy>(), empty);
    let deep = Err(PolicyTextError::Invalid(RetentionError::NestingTooDeep));
    assert_eq!("union(union(keep-all))".parse::<RetentionPolicy>(), deep);
}
