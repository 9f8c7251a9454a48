//! How much memory replies may take, on workers that answer and peers that do not read.

use in_mem_ipc::OperationKind;

use super::*;
use crate::dispatch;
use crate::shares::Resource;

/// A number that no user of this machine has.
const OTHER_USER: u32 = 4_000_000_001;

impl Fixture {
    /// These limits from now on.
    pub(super) fn limit(&mut self, change: impl FnOnce(&mut crate::config::Limits)) {
        let mut limits = self.core.store.limits_in_force();
        change(&mut limits);
        self.core.store.set_limits(&limits);
    }

    /// A session of another user.
    pub(super) fn connect_other(&mut self, slot: u32) {
        let mut access = self.core.store.settings.access.clone();
        access.users.push(OTHER_USER.to_string());
        let principals = Principals::resolve(&access).expect("resolves");
        self.core.store.set_principals(principals);
        let credentials = Credentials {
            process: 1,
            user: OTHER_USER,
            group: OTHER_USER,
        };
        self.core.connect(slot, credentials);
        let mut hello = FrameBuffer::new();
        Hello::default().encode(&mut hello).expect("fits");
        self.core.receive(slot, &hello);
        self.core.session_mut(slot).expect("there").outbound.drain();
    }

    fn put_of(&mut self, key: &str, len_bytes: u32) {
        let mut value = vec![0xc6];
        value.extend_from_slice(&len_bytes.to_be_bytes());
        value.resize(value.len() + len_bytes as usize, 7);
        let value = KeyValue {
            key: key.into(),
            value: value.as_slice().into(),
        };
        self.core.receive(0, &frame(1, 0, Operation::KvPut(value)));
        if self.core.session_mut(0).expect("there").job_count != 0 {
            self.wait_for_worker();
            self.core.take_finished_jobs();
        }
        self.drive();
        self.core.finish_turn();
        assert!(is_written(&self.answers(0), 1));
        self.count_all();
    }

    fn get(&mut self, slot: u32, id: u64, key: &str) {
        let get = Operation::KvGet(Key { key: key.into() });
        self.core.receive(slot, &frame(id, 0, get));
    }

    fn awaits_reply(&mut self, slot: u32) -> bool {
        let session = self.core.session_mut(slot).expect("there");
        session.awaiting_reply.is_some()
    }

    /// As the end of a turn counts what each session has.
    fn count_all(&mut self) {
        for slot in self.core.slots() {
            self.core.session_mut(slot).expect("there").count_load();
        }
    }

    pub(super) fn taken(&self, resource: Resource) -> u64 {
        self.core.store.shares.all().get(resource)
    }

    pub(super) fn error_in(&mut self, slot: u32, id: u64) -> (u16, String) {
        match self.answers(slot).as_slice() {
            [(got, Response::Error(error))] if *got == id => (error.sub, error.message.to_string()),
            other => panic!("{} answers", other.len()),
        }
    }
}

/// What was lost: 16 jobs of a session each answered up to 65 MiB, as many sessions as there were.
#[test]
fn a_reply_of_a_worker_has_room_before_it_is_made_and_others_than_its_user_do_not_wait() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.put_of("large", 300 << 10);
    this.connect_other(2);
    this.limit(|limits| limits.reply_len_bytes_per_user_max = 40 << 20);
    this.get(0, 10, "large");
    this.get(1, 11, "large");
    this.get(1, 12, "small");
    assert!(!this.awaits_reply(0) && this.awaits_reply(1));
    let bound = dispatch::reply_len_bytes_max(OperationKind::KvGet, 0);
    assert_eq!(
        this.taken(Resource::ReservedReplies),
        bound,
        "one at a time"
    );
    this.get(2, 13, "large");
    assert!(!this.awaits_reply(2), "another user");
    assert_eq!(this.taken(Resource::ReservedReplies), 2 * bound);
    while this.answers(1).is_empty() {
        this.wait_for_worker();
        this.core.finish_turn();
    }
    let is_done = |this: &mut Fixture| this.core.unfinished_count() == 0;
    while !is_done(&mut this) {
        this.wait_for_worker();
        this.core.finish_turn();
    }
    assert_eq!(this.taken(Resource::ReservedReplies), 0);
    for slot in [0, 2] {
        assert!(matches!(
            this.answers(slot).as_slice(),
            [(_, Response::Value(_))]
        ));
    }
    this.core.disconnect(0);
    this.core.disconnect(1);
    this.core.disconnect(2);
    assert_eq!(this.taken(Resource::QueuedReplies), 0);
}

#[test]
fn a_reply_that_can_never_fit_is_refused_naming_the_limit() {
    let mut this = Fixture::new(1);
    this.start_turn();
    this.put_of("large", 300 << 10);
    this.limit(|limits| limits.reply_len_bytes_per_user_max = 128 << 10);
    this.get(0, 10, "large");
    this.wait_for_worker();
    this.core.finish_turn();
    let (sub, message) = this.error_in(0, 10);
    assert_eq!(sub, SubCode::BudgetExceeded.number());
    assert!(
        message.contains("reply_len_bytes_per_user_max"),
        "{message}"
    );
    assert_eq!(this.taken(Resource::ReservedReplies), 0);
}

#[test]
fn a_user_that_leaves_its_replies_unread_is_told_so_and_others_are_served() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.put_of("value", 100 << 10);
    this.connect_other(2);
    this.limit(|limits| limits.reply_len_bytes_per_user_max = 256 << 10);
    for id in 10..20 {
        this.get(0, id, "value");
    }
    let queued = this.taken(Resource::QueuedReplies);
    assert!((256 << 10..512 << 10).contains(&queued), "{queued} bytes");
    this.get(1, 30, "value");
    let (sub, message) = this.error_in(1, 30);
    assert_eq!(sub, SubCode::ResourceExhausted.number());
    assert!(
        message.contains("reply_len_bytes_per_user_max"),
        "{message}"
    );
    this.core.receive(1, &put(31, 0, "written"));
    this.drive();
    this.core.finish_turn();
    assert!(is_written(&this.answers(1), 31), "its writes go on");
    this.get(2, 32, "value");
    assert!(matches!(
        this.answers(2).as_slice(),
        [(32, Response::Value(_))]
    ));
    // Its first session reads on: what it asked for comes, and the other is served again.
    let mut count = 0;
    while count < 10 {
        count += this.answers(0).len();
        this.count_all();
        this.core.receive(0, &[]);
    }
    this.get(1, 33, "value");
    assert!(matches!(
        this.answers(1).as_slice(),
        [(33, Response::Value(_))]
    ));
}

#[test]
fn a_request_that_waits_too_long_for_room_for_its_reply_is_refused() {
    let mut this = Fixture::new(2);
    this.start_turn();
    this.put_of("large", 300 << 10);
    this.put_of("value", 100 << 10);
    this.limit(|limits| limits.reply_len_bytes_per_user_max = 256 << 10);
    this.get(0, 10, "value");
    this.get(0, 11, "value");
    this.get(1, 12, "large");
    // Not before it is known how large the value is.
    assert!(this.awaits_reply(1));
    this.core.turn_us += 1_000 * this.core.store.limits_in_force().frame_timeout_ms;
    this.core.expire();
    let (sub, _) = this.error_in(1, 12);
    assert_eq!(sub, SubCode::ResourceExhausted.number());
    assert!(!this.awaits_reply(1));
    this.core.receive(1, &frame(13, 0, Operation::SystemPing));
    assert!(matches!(this.answers(1).as_slice(), [(13, Response::Done)]));
}
