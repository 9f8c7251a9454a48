//! Both reactors against real sockets, by the same claims: delivery, order, back-pressure, closing
//! and cancellation. What only a ring can meet stands in its own tests.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

/// Longest any single wait of these tests may take, microseconds.
const DEADLINE_US: u64 = 10_000_000;

/// A reactor of either kind, for the tests.
pub(super) trait Made: Reactor + Sized {
    fn made() -> Self;
}

impl Made for Ring {
    fn made() -> Self {
        Self::new().unwrap()
    }
}

impl Made for Readiness {
    fn made() -> Self {
        Self::new().unwrap()
    }
}

/// Turns the reactor until `wanted` picks an event.
pub(super) fn wait_for<R: Reactor, T>(
    reactor: &mut R,
    mut wanted: impl FnMut(&mut R, Event<R::Received>) -> Option<T>,
) -> T {
    for _ in 0..100_000 {
        while let Some(event) = reactor.next_event() {
            if let Some(found) = wanted(reactor, event) {
                return found;
            }
        }
        reactor.turn(Some(DEADLINE_US)).unwrap();
    }
    panic!("the event did not come");
}

pub(super) fn frame(bytes: &[u8]) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    buffer.extend_from_slice(bytes);
    buffer
}

pub(super) fn adopted<R: Reactor>(reactor: &mut R) -> (u32, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (reactor.adopt(ours.into()), theirs)
}

fn bytes_arrive_in_order_and_buffers_are_reused<R: Made>() {
    let mut reactor = R::made();
    let (slot, mut peer) = adopted(&mut reactor);
    reactor.receive(slot);
    let sent: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    let mut got = Vec::new();
    wait_for(&mut reactor, |reactor, event| {
        match event {
            Event::Received { received, .. } => {
                assert_eq!(reactor.bytes(&received).as_ptr().addr() % 16, 0);
                got.extend_from_slice(reactor.bytes(&received));
                reactor.recycle(received);
            }
            Event::ReceiveEnded {
                slot,
                reason: ReceiveEnd::Again,
            } => reactor.receive(slot),
            _ => {}
        }
        (got.len() == expected.len()).then_some(())
    });
    assert!(got == expected, "8 MiB through 4 MiB of buffers");
    drop(writer.join().unwrap());
    wait_for(&mut reactor, |reactor, event| match event {
        Event::ReceiveEnded {
            reason: ReceiveEnd::Disconnected,
            ..
        } => Some(()),
        Event::ReceiveEnded { slot, .. } => {
            reactor.receive(slot);
            None
        }
        _ => None,
    });
}

fn a_large_send_completes_once_the_peer_read_it<R: Made>() {
    let mut reactor = R::made();
    let (slot, mut peer) = adopted(&mut reactor);
    let expected: Vec<u8> = (0..=250).cycle().take(20 << 20).collect();
    reactor.send(slot, frame(&expected));
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).unwrap();
        assert!(got == expected);
        peer
    });
    wait_for(&mut reactor, |_, event| match event {
        Event::Sent { result, bytes, .. } => {
            result.unwrap();
            assert_eq!(bytes.len(), 20 << 20);
            Some(())
        }
        _ => None,
    });
    drop(reader.join().unwrap());
}

fn a_paused_connection_receives_nothing_until_armed_again<R: Made>() {
    let mut reactor = R::made();
    let (slot, mut peer) = adopted(&mut reactor);
    reactor.receive(slot);
    reactor.pause(slot);
    wait_for(&mut reactor, |_, event| {
        matches!(
            event,
            Event::ReceiveEnded {
                reason: ReceiveEnd::Paused,
                ..
            }
        )
        .then_some(())
    });
    peer.write_all(b"later").unwrap();
    reactor.waker().wake();
    wait_for(&mut reactor, |_, event| match event {
        Event::Received { .. } => panic!("nothing is received while paused"),
        Event::Woken => Some(()),
        _ => None,
    });
    reactor.receive(slot);
    wait_for(&mut reactor, |reactor, event| match event {
        Event::Received { received, .. } => {
            assert_eq!(reactor.bytes(&received), b"later");
            reactor.recycle(received);
            Some(())
        }
        _ => None,
    });
}

fn closing_ends_a_blocked_send_and_frees_the_slot<R: Made>() {
    let mut reactor = R::made();
    let (slot, peer) = adopted(&mut reactor);
    reactor.receive(slot);
    reactor.send(slot, frame(&[9; 8 << 20]));
    reactor.turn(Some(1_000)).unwrap();
    reactor.close(slot);
    wait_for(&mut reactor, |_, event| {
        matches!(event, Event::Closed).then_some(())
    });
    assert!(reactor.descriptor(slot).is_none());
    drop(peer);
    let (again, _peer) = adopted(&mut reactor);
    assert_eq!(again, slot, "a freed slot is used again");
}

fn one_accept_takes_many_connections_until_cancelled<R: Made>() {
    let directory = std::env::temp_dir().join(format!(
        "in-mem-{}-{}",
        R::made().name(),
        std::process::id()
    ));
    let _ = rustix::fs::unlink(&directory);
    let listener = UnixListener::bind(&directory).unwrap();
    let mut reactor = R::made();
    reactor.accept(listener.as_fd(), true);
    let peers: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(&directory).unwrap())
        .collect();
    let mut count = 0;
    wait_for(&mut reactor, |_, event| {
        count += usize::from(matches!(event, Event::Accepted { .. }));
        (count == peers.len()).then_some(())
    });
    reactor.cancel_accept();
    wait_for(&mut reactor, |_, event| {
        matches!(event, Event::AcceptEnded { error: None }).then_some(())
    });
    rustix::fs::unlink(&directory).unwrap();
}

