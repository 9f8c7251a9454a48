//! The bytes of one simulated file: pages shared between all copies until one is written.
//!
//! A copy costs one reference count per page, so a crash image of a small log is cheap. Each page
//! keeps its hash once computed, so fingerprints of many images hash only what differs.

use std::sync::{Arc, OnceLock};

use super::rng::mix;

/// Bytes of a page, and the unit in which space is counted.
pub(super) const PAGE_BYTES: usize = 4096;

/// Longest simulated file, bytes: as long as the longest segment may be.
pub(super) const FILE_LEN_BYTES_MAX: u64 = 1 << 32;

/// A file's content. Bytes behind `len` inside the last page are zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages {
    pages: Vec<Slot>,
    len: u64,
}

#[derive(Debug, Clone, Default)]
enum Slot {
    /// Takes no space and reads as zero.
    #[default]
    Hole,
    /// Takes space and reads as zero.
    Zero,
    Bytes(Arc<Page>),
}

#[derive(Debug)]
struct Page {
    bytes: [u8; PAGE_BYTES],
    hash: OnceLock<u64>,
}

impl Clone for Page {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes,
            hash: OnceLock::new(),
        }
    }
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages that take space.
    pub(super) fn allocated_count(&self) -> usize {
        self.pages
            .iter()
            .filter(|slot| !matches!(slot, Slot::Hole))
            .count()
    }

    /// Pages of `offset..end` that take no space yet.
    pub(super) fn hole_count(&self, offset: u64, end: u64) -> usize {
        if end <= offset {
            return 0;
        }
        let (first, last) = (page_of(offset), page_of(end - 1));
        let is_hole = |page: &usize| matches!(self.pages.get(*page), None | Some(Slot::Hole));
        (first..=last).filter(is_hole).count()
    }

    /// Copies bytes at `offset` into `target` and says how many the file has there.
    pub(super) fn read(&self, offset: u64, target: &mut [u8]) -> usize {
        let available = index(self.len.saturating_sub(offset).min(target.len() as u64));
        let mut rest = target.get_mut(..available).unwrap_or_default();
        let mut position = offset;
        while !rest.is_empty() {
            let within = index(position % PAGE_BYTES as u64);
            let count = rest.len().min(PAGE_BYTES - within);
            let (piece, behind) = rest.split_at_mut(count);
            match self.pages.get(page_of(position)) {
                Some(Slot::Bytes(page)) => {
                    piece.copy_from_slice(page.bytes.get(within..within + count).unwrap_or(&[]));
                }
                _ => piece.fill(0),
            }
            rest = behind;
            position += count as u64;
        }
        available
    }

    /// Puts `bytes` at `offset`; the file grows as needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        self.len = self.len.max(if bytes.is_empty() { 0 } else { end });
        let mut rest = bytes;
        let mut position = offset;
        while !rest.is_empty() {
            let within = index(position % PAGE_BYTES as u64);
            let (piece, behind) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            let slot = self.slot(page_of(position));
            if piece.len() == PAGE_BYTES && is_zero(piece) {
                *slot = Slot::Zero;
            } else {
                slot.overwrite(within, piece);
            }
            rest = behind;
            position += piece.len() as u64;
        }
    }

    /// Sets the length; bytes gained are holes, bytes lost are gone.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let within = index(len % PAGE_BYTES as u64);
            self.pages.truncate(page_of(len) + usize::from(within != 0));
            if within != 0
                && let Some(last @ Slot::Bytes(_)) = self.pages.get_mut(page_of(len))
            {
                let zeros = [0; PAGE_BYTES];
                last.overwrite(within, zeros.get(within..).unwrap_or(&[]));
            }
        }
        self.len = len;
    }

    /// Makes every page below `len` take space, and the file at least that long.
    pub(super) fn allocate(&mut self, len: u64) {
        self.len = self.len.max(len);
        if len > 0 {
            self.slot(page_of(len - 1));
        }
        for slot in self
            .pages
            .iter_mut()
            .take(index(len.div_ceil(PAGE_BYTES as u64)))
        {
            if matches!(slot, Slot::Hole) {
                *slot = Slot::Zero;
            }
        }
    }

    /// Inverts the bits of `mask` in the byte at `offset`; false when the file ends before it.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) -> bool {
        let mut byte = [0];
        if self.read(offset, &mut byte) == 0 {
            return false;
        }
        self.write(offset, &byte.map(|byte| byte ^ mask));
        true
    }

    /// A number that differs, but for chance, when length or content do.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(self.len ^ 0x5EED);
        let page_count = index(self.len.div_ceil(PAGE_BYTES as u64));
        for page in 0..page_count {
            let page_hash = match self.pages.get(page) {
                Some(Slot::Bytes(page)) => *page.hash.get_or_init(|| hash_page(&page.bytes)),
                _ => zero_page_hash(),
            };
            hash = mix(hash ^ page_hash);
        }
        hash
    }

    fn slot(&mut self, page: usize) -> &mut Slot {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, Slot::default);
        }
        self.pages
            .get_mut(page)
            .expect("the vector was just made longer than that")
    }
}

