//! Hand-made histories whose recovered state breaks a promise (rules 3, 4 and 5).

use super::*;

#[test]
fn a_lost_strict_ack_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.strict(2, vec![put("b", "1")]);
    script.shows("a", 1, "1");
    let violation = only(script.after_power_loss());
    assert!(
        matches!(violation, Violation::AckLost { version: 2, .. }),
        "{violation}"
    );
}

#[test]
fn a_lost_overwrite_and_a_lost_delete_are_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.strict(2, vec![put("a", "2")]);
    script.shows("a", 1, "1");
    assert!(matches!(
        only(script.after_power_loss()),
        Violation::AckLost { version: 2, .. }
    ));

    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.strict(2, vec![Write::Delete("a".into())]);
    script.shows("a", 1, "1");
    assert!(matches!(
        only(script.after_power_loss()),
        Violation::AckLost { version: 2, .. }
    ));
}

#[test]
fn a_hole_below_a_surviving_buffered_commit_is_caught() {
    let mut script = Script::default();
    script.commit(Mode::Buffered, 1, vec![put("a", "1")]);
    script.commit(Mode::Buffered, 2, vec![put("b", "1")]);
    script.shows("b", 2, "1");
    let violation = only(script.after_power_loss());
    assert!(
        matches!(
            violation,
            Violation::Hole {
                version: 1,
                reached: 2,
                ..
            }
        ),
        "{violation}"
    );
}

#[test]
fn a_buffered_commit_below_a_strict_one_is_as_good_as_strict() {
    let mut script = Script::default();
    script.commit(Mode::Buffered, 1, vec![put("a", "1")]);
    script.strict(2, vec![put("b", "1")]);
    script.shows("b", 2, "1");
    assert!(matches!(
        only(script.after_power_loss()),
        Violation::Hole { version: 1, .. }
    ));
}

#[test]
fn a_buffered_suffix_may_go_with_the_power_but_not_with_the_process() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.commit(Mode::Buffered, 2, vec![put("b", "1")]);
    script.shows("a", 1, "1");
    assert_eq!(script.after_power_loss().unwrap().reached_version, 1);
    assert!(matches!(
        only(script.after_kill()),
        Violation::AckLost { version: 2, .. }
    ));
}

#[test]
fn a_buffered_commit_older_than_the_loss_window_or_flushed_must_survive() {
    let mut script = Script::default();
    script.commit(Mode::Buffered, 1, vec![put("a", "1")]);
    let window = Survival::Restart {
        buffered_acked_before_ns: script.now_ns,
    };
    assert!(matches!(
        only(script.check(window)),
        Violation::AckLost { version: 1, .. }
    ));

    script.after_power_loss().unwrap();
    let flush = script.sent(1, Call::Flush);
    script.after_power_loss().unwrap();
    script.done(
        flush,
        Outcome::Saw {
            at: None,
            sights: Vec::new(),
            listed: None,
        },
    );
    assert!(matches!(
        only(script.after_power_loss()),
        Violation::AckLost { version: 1, .. }
    ));
}

#[test]
fn a_volatile_commit_that_survives_is_caught_and_what_it_covered_comes_back() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.commit(Mode::InMemory, 2, vec![put("a", "2")]);
    script.shows("a", 2, "2");
    script.check(Survival::All).unwrap();
    assert!(matches!(
        only(script.after_kill()),
        Violation::VolatileSurvived { version: 2, .. }
    ));
    script.shows("a", 1, "1");
    script.after_kill().unwrap();
}

#[test]
fn a_lost_increment_is_caught_in_an_answer_and_in_the_recovered_state() {
    let mut script = Script::default();
    script.add(1, "n", 1);
    script.add(2, "n", 1);
    script.dump.insert(RUN, "n", 2, Datum::Int(1));
    let violation = only(script.check(Survival::All));
    assert!(
        matches!(violation, Violation::IncrementLost { version: 2, .. }),
        "{violation}"
    );

    let mut script = Script::default();
    script.add(1, "n", 1);
    script.add(2, "n", 2);
    script.dump.insert(RUN, "n", 1, Datum::Int(1));
    assert!(matches!(
        only(script.after_kill()),
        Violation::IncrementLost { version: 2, .. }
    ));
}

#[test]
fn half_a_transaction_is_caught_in_the_recovered_state_also_without_an_answer() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1"), put("b", "1")]);
    script.shows("a", 1, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::HalfCommit { version: 1, .. }
    ));

    let mut script = Script::default();
    script.lose_answer(Mode::Strict, vec![put("a", "1"), put("b", "1")]);
    script.after_kill().unwrap();
    script.shows("a", 1, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::HalfCommit { version: 1, .. }
    ));
    script.shows("b", 1, "1");
    assert_eq!(script.after_kill().unwrap().unknown_found_count, 1);
    script.shows("b", 2, "1");
    assert!(
        script
            .after_kill()
            .unwrap_err()
            .violations
            .iter()
            .any(|violation| { matches!(violation, Violation::CommitSplit { .. }) })
    );
}

