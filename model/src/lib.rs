//! The data model of in-mem: ids, keys, values and their one binary encoding, versions, limits, error codes.