impl Slot {
    fn overwrite(&mut self, within: usize, piece: &[u8]) {
        if !matches!(self, Self::Bytes(_)) {
            let page = Page {
                bytes: [0; PAGE_BYTES],
                hash: OnceLock::new(),
            };
            *self = Self::Bytes(Arc::new(page));
        }
        if let Self::Bytes(page) = self {
            let page = Arc::make_mut(page);
            page.hash = OnceLock::new();
            if let Some(target) = page.bytes.get_mut(within..within + piece.len()) {
                target.copy_from_slice(piece);
            }
        }
    }
}

fn page_of(offset: u64) -> usize {
    index(offset / PAGE_BYTES as u64)
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are shorter than the address space")
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn hash_page(bytes: &[u8; PAGE_BYTES]) -> u64 {
    // Four lanes, so that the multiplications of neighbouring words overlap.
    let mut lanes = [1_u64, 2, 3, 4];
    let (words, _) = bytes.as_chunks::<8>();
    for group in words.chunks(lanes.len()) {
        for (lane, word) in lanes.iter_mut().zip(group) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(0x9FB2_1C65_1E98_DF25);
            *lane ^= *lane >> 29;
        }
    }
    lanes.iter().fold(0, |hash, lane| mix(hash ^ lane))
}

fn zero_page_hash() -> u64 {
    static HASH: OnceLock<u64> = OnceLock::new();
    *HASH.get_or_init(|| hash_page(&[0; PAGE_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::super::rng::SimRng;
    use super::*;

    fn content(pages: &Pages) -> Vec<u8> {
        let mut bytes = vec![0xEE; index(pages.len()) + 10];
        let count = pages.read(0, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn random_changes_agree_with_a_plain_vector() {
        for seed in 0..200 {
            let mut rng = SimRng::new(seed);
            let (mut pages, mut model) = (Pages::default(), Vec::<u8>::new());
            for _ in 0..30 {
                let offset = rng.index(10_000);
                let len = rng.index(9_000);
                match rng.below(4) {
                    0 => {
                        pages.set_len(len as u64);
                        model.resize(len, 0);
                    }
                    1 => {
                        pages.allocate(len as u64);
                        model.resize(model.len().max(len), 0);
                    }
                    draw => {
                        let byte = if draw == 2 {
                            0
                        } else {
                            u8::try_from(rng.below(256)).expect("small")
                        };
                        pages.write(offset as u64, &vec![byte; len]);
                        if len > 0 {
                            model.resize(model.len().max(offset + len), 0);
                            model[offset..offset + len].fill(byte);
                        }
                    }
                }
                assert_eq!(content(&pages), model, "seed {seed}");
                let mut rewritten = Pages::default();
                rewritten.set_len(model.len() as u64);
                rewritten.write(0, &model);
                assert_eq!(rewritten.hash(), pages.hash(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_copy_keeps_its_bytes_and_its_hash_when_the_original_changes() {
        let mut pages = Pages::default();
        pages.write(0, &[1; 9000]);
        let copy = pages.clone();
        let hash = copy.hash();
        pages.write(5000, &[2]);
        assert_ne!(pages.hash(), hash);
        assert_eq!(copy.hash(), hash);
        assert_eq!(content(&copy), vec![1; 9000]);
        assert!(pages.flip(5000, 3));
        assert_eq!(pages.hash(), hash);
        assert!(!pages.flip(9000, 1));
    }

    #[test]
    fn only_pages_written_or_allocated_take_space() {
        let mut pages = Pages::default();
        pages.set_len(100_000);
        assert_eq!(pages.allocated_count(), 0);
        assert_eq!(pages.hole_count(4095, 4097), 2);
        pages.write(4095, &[1, 1]);
        assert_eq!(pages.allocated_count(), 2);
        pages.allocate(20_000);
        assert_eq!(pages.allocated_count(), 5);
        pages.write(0, &[0; 4096]);
        assert_eq!(pages.allocated_count(), 5);
        assert_eq!(pages.hole_count(0, 20_001), 0);
        assert_eq!(pages.hole_count(0, 0), 0);
    }
}
