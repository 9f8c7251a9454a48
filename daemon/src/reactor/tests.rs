//! The ring against real sockets: delivery, order, back-pressure, closing and cancellation.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

/// Longest any single wait of these tests may take, microseconds.
const DEADLINE_US: u64 = 10_000_000;

/// Turns the ring until `wanted` picks an event.
fn wait_for<T>(ring: &mut Ring, mut wanted: impl FnMut(&mut Ring, Event) -> Option<T>) -> T {
    for _ in 0..100_000 {
        while let Some(event) = ring.next_event() {
            if let Some(found) = wanted(ring, event) {
                return found;
            }
        }
        ring.turn(Some(DEADLINE_US)).unwrap();
    }
    panic!("the event did not come");
}

fn frame(bytes: &[u8]) -> FrameBuffer {
    let mut buffer = FrameBuffer::new();
    buffer.extend_from_slice(bytes);
    buffer
}

fn adopted(ring: &mut Ring) -> (u32, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ring.adopt(ours.into()), theirs)
}

#[test]
fn bytes_arrive_in_order_and_buffers_are_reused() {
    let mut ring = Ring::new().unwrap();
    let (slot, mut peer) = adopted(&mut ring);
    ring.receive(slot);
    let sent: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    let mut got = Vec::new();
    wait_for(&mut ring, |ring, event| {
        match event {
            Event::Received { received, .. } => {
                assert_eq!(ring.bytes(&received).as_ptr().addr() % 16, 0);
                got.extend_from_slice(ring.bytes(&received));
                ring.recycle(received);
            }
            Event::ReceiveEnded {
                slot,
                reason: ReceiveEnd::Again,
            } => ring.receive(slot),
            _ => {}
        }
        (got.len() == expected.len()).then_some(())
    });
    assert!(got == expected, "8 MiB through 4 MiB of buffers");
    drop(writer.join().unwrap());
    wait_for(&mut ring, |ring, event| match event {
        Event::ReceiveEnded {
            reason: ReceiveEnd::Disconnected,
            ..
        } => Some(()),
        Event::ReceiveEnded { slot, .. } => {
            ring.receive(slot);
            None
        }
        _ => None,
    });
}

#[test]
fn running_out_of_buffers_is_reported_and_loses_nothing() {
    let mut ring = Ring::new().unwrap();
    let (slot, mut peer) = adopted(&mut ring);
    ring.receive(slot);
    let sent = vec![3u8; 6 << 20];
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    let mut kept = Vec::new();
    wait_for(&mut ring, |_, event| match event {
        Event::Received { received, .. } => {
            kept.push(received);
            None
        }
        Event::ReceiveEnded { reason, .. } => {
            assert!(matches!(reason, ReceiveEnd::Again));
            Some(())
        }
        _ => None,
    });
    let mut total: usize = kept.iter().map(|received| ring.bytes(received).len()).sum();
    kept.drain(..).for_each(|received| ring.recycle(received));
    ring.receive(slot);
    wait_for(&mut ring, |ring, event| {
        match event {
            Event::Received { received, .. } => {
                total += ring.bytes(&received).len();
                ring.recycle(received);
            }
            Event::ReceiveEnded { slot, .. } => ring.receive(slot),
            _ => {}
        }
        (total == 6 << 20).then_some(())
    });
    drop(writer.join().unwrap());
}

#[test]
fn a_large_send_completes_once_the_peer_read_it() {
    let mut ring = Ring::new().unwrap();
    let (slot, mut peer) = adopted(&mut ring);
    let expected: Vec<u8> = (0..=250).cycle().take(20 << 20).collect();
    ring.send(slot, frame(&expected));
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).unwrap();
        assert!(got == expected);
        peer
    });
    wait_for(&mut ring, |_, event| match event {
        Event::Sent { result, bytes, .. } => {
            result.unwrap();
            assert_eq!(bytes.len(), 20 << 20);
            Some(())
        }
        _ => None,
    });
    drop(reader.join().unwrap());
}

#[test]
fn a_paused_connection_receives_nothing_until_armed_again() {
    let mut ring = Ring::new().unwrap();
    let (slot, mut peer) = adopted(&mut ring);
    ring.receive(slot);
    ring.pause(slot);
    wait_for(&mut ring, |_, event| {
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
    ring.waker().wake();
    wait_for(&mut ring, |_, event| match event {
        Event::Received { .. } => panic!("nothing is received while paused"),
        Event::Woken => Some(()),
        _ => None,
    });
    ring.receive(slot);
    wait_for(&mut ring, |ring, event| match event {
        Event::Received { received, .. } => {
            assert_eq!(ring.bytes(&received), b"later");
            ring.recycle(received);
            Some(())
        }
        _ => None,
    });
}

#[test]
fn closing_ends_a_blocked_send_and_frees_the_slot() {
    let mut ring = Ring::new().unwrap();
    let (slot, peer) = adopted(&mut ring);
    ring.receive(slot);
    ring.send(slot, frame(&[9; 8 << 20]));
    ring.turn(Some(1_000)).unwrap();
    ring.close(slot);
    wait_for(&mut ring, |_, event| {
        matches!(event, Event::Closed).then_some(())
    });
    assert!(ring.descriptor(slot).is_none());
    drop(peer);
    let (again, _peer) = adopted(&mut ring);
    assert_eq!(again, slot, "a freed slot is used again");
}

#[test]
fn one_accept_takes_many_connections_until_cancelled() {
    let directory = std::env::temp_dir().join(format!("in-mem-ring-{}", std::process::id()));
    let _ = rustix::fs::unlink(&directory);
    let listener = UnixListener::bind(&directory).unwrap();
    let mut ring = Ring::new().unwrap();
    ring.accept(listener.as_fd(), true);
    let peers: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(&directory).unwrap())
        .collect();
    let mut count = 0;
    wait_for(&mut ring, |_, event| {
        count += usize::from(matches!(event, Event::Accepted { .. }));
        (count == peers.len()).then_some(())
    });
    ring.cancel_accept();
    wait_for(&mut ring, |_, event| {
        matches!(event, Event::AcceptEnded { error: None }).then_some(())
    });
    rustix::fs::unlink(&directory).unwrap();
}

#[test]
fn a_wake_up_from_another_thread_ends_the_wait() {
    let mut ring = Ring::new().unwrap();
    for _ in 0..100 {
        let waker = ring.waker();
        let thread = std::thread::spawn(move || waker.wake());
        wait_for(&mut ring, |_, event| {
            matches!(event, Event::Woken).then_some(())
        });
        thread.join().unwrap();
    }
}

#[test]
fn a_ring_dropped_with_operations_in_flight_gives_every_descriptor_back() {
    for _ in 0..50 {
        let mut ring = Ring::new().unwrap();
        let (slot, mut peer) = adopted(&mut ring);
        ring.receive(slot);
        ring.send(slot, frame(&[1; 4 << 20]));
        ring.turn(Some(0)).unwrap();
        drop(ring);
        // The peer sees the end: the connection was closed, not leaked.
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.len() <= 4 << 20);
    }
}
