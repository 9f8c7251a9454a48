//! Numbers in the sections of a snapshot: little-endian, of fixed width.

use in_mem_snapshot::{BlockSink, BlockSource, SnapshotError};

/// Writes a count or a length.
///
/// # Panics
/// When it does not fit 32 bits: every count and length of the data model does.
pub(crate) fn write_u32(sink: &mut dyn BlockSink, count: usize) -> Result<(), SnapshotError> {
    let count = u32::try_from(count).expect("counts and lengths fit 32 bits");
    sink.write(&count.to_le_bytes())
}

pub(crate) fn write_u64(sink: &mut dyn BlockSink, number: u64) -> Result<(), SnapshotError> {
    sink.write(&number.to_le_bytes())
}

pub(crate) fn array<const N: usize>(
    source: &mut dyn BlockSource,
) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0; N];
    source.read(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn number_u32(source: &mut dyn BlockSource) -> Result<u32, SnapshotError> {
    array(source).map(u32::from_le_bytes)
}

pub(crate) fn number_u64(source: &mut dyn BlockSource) -> Result<u64, SnapshotError> {
    array(source).map(u64::from_le_bytes)
}
