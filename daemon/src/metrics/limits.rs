//! The limits in force, and how much of each is used, for `system.info` and for scrapers.

use super::exposition::{Exposition, Kind};
use crate::shares::Resource;
use crate::store::Store;

use Kind::Gauge;

/// What `system.info` says of limits: `limit <name>` for each, what all together have taken of what
/// is shared, and `user <number> <resource>` for whatever a user has taken.
pub(crate) fn measures(store: &Store) -> Vec<(String, u64)> {
    store.look_at_disk();
    let all = store.shares.all();
    let mut measures = vec![
        (
            "reply_reserved_len_bytes".to_owned(),
            all.get(Resource::ReservedReplies),
        ),
        (
            "gather_len_bytes".to_owned(),
            all.get(Resource::GatheredFrames),
        ),
        ("job_count".to_owned(), all.get(Resource::Jobs)),
        (
            "disk_free_len_bytes".to_owned(),
            store.disk.free_len_bytes(),
        ),
        ("disk_is_low".to_owned(), store.disk.is_low().into()),
    ];
    if let Some(log) = store.database.log_metrics() {
        let available = log.available_len_bytes;
        measures.push(("log_available_len_bytes".to_owned(), available));
    }
    for (user, account) in store.shares.by_user() {
        for (resource, name) in Resource::ALL {
            let taken = account.get(resource);
            if taken != 0 {
                measures.push((format!("user {user} {name}"), taken));
            }
        }
    }
    let limits = store.limits().into_iter();
    measures.extend(limits.map(|(name, value)| (format!("limit {name}"), value)));
    measures
}

/// The same for scrapers.
pub(super) fn expose(text: &mut Exposition, store: &Store) {
    let name = "inmem_limit";
    text.family(
        name,
        Gauge,
        "Each limit in force, in the unit its name says.",
    );
    for (limit, value) in store.limits() {
        text.sample(name, &[("name", limit)], value);
    }
    let name = "inmem_taken";
    let help = "What all users together have taken of what they share.";
    text.family(name, Gauge, help);
    for (resource, label) in Resource::ALL {
        let taken = store.shares.all().get(resource);
        text.sample(name, &[("resource", label)], taken);
    }
    let name = "inmem_user_taken";
    let help = "What each user that is connected has taken of what all share.";
    let by_user = store.shares.by_user();
    if !by_user.is_empty() {
        text.family(name, Gauge, help);
    }
    for (user, account) in by_user {
        let user = user.to_string();
        for (resource, label) in Resource::ALL {
            let labels = [("user", user.as_str()), ("resource", label)];
            text.sample(name, &labels, account.get(resource));
        }
    }
    let help = "Memory of keys and versions by the account of memory_max; 0 without that limit.";
    let memory = store.database.memory_len_bytes();
    text.single("inmem_memory_bytes", Gauge, help, memory);
    let help = "1 while less is free on the disk than disk_free_len_bytes_min: no growing writes.";
    let low = u8::from(store.disk.is_low());
    text.single("inmem_disk_low", Gauge, help, low);
}