fn a_wake_up_from_another_thread_ends_the_wait<R: Made>() {
    let mut reactor = R::made();
    for _ in 0..100 {
        let waker = reactor.waker();
        let thread = std::thread::spawn(move || waker.wake());
        wait_for(&mut reactor, |_, event| {
            matches!(event, Event::Woken).then_some(())
        });
        thread.join().unwrap();
    }
}

fn a_reactor_dropped_with_operations_in_flight_gives_every_descriptor_back<R: Made>() {
    for _ in 0..50 {
        let mut reactor = R::made();
        let (slot, mut peer) = adopted(&mut reactor);
        reactor.receive(slot);
        reactor.send(slot, frame(&[1; 4 << 20]));
        reactor.turn(Some(0)).unwrap();
        drop(reactor);
        // The peer sees the end: the connection was closed, not leaked.
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.len() <= 4 << 20);
    }
}

fn a_busy_connection_does_not_starve_another<R: Made>() {
    let mut reactor = R::made();
    let (busy, mut busy_peer) = adopted(&mut reactor);
    let (quiet, mut quiet_peer) = adopted(&mut reactor);
    reactor.receive(busy);
    reactor.receive(quiet);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Never lets the socket run dry; ends with the other end of it.
            let block = vec![7; 1 << 20];
            while busy_peer.write_all(&block).is_ok() {}
            assert!(is_over.load(std::sync::atomic::Ordering::SeqCst));
        });
        for number in 0..20_u8 {
            quiet_peer.write_all(&[number]).unwrap();
            let mut busy_len_bytes = 0;
            wait_for(&mut reactor, |reactor, event| match event {
                Event::Received { slot, received } => {
                    let bytes = reactor.bytes(&received);
                    let is_quiet = slot == quiet;
                    if is_quiet {
                        assert_eq!(bytes, [number]);
                    } else {
                        busy_len_bytes += bytes.len();
                    }
                    reactor.recycle(received);
                    is_quiet.then_some(())
                }
                Event::ReceiveEnded { slot, .. } => {
                    reactor.receive(slot);
                    None
                }
                _ => None,
            });
            // What one turn takes at most lies before it, and what the turn before had left.
            assert!(busy_len_bytes <= 16 << 20, "{busy_len_bytes} bytes first");
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        reactor.close(busy);
    });
}

fn a_peer_that_leaves_ends_a_paused_connection_once_it_is_received_from<R: Made>() {
    let mut reactor = R::made();
    let (slot, mut peer) = adopted(&mut reactor);
    peer.write_all(b"last words").unwrap();
    drop(peer);
    // Nothing is received from it yet: its end is no reason to turn in circles.
    let waker = reactor.waker();
    waker.wake();
    wait_for(&mut reactor, |_, event| match event {
        Event::Woken => Some(()),
        Event::ReceiveEnded { .. } => panic!("nobody asked"),
        _ => None,
    });
    reactor.receive(slot);
    let mut got = Vec::new();
    wait_for(&mut reactor, |reactor, event| match event {
        Event::Received { received, .. } => {
            got.extend_from_slice(reactor.bytes(&received));
            reactor.recycle(received);
            None
        }
        Event::ReceiveEnded { slot, reason } => {
            let is_over = matches!(reason, ReceiveEnd::Disconnected);
            if !is_over {
                reactor.receive(slot);
            }
            is_over.then_some(())
        }
        _ => None,
    });
    assert_eq!(got, b"last words");
}

fn a_listener_may_come_in_either_mode<R: Made>() {
    for is_nonblocking in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(is_nonblocking).unwrap();
        let mut reactor = R::made();
        reactor.accept(listener.as_fd(), false);
        reactor.waker().wake();
        wait_for(&mut reactor, |_, event| {
            matches!(event, Event::Woken).then_some(())
        });
        let _peer = UnixStream::connect(&path).unwrap();
        let mut is_accepted = false;
        wait_for(&mut reactor, |_, event| match event {
            Event::Accepted { .. } => {
                is_accepted = true;
                None
            }
            Event::AcceptEnded { error } => {
                assert!(error.is_none(), "{error:?}");
                Some(())
            }
            _ => None,
        });
        assert!(is_accepted);
    }
}

fn a_wait_without_events_ends_when_its_time_is_over<R: Made>() {
    let mut reactor = R::made();
    for _ in 0..3 {
        reactor.turn(Some(1_000)).unwrap();
        assert!(reactor.next_event().is_none());
    }
}

macro_rules! over {
    ($module:ident, $reactor:ty, $($claim:ident),* $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $claim() {
                    super::$claim::<$reactor>();
                }
            )*
        }
    };
}

macro_rules! over_both {
    ($($claim:ident),* $(,)?) => {
        over!(ring, super::Ring, $($claim),*);
        over!(readiness, super::Readiness, $($claim),*);
    };
}

over_both!(
    bytes_arrive_in_order_and_buffers_are_reused,
    a_large_send_completes_once_the_peer_read_it,
    a_paused_connection_receives_nothing_until_armed_again,
    closing_ends_a_blocked_send_and_frees_the_slot,
    one_accept_takes_many_connections_until_cancelled,
    a_wake_up_from_another_thread_ends_the_wait,
    a_reactor_dropped_with_operations_in_flight_gives_every_descriptor_back,
    a_busy_connection_does_not_starve_another,
    a_peer_that_leaves_ends_a_paused_connection_once_it_is_received_from,
    a_listener_may_come_in_either_mode,
    a_wait_without_events_ends_when_its_time_is_over,
);
