//! The disk image of in-mem: MANIFEST.
