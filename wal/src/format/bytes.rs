//! Fixed-width little-endian fields at fixed offsets.

/// The `N` bytes at `offset`, if they are there.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    let end = offset.checked_add(N)?;
    bytes.get(offset..end)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// Writes a field at its offset.
///
/// # Panics
/// When the target is too short: formats reserve their whole length first.
pub(super) fn put(target: &mut [u8], offset: usize, field: &[u8]) {
    let field_end = offset + field.len();
    let place = target
        .get_mut(offset..field_end)
        .expect("a format reserves its length");
    place.copy_from_slice(field);
}
