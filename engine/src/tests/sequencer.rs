//! The source of commit versions: its floor and its end.

use crate::limits::{VERSION_FLOOR_RESERVE, VERSION_FLOOR_STEP};
use crate::sequencer::{Sequencer, SequencerError};

#[test]
fn no_version_is_issued_above_the_durable_floor() {
    let sequencer = Sequencer::new(7);
    sequencer.floor_durable(9);
    assert_eq!(sequencer.next_version(), Ok(8));
    assert_eq!(sequencer.next_version(), Ok(9));
    assert_eq!(
        sequencer.next_version(),
        Err(SequencerError::FloorNotDurable)
    );
    sequencer.floor_durable(10);
    assert_eq!(sequencer.next_version(), Ok(10));
}

#[test]
fn the_end_of_the_range_is_an_overflow_and_never_wraps() {
    let sequencer = Sequencer::new(u64::MAX - 1);
    assert_eq!(sequencer.next_version(), Ok(u64::MAX));
    assert_eq!(sequencer.next_version(), Err(SequencerError::Overflow));
    assert_eq!(sequencer.last_issued(), u64::MAX);
}

#[test]
fn the_floor_is_asked_for_once_before_it_is_reached() {
    let sequencer = Sequencer::new(0);
    let floor = VERSION_FLOOR_STEP;
    sequencer.floor_durable(floor);
    assert_eq!(
        sequencer.floor_to_ask(floor - VERSION_FLOOR_RESERVE - 1),
        None
    );
    let asked = sequencer.floor_to_ask(floor - VERSION_FLOOR_RESERVE);
    assert_eq!(asked, Some(floor + VERSION_FLOOR_STEP));
    assert_eq!(sequencer.floor_to_ask(floor - 1), None);
}