#[test]
fn an_extra_key_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.shows("a", 1, "1");
    script.shows("ghost", 2, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::Invented { version: 2, .. }
    ));

    script.dump.runs.get_mut(&RUN).unwrap().remove("ghost");
    script.shows("ghost", 1, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::ExtraEntry { .. }
    ));

    script.dump.runs.get_mut(&RUN).unwrap().remove("ghost");
    script.dump.insert(OTHER, "a", 1, text("1"));
    assert!(matches!(
        only(script.after_kill()),
        Violation::ExtraEntry { run: OTHER, .. }
    ));
}

#[test]
fn a_wrong_value_at_the_right_version_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.shows("a", 1, "2");
    assert!(matches!(
        only(script.after_kill()),
        Violation::ExtraEntry { .. }
    ));
}

#[test]
fn a_refused_request_that_shows_is_caught() {
    let mut script = Script::default();
    let place = script.lose_answer(Mode::Strict, vec![put("a", "1")]);
    script.done(place, Outcome::Refused);
    script.after_kill().unwrap();
    script.shows("a", 1, "1");
    assert!(matches!(
        only(script.after_kill()),
        Violation::Invented { .. }
    ));
}

#[test]
fn a_version_of_an_earlier_epoch_is_caught_even_if_its_commit_was_lost() {
    let mut script = Script::default();
    script.commit(Mode::Buffered, 7, vec![put("a", "1")]);
    let survival = Survival::Restart {
        buffered_acked_before_ns: 0,
    };
    let mut checker = Checker::new();
    checker
        .check(
            &script.history,
            &End {
                survival,
                dump: Dump::default(),
            },
        )
        .unwrap();

    let mut script = Script::default();
    script.strict(7, vec![put("b", "1")]);
    script.shows("b", 7, "1");
    let violation = only(checker.check(
        &script.history,
        &End {
            survival,
            dump: script.dump,
        },
    ));
    assert!(
        matches!(violation, Violation::VersionRepeated { reached: 7, .. }),
        "{violation}"
    );
}

#[test]
fn a_lost_answer_may_be_in_or_out_but_only_as_part_of_the_prefix() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.lose_answer(Mode::Strict, vec![put("a", "2")]);
    script.shows("a", 1, "1");
    script.after_power_loss().unwrap();
    script.shows("a", 2, "2");
    script.after_power_loss().unwrap();
    script.shows("a", 1, "2");
    script.after_power_loss().unwrap_err();
}

#[test]
fn a_deletion_without_an_answer_explains_a_missing_key() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.lose_answer(Mode::Strict, vec![Write::Delete("a".into())]);
    script.read(vec![Sight::absent("a")]);
    script.after_kill().unwrap();
}

#[test]
fn a_lost_buffered_suffix_of_deletions_is_understood() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1"), put("b", "1"), put("c", "1")]);
    script.commit(Mode::Buffered, 2, vec![Write::Delete("a".into())]);
    script.commit(Mode::Buffered, 3, vec![Write::Delete("b".into())]);
    script.shows("b", 1, "1");
    script.shows("c", 1, "1");
    assert_eq!(script.after_power_loss().unwrap().reached_version, 2);
    let entries = script.dump.runs.get_mut(&RUN).unwrap();
    let b = entries.remove("b").unwrap();
    entries.insert("a".into(), b);
    assert!(
        script.after_power_loss().is_err(),
        "the later deletion without the earlier one"
    );
}

#[test]
fn an_entry_of_an_earlier_epoch_that_changes_by_itself_is_caught() {
    let mut script = Script::default();
    script.strict(1, vec![put("a", "1")]);
    script.shows("a", 1, "1");
    let survival = Survival::Restart {
        buffered_acked_before_ns: u64::MAX,
    };
    let mut checker = Checker::new();
    checker
        .check(
            &script.history,
            &End {
                survival,
                dump: script.dump.clone(),
            },
        )
        .unwrap();
    checker.check_again(&script.dump).unwrap();

    let empty = End {
        survival,
        dump: Dump::default(),
    };
    let violation = only(checker.check(&History::default(), &empty));
    assert!(
        matches!(violation, Violation::BaseChanged { .. }),
        "{violation}"
    );
    let report = checker.check_again(&Dump::default()).unwrap_err();
    assert_eq!(report.violations[0].rule(), Rule::Digest);
}

#[test]
fn the_epochs_of_a_record_are_told_apart_by_when_requests_were_sent() {
    let mut history = History::default();
    let sent = |id, at_ns| Record::Sent {
        id,
        at_ns,
        call: Call::Flush,
    };
    let done = Record::Done {
        id: 1,
        at_ns: 30,
        outcome: Outcome::Refused,
    };
    history.add_worker(1, [sent(1, 10), sent(2, 20), done]);
    let first = history.take_before(15);
    assert_eq!((first.operations.len(), history.operations.len()), (1, 1));
    assert_eq!(first.operations[0].outcome, Outcome::Refused);
    assert_eq!(history.operations[0].outcome, Outcome::Unknown);
}
