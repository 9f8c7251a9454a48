//! Hand-made histories whose answers or versions break a promise (rules 1 and 2).

use super::*;

#[test]
fn a_faithful_history_passes_and_its_numbers_are_told() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.strict(3, vec![put("a", "2"), put("b", "2")]);
    script.add(4, "n", 1);
    script.read(vec![
        sight("a", 3, "2"),
        sight("b", 3, "2"),
        Sight::absent("c"),
    ]);
    script.shows("a", 3, "2");
    script.shows("b", 3, "2");
    script.dump.insert(RUN, "n", 4, Datum::Int(1));
    let summary = script.after_power_loss().unwrap();
    assert_eq!((summary.acked_count, summary.required_count), (3, 3));
    assert_eq!((summary.entry_count, summary.reached_version), (3, 4));
}

#[test]
fn a_compare_and_swap_counter_that_loses_an_increment_is_caught() {
    let mut script = Script::default();
    let cas = |script: &mut Script, version, expected, value| {
        let expects = vec![Sight::version("n", expected)];
        let writes = vec![Write::Put("n".into(), Datum::Int(value))];
        let mode = Mode::Strict;
        let place = script.sent(
            1,
            Call::Write {
                run: RUN,
                mode,
                expects,
                writes,
            },
        );
        script.ack(place, version, Vec::new());
    };
    cas(&mut script, 1, 0, 1);
    cas(&mut script, 2, 1, 2);
    cas(&mut script, 3, 1, 2);
    script.dump.insert(RUN, "n", 3, Datum::Int(2));
    let violation = only(script.check(Survival::All));
    assert!(
        matches!(violation, Violation::WrongAnswer { version: 3, .. }),
        "{violation}"
    );
}

#[test]
fn half_a_transaction_is_caught_in_a_read_of_both_keys() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1"), put("b", "1")]);
    let place = script.lose_answer(Mode::Strict, vec![put("a", "2"), put("b", "2")]);
    script.read(vec![sight("a", 2, "2"), sight("b", 1, "1")]);
    script.ack(place, 2, Vec::new());
    script.shows("a", 2, "2");
    script.shows("b", 2, "2");
    assert!(matches!(
        only(script.after_kill()),
        Violation::StaleRead { .. }
    ));
}

#[test]
fn a_stale_read_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.strict(2, vec![put("a", "2")]);
    script.read(vec![sight("a", 1, "1")]);
    script.shows("a", 2, "2");
    assert!(matches!(
        only(script.after_kill()),
        Violation::StaleRead { seen: 2, .. }
    ));
}

#[test]
fn a_read_that_overlaps_a_commit_may_see_it_or_not() {
    for seen in [sight("a", 1, "1"), sight("a", 2, "2")] {
        let mut script = Script::default();
        script.strict(1, vec![put("a", "1")]);
        let place = script.lose_answer(Mode::Strict, vec![put("a", "2")]);
        script.read(vec![seen]);
        script.ack(place, 2, Vec::new());
        script.shows("a", 2, "2");
        script.after_kill().unwrap();
    }
}

#[test]
fn a_read_that_goes_back_in_time_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    let place = script.lose_answer(Mode::Strict, vec![put("a", "2")]);
    script.read(vec![sight("a", 2, "2")]);
    script.read(vec![sight("a", 1, "1")]);
    script.ack(place, 2, Vec::new());
    script.shows("a", 2, "2");
    assert!(matches!(
        only(script.after_kill()),
        Violation::StaleRead { .. }
    ));
}

#[test]
fn a_read_of_a_commit_that_was_not_sent_yet_is_caught() {
    let mut script = Script::default();
    script.read(vec![sight("a", 1, "1")]);
    script.strict(1, vec![put("a", "1")]);
    script.shows("a", 1, "1");
    let report = script.after_kill().unwrap_err();
    let is_future = |violation: &Violation| matches!(violation, Violation::ReadFromFuture { .. });
    assert!(report.violations.iter().any(is_future), "{report}");
}

#[test]
fn a_commit_shown_to_a_reader_counts_as_acknowledged() {
    let mut script = Script::default();
    script.lose_answer(Mode::Strict, vec![put("a", "1")]);
    script.read(vec![sight("a", 1, "1")]);
    assert!(matches!(
        only(script.after_power_loss()),
        Violation::AckLost { version: 1, .. }
    ));
    script.shows("a", 1, "1");
    script.after_power_loss().unwrap();
}

#[test]
fn a_version_used_twice_is_caught() {
    let mut script = Script::default();
    let first = script.lose_answer(Mode::Strict, vec![put("a", "1")]);
    let second = script.lose_answer(Mode::Strict, vec![put("b", "1")]);
    script.ack(first, 1, Vec::new());
    script.ack(second, 1, Vec::new());
    script.shows("a", 1, "1");
    script.shows("b", 1, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::VersionReused { version: 1, .. }
    ));
}

