//! The wire of in-mem: frames, requests, responses. A codec without I/O.
