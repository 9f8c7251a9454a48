//! The good client among the bad ones.

use crate::SEVEN;
use crate::daemon_process::{DEADLINE, Daemon};
use crate::raw_client::RawClient;

/// How much the daemon may grow over a test, KiB: caches of the allocator and of the sessions.
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// A client that must be served as if nobody else were there.
pub(crate) struct Witness {
    pub(crate) client: RawClient,
    count: u64,
    pub(crate) descriptors_before: usize,
    resident_before_kib: u64,
}

impl Witness {
    pub(crate) fn new(daemon: &Daemon) -> Self {
        let mut client = RawClient::connect(daemon.socket());
        client.put("witness", SEVEN);
        Self {
            client,
            count: 0,
            descriptors_before: daemon.descriptor_count(),
            resident_before_kib: daemon.resident_kib(),
        }
    }

    /// One put and one get, both answered.
    pub(crate) fn check(&mut self) {
        self.count += 1;
        let value = [0xce, 0, 0, 0, 0].map(|byte: u8| byte);
        let mut value = value.to_vec();
        value[1..].copy_from_slice(&u32::try_from(self.count).unwrap().to_be_bytes());
        self.client.put("witness", &value);
        assert_eq!(self.client.get("witness"), Some(value));
    }

    /// Nothing was left behind. Closed connections are reaped by the time a later one is served.
    pub(crate) fn finish(mut self, daemon: &Daemon) {
        self.check();
        let end = std::time::Instant::now() + DEADLINE;
        while daemon.descriptor_count() > self.descriptors_before {
            assert!(
                std::time::Instant::now() < end,
                "descriptors are not given back, {} were there: {:?}",
                self.descriptors_before,
                daemon.descriptors()
            );
            self.check();
        }
        let grown_kib = daemon
            .resident_kib()
            .saturating_sub(self.resident_before_kib);
        assert!(grown_kib < GROWTH_KIB_MAX, "memory grew by {grown_kib} KiB");
    }
}
