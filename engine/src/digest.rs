//! A number that two databases share iff their logical state does: for tests and for checks after
//! recovery.

use crate::database::Database;

/// FNV-1a, 64 bits: stable over builds and processes, unlike the index's hash.
struct Digest(u64);

impl Digest {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for &byte in bytes {
            self.byte(byte);
        }
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::PRIME);
    }
}

impl Database {
    /// A hash of everything published: runs, keys, every version with its time, tombstones,
    /// trim floors, statuses, and what is kept of exactly-once requests. Meant for a database that nobody writes to; it looks at every version.
    #[must_use]
    pub fn state_digest(&self) -> u64 {
        let store = self.store();
        let mut digest = Digest(Digest::OFFSET_BASIS);
        for shard in store.shards() {
            digest.bytes(shard.run_id.as_bytes());
            let status = crate::runs::published_info(&shard).map(|info| info.status);
            digest.bytes(status.map_or("", |status| status.name()).as_bytes());
            store.for_each_chain(&shard, |key, versions, is_trimmed| {
                digest.number(u64::from(key.tag_byte()));
                digest.bytes(key.user_key());
                digest.number(versions.len() as u64);
                digest.byte(u8::from(is_trimmed));
                for version in versions {
                    digest.number(version.commit_version);
                    digest.number(version.timestamp_us);
                    digest.byte(u8::from(version.is_tombstone));
                    version
                        .expires_at_us
                        .iter()
                        .for_each(|at_us| digest.number(*at_us));
                    digest.bytes(version.value);
                }
            });
            if let Some(once) = &shard.commit.lock().once {
                once.for_each(|bytes, numbers, result| {
                    digest.bytes(bytes);
                    numbers.iter().for_each(|number| digest.number(*number));
                    digest.bytes(result);
                });
            }
        }
        digest.0
    }
}
