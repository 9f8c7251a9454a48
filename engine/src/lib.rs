//! The embedded database of in-mem: run shards, version chains, transactions, the commit pipeline, recovery.