#[test]
fn a_commit_ordered_before_what_was_answered_earlier_is_caught() {
    let mut script = Script::default();
    script.strict(2, vec![put("a", "1")]);
    script.strict(1, vec![put("b", "1")]);
    script.shows("a", 2, "1");
    script.shows("b", 1, "1");
    let violation = only(script.after_kill());
    assert!(matches!(
        violation,
        Violation::OrderBroken {
            version: 1,
            seen: 2,
            ..
        }
    ));
}

#[test]
fn increments_without_an_answer_may_count_but_no_more_than_were_sent() {
    for (shown, passes) in [(2, true), (3, true), (4, true), (5, false)] {
        let mut script = Script::default();
        script.add(1, "n", 1);
        script.lose_answer(Mode::Strict, vec![Write::Add("n".into(), 1)]);
        script.lose_answer(Mode::Strict, vec![Write::Add("n".into(), 1)]);
        script.add(9, "n", shown);
        script.dump.insert(RUN, "n", 9, Datum::Int(shown));
        assert_eq!(script.after_kill().is_ok(), passes, "{shown}");
    }
}

#[test]
fn increments_of_different_amounts_without_an_answer_are_told_apart_by_no_value() {
    let lose = |script: &mut Script, amount| {
        script.lose_answer(Mode::Strict, vec![Write::Add("n".into(), amount)]);
    };
    // Each list: what acknowledged increments of one were told, among lost ones of 3, 1 and 2.
    let cases: [(&[i64], bool); 10] = [
        (&[1, 2, 3], true),
        (&[4, 5, 9], true),
        // Here 3 counts first, so the other two make the second 3, and the other way round.
        (&[4, 8], true),
        (&[3, 8], true),
        // Which ones make the first 3 shows only later.
        (&[4, 6], true),
        (&[4, 7], true),
        (&[4, 5, 10], false),
        (&[8, 8], false),
        (&[4, 3], false),
        (&[1, 9], false),
    ];
    for (told, passes) in cases {
        let mut script = Script::default();
        for amount in [3, 1, 2] {
            lose(&mut script, amount);
        }
        for (version, value) in (1..).zip(told) {
            script.add(version * 10, "n", *value);
        }
        let (version, value) = (10 * told.len() as u64, told[told.len() - 1]);
        script.dump.insert(RUN, "n", version, Datum::Int(value));
        assert_eq!(script.after_kill().is_ok(), passes, "{told:?}");
    }
}

#[test]
fn a_counter_that_shows_an_increment_without_an_answer_is_explained_once() {
    for (shown, passes) in [(3, true), (6, true), (8, true), (4, false), (9, false)] {
        let mut script = Script::default();
        script.add(1, "n", 1);
        script.lose_answer(Mode::Strict, vec![Write::Add("n".into(), 2)]);
        script.lose_answer(Mode::Strict, vec![Write::Add("n".into(), 5)]);
        script.dump.insert(RUN, "n", 7, Datum::Int(shown));
        assert_eq!(script.after_kill().is_ok(), passes, "{shown}");
        // Shown is told: an acknowledged increment above it counts on.
        script.dump = Dump::default();
        script.read(vec![Sight::value("n", 7, Datum::Int(shown))]);
        script.add(9, "n", shown + 1);
        script.dump.insert(RUN, "n", 9, Datum::Int(shown + 1));
        assert_eq!(script.after_kill().is_ok(), passes, "{shown}");
    }
}

#[test]
fn a_listing_that_leaves_out_a_key_is_caught() {
    let list = |script: &mut Script, sights| {
        let place = script.sent(1, Call::Read { run: RUN });
        script.done(
            place,
            Outcome::Saw {
                at: None,
                sights,
                listed: Some("a/".into()),
            },
        );
    };
    let mut script = Script::default();
    script.strict(1, vec![put("a/1", "1"), put("a/2", "1"), put("b", "1")]);
    for key in ["a/1", "a/2", "b"] {
        script.shows(key, 1, "1");
    }
    list(
        &mut script,
        vec![sight("a/1", 1, "1"), sight("a/2", 1, "1")],
    );
    script.after_kill().unwrap();
    list(&mut script, vec![sight("a/1", 1, "1")]);
    assert!(matches!(
        only(script.after_kill()),
        Violation::ListingIncomplete { .. }
    ));
}

#[test]
fn a_read_at_a_stated_version_is_held_to_it() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    let place = script.sent(2, Call::Read { run: RUN });
    script.strict(2, vec![put("a", "2")]);
    let sights = vec![sight("a", 1, "1")];
    script.done(
        place,
        Outcome::Saw {
            at: Some(1),
            sights: sights.clone(),
            listed: None,
        },
    );
    script.shows("a", 2, "2");
    script.after_kill().unwrap();
    script.done(
        place,
        Outcome::Saw {
            at: Some(2),
            sights,
            listed: None,
        },
    );
    assert!(matches!(
        only(script.after_kill()),
        Violation::StaleRead { .. }
    ));
}
