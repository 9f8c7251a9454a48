//! Files that define bytes on disk or on the wire: each is pinned with the version it writes.
//!
//! A change of such a file, comments and tests apart, must be looked at: if the bytes changed, the
//! version changes too and the old one stays readable; then the new hash is entered here.

use std::fs;

use super::source::{blank, report, root};

/// File, version of the format it defines, hash of its code.
const PINNED: [(&str, u32, u64); 11] = [
    ("wal/src/format/header.rs", 1, 0x6cda_d7cc_32e7_d240),
    ("wal/src/format/mark.rs", 1, 0xae9e_1815_3092_b5df),
    ("wal/src/format/record.rs", 1, 0xed22_384b_aab3_be61),
    ("snapshot/src/manifest.rs", 1, 0x2d2e_72e3_82df_caec),
    ("snapshot/src/image/format.rs", 1, 0xf806_28ab_4070_e08e),
    ("snapshot/src/image/meta.rs", 1, 0xab41_b6da_4730_5d58),
    ("engine/src/snapshot_view.rs", 1, 0x920c_f1bd_3072_52e6),
    ("engine/src/once_image.rs", 1, 0x752a_ae7e_e810_dbcf),
    ("engine/src/writeset.rs", 1, 0x1cc3_7057_9201_0352),
    ("ipc/src/frame.rs", 1, 0xadff_3f3c_2845_6b05),
    ("ipc/src/hello.rs", 1, 0x8c5f_9c8d_f531_e944),
];

/// FNV-1a over the code without spaces and inline tests.
fn hash(path: &str) -> u64 {
    let text = fs::read_to_string(root().join(path)).expect("a format file");
    let code = blank(&text);
    let end = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
    // Strings count too: blanking removed them, so take the text itself where code remains.
    let bytes = text.as_bytes()[..end].iter().zip(code.bytes());
    bytes
        .filter(|(_, code)| !code.is_ascii_whitespace())
        .fold(0xCBF2_9CE4_8422_2325, |hash, (byte, _)| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}

#[test]
fn a_format_file_changes_only_with_its_version() {
    let places: Vec<String> = PINNED
        .iter()
        .filter_map(|(path, version, pinned)| {
            let found = hash(path);
            let line = format!(
                "{path}: version {version} is pinned at {pinned:#018x}, found {found:#018x}"
            );
            (found != *pinned).then_some(line)
        })
        .collect();
    report(
        "bytes changed: raise the version; code only: enter the new hash",
        &places,
    );
}
