//! Requests for exports, on a log that is driven by hand.

use std::path::Path;

use in_mem_ipc::request::db::Export;

use super::*;

fn export(id: u64, name: &'static str) -> FrameBuffer {
    frame(id, 0, Operation::DbExport(Export { name: name.into() }))
}

fn fixture(count: u32, dir: &Path) -> Fixture {
    let settings = Settings {
        export_dir: Some(dir.to_owned()),
        ..Settings::default()
    };
    Fixture::with(count, settings)
}

fn sub_of(answers: &[(u64, Response<'_>)]) -> u16 {
    match answers {
        [(_, Response::Error(error))] => error.sub,
        other => panic!("{other:?}"),
    }
}

/// The export looks whether the commits below it are published, and then copies.
fn finish(this: &mut Fixture) {
    for _ in 0..3 {
        this.drive();
        this.start_turn();
        this.core.finish_turn();
    }
}

#[test]
fn an_export_is_parked_and_answered_when_it_is_made_whoever_else_asks_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut this = fixture(2, dir.path());
    this.start_turn();
    this.core.receive(0, &export(1, "one"));
    this.core.receive(0, &frame(2, 0, Operation::SystemPing));
    this.core.receive(1, &put(3, 0, "key"));
    this.core.finish_turn();
    assert_eq!(this.answers(0), [(2, Response::Done)]);
    this.core.receive(1, &export(4, "two"));
    this.core.receive(1, &frame(5, 0, Operation::DbCheckpoint));
    let refused = this.answers(1);
    assert_eq!(refused.len(), 2, "{refused:?}");
    for answer in refused {
        assert_eq!(sub_of(&[answer]), SubCode::AlreadyInProgress.number());
    }
    finish(&mut this);
    assert!(is_written(&this.answers(1), 3));
    match this.answers(0).as_slice() {
        [(1, Response::Exported(info))] => {
            assert_eq!(&*info.path, dir.path().join("one").to_str().expect("text"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(this.core.unfinished_count(), 0);
    assert!(dir.path().join("one/MANIFEST").exists());
    assert!(!dir.path().join("two").exists());
    this.core.receive(1, &export(6, "one"));
    finish(&mut this);
    let taken = this.answers(1);
    assert_eq!(sub_of(&taken), SubCode::AlreadyExists.number());
}

#[test]
fn a_name_that_is_a_path_and_a_server_without_a_directory_are_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut this = fixture(1, dir.path());
    this.start_turn();
    for name in ["", "..", "../a", "/a", ".a", "a/b"] {
        this.core.receive(0, &export(1, name));
        let refused = this.answers(0);
        assert_eq!(
            sub_of(&refused),
            SubCode::InvalidArgument.number(),
            "{name}"
        );
    }
    let mut this = Fixture::new(1);
    this.start_turn();
    this.core.receive(0, &export(1, "a"));
    assert_eq!(sub_of(&this.answers(0)), SubCode::Unavailable.number());
    let mut this = fixture(1, &dir.path().join("missing"));
    this.start_turn();
    this.core.receive(0, &export(1, "a"));
    assert_eq!(sub_of(&this.answers(0)), SubCode::Unavailable.number());
}
