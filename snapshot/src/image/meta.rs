//! The beginning of section 0: what a snapshot says about itself. Little-endian.
//!
//! ```text
//! meta := snapshot_id u64 | watermark_txn u64 | database_uuid 16 | version_floor u64
//!         | codec_id_len u32 | codec id, UTF-8
//! ```
//!
//! `watermark_txn` is authoritative: records at or below it are inside, records above it are not.
//! What follows in section 0 belongs to the engine.

use super::{BlockSink, BlockSource, SnapshotError};

/// Longest codec id, bytes: as in MANIFEST.
const CODEC_ID_LEN_BYTES_MAX: usize = 255;

/// What a snapshot says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Its number; also in its name.
    pub snapshot_id: u64,
    /// Every logged commit at or below it is inside, none above it.
    pub watermark_txn: u64,
    /// The database it belongs to.
    pub database_uuid: [u8; 16],
    /// No commit version above it had been issued.
    pub version_floor: u64,
    /// The codec of its blocks; at most 255 bytes.
    pub codec_id: String,
}

impl SnapshotMeta {
    pub(super) fn write(&self, sink: &mut dyn BlockSink) -> Result<(), SnapshotError> {
        assert!(
            self.codec_id.len() <= CODEC_ID_LEN_BYTES_MAX,
            "a codec id is a short name"
        );
        let codec_id_len = u32::try_from(self.codec_id.len()).expect("at most 255");
        sink.write(&self.snapshot_id.to_le_bytes())?;
        sink.write(&self.watermark_txn.to_le_bytes())?;
        sink.write(&self.database_uuid)?;
        sink.write(&self.version_floor.to_le_bytes())?;
        sink.write(&codec_id_len.to_le_bytes())?;
        sink.write(self.codec_id.as_bytes())
    }

    pub(super) fn read(source: &mut dyn BlockSource) -> Result<Self, SnapshotError> {
        let snapshot_id = u64::from_le_bytes(array(source)?);
        let watermark_txn = u64::from_le_bytes(array(source)?);
        let database_uuid = array(source)?;
        let version_floor = u64::from_le_bytes(array(source)?);
        let len = usize::try_from(u32::from_le_bytes(array(source)?)).unwrap_or(usize::MAX);
        if CODEC_ID_LEN_BYTES_MAX < len {
            return Err(source.meaningless("length of the codec id"));
        }
        let mut codec_id = vec![0; len];
        source.read(&mut codec_id)?;
        let codec_id = String::from_utf8(codec_id).map_err(|_| source.meaningless("codec id"))?;
        Ok(Self {
            snapshot_id,
            watermark_txn,
            database_uuid,
            version_floor,
            codec_id,
        })
    }
}

fn array<const N: usize>(source: &mut dyn BlockSource) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0; N];
    source.read(&mut bytes)?;
    Ok(bytes)
}
