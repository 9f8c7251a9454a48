//! The model and the wire say the same: every term converts there and back.

use in_mem_model::{
    Durability, Error, ErrorClass, Level, Outcome, Retry, RunId, RunStatus, SubCode, Version,
};

use crate::codec::{FrameBuffer, access_response, encode_response};
use crate::convert::UnknownClass;
use crate::frame::parse_frame;
use crate::request::run::RunState;
use crate::request::version::TaggedVersion;
use crate::request::{DurabilityChoice, RunChoice};
use crate::response::system::{CommitOutcome, ErrorBody, RetryAdvice};
use crate::response::{ReachedLevel, Receipt, Response};

#[test]
fn every_term_of_the_model_converts_there_and_back() {
    for durability in [
        Durability::InMemory,
        Durability::Buffered,
        Durability::Strict,
    ] {
        assert_eq!(
            DurabilityChoice::from(durability).durability(),
            Some(durability)
        );
    }
    assert_eq!(DurabilityChoice::Session.durability(), None);
    for level in [
        None,
        Some(Level::Volatile),
        Some(Level::Logged),
        Some(Level::Synced),
    ] {
        assert_eq!(ReachedLevel::from(level).level(), level);
    }
    for version in [Version::Txn(7), Version::Sequence(8), Version::Counter(9)] {
        assert_eq!(Version::from(TaggedVersion::from(version)), version);
        let receipt = Receipt::new(version, 11, Level::Synced);
        assert_eq!(Version::from(receipt.tagged_version()), version);
        assert_eq!(receipt.commit_version, 11);
    }
    for status in RunStatus::ALL.into_iter().map(Some).chain([None]) {
        assert_eq!(RunState::from(status).status(), status);
    }
    for outcome in [Outcome::NotCommitted, Outcome::OutcomeUnknown] {
        assert_eq!(Outcome::from(CommitOutcome::from(outcome)), outcome);
    }
    for retry in Retry::ALL {
        assert_eq!(Retry::from(RetryAdvice::from(retry)), retry);
    }
    let run = RunId([7; 16]);
    assert_eq!(RunChoice::from(run).run_id(), Some(run));
    assert_eq!(RunChoice::Session.run_id(), None);
}

#[test]
fn every_error_crosses_the_wire_unchanged() {
    let errors = SubCode::ALL
        .iter()
        .map(|sub| Error::new(*sub, "message").with_outcome(Outcome::OutcomeUnknown))
        .chain(
            ErrorClass::ALL
                .into_iter()
                .map(|class| Error::of_class(class, "message")),
        )
        .map(|error| {
            error
                .with_detail("reason", "text")
                .with_detail("offset", 12_u64)
                .with_detail("actual", Version::Counter(3))
        });
    for error in errors {
        let mut buffer = FrameBuffer::new();
        let response = Response::Error(ErrorBody::from(&error));
        encode_response(&response, 1, &mut buffer).unwrap();
        let body = parse_frame(&buffer).unwrap().unwrap().body;
        let read = Response::from_archived(access_response(body).unwrap()).unwrap();
        let Response::Error(body) = read else {
            panic!("not an error: {read:?}")
        };
        assert_eq!(Error::try_from(body), Ok(error));
    }
}

#[test]
fn an_unknown_class_is_refused_and_an_unknown_sub_code_dropped() {
    let error = Error::new(SubCode::CasMismatch, "message");
    let unknown_class = ErrorBody {
        class: 99,
        ..ErrorBody::from(&error)
    };
    assert_eq!(
        Error::try_from(unknown_class),
        Err(UnknownClass { number: 99 })
    );
    let unknown_sub = ErrorBody {
        sub: 65_000,
        ..ErrorBody::from(&error)
    };
    assert_eq!(
        Error::try_from(unknown_sub),
        Ok(Error { sub: None, ..error })
    );
}
