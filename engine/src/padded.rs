//! A value alone on its cache lines.

/// Keeps a hot atomic away from its neighbours. 128 bytes: x86-64 prefetches lines in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct Padded<T>(pub(crate) T);
