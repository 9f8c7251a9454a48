//! The in-mem daemon: sockets, sessions, dispatch, lifecycle.
