//! The limits of clients that a reload may change while requests are served.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Limits;

macro_rules! live_limits {
    ($($field:ident),+ $(,)?) => {
        /// One number each, read where it is applied. Relaxed: each holds for itself, from the
        /// next request on that looks at it.
        #[derive(Debug)]
        pub(crate) struct LiveLimits {
            $($field: AtomicU64,)+
        }

        impl LiveLimits {
            /// These limits.
            pub(crate) fn new(limits: &Limits) -> Self {
                Self {
                    $($field: AtomicU64::new(limits.$field),)+
                }
            }

            /// The limits in force.
            #[inline]
            pub(crate) fn get(&self) -> Limits {
                Limits {
                    $($field: self.$field.load(Ordering::Relaxed),)+
                }
            }

            /// These are in force from now on.
            pub(crate) fn set(&self, limits: &Limits) {
                $(self.$field.store(limits.$field, Ordering::Relaxed);)+
            }
        }
    };
}

live_limits!(
    connection_count_max,
    in_flight_count_max,
    in_flight_len_bytes_max,
    reply_len_bytes_max,
    reply_len_bytes_per_user_max,
    reply_total_len_bytes_max,
    gather_len_bytes_max,
    gather_len_bytes_per_user_max,
    open_transaction_count_max,
    open_transaction_count_per_user_max,
    transaction_idle_ms,
    transaction_total_ms,
    frame_timeout_ms,
    shutdown_timeout_ms,
    durable_wait_count_max,
    durable_wait_count_per_user_max,
    connection_count_per_user_max,
    idle_timeout_ms,
    memory_max,
    disk_free_len_bytes_min,
);
