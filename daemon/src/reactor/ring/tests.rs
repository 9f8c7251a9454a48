//! What only a ring can meet: its buffers and its queues run out.

use std::io::{Read, Write};

use super::super::tests::{adopted, frame, wait_for};
use super::*;

/// Operations nobody asked for, without an address in them.
#[test]
fn an_operation_that_is_not_the_reactors_is_refused_by_the_kernel() {
    let mut ring = Ring::new().unwrap();
    if !ring.is_restricted() {
        println!("SKIPPED: needs a kernel that restricts rings (Linux 5.10)");
        return;
    }
    let nobody = Fd(-1);
    let entries = [
        opcode::Nop::new().build(),
        opcode::Fsync::new(nobody).build(),
        opcode::Close::new(nobody).build(),
        opcode::Shutdown::new(nobody, 2).build(),
    ];
    for (number, entry) in (1 << 48..).zip(entries) {
        ring.push(entry.user_data(number));
        let completion = loop {
            ring.turn(Some(10_000_000)).unwrap();
            let Some(completion) = ring.completions.pop_front() else {
                panic!("{number:#x} was not answered");
            };
            if completion.user_data() == number {
                break completion;
            }
        };
        ring.in_flight_count -= 1;
        assert_eq!(completion.result(), -libc::EACCES, "{number:#x}");
    }
    // What it is for still works.
    let (slot, mut peer) = adopted(&mut ring);
    peer.write_all(b"request").unwrap();
    ring.receive(slot);
    wait_for(&mut ring, |ring, event| match event {
        Event::Received { received, .. } => {
            assert_eq!(ring.bytes(&received), b"request");
            ring.recycle(received);
            Some(())
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

/// Two queues so short that one turn fills both many times over.
#[test]
fn full_queues_lose_no_submission_and_no_completion() {
    let sizes = QueueSizes {
        submission_count: 2,
        completion_count: 2,
    };
    let mut ring = Ring::with_queues(sizes).unwrap();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let (slot, mut peer) = adopted(&mut ring);
        peer.write_all(b"request").unwrap();
        ring.receive(slot);
        ring.send(slot, frame(b"reply"));
        peers.push(peer);
    }
    let mut received_count = 0;
    let mut sent_count = 0;
    wait_for(&mut ring, |ring, event| {
        match event {
            Event::Received { received, .. } => {
                assert_eq!(ring.bytes(&received), b"request");
                ring.recycle(received);
                received_count += 1;
            }
            // A receive whose next completion had no place ends and is armed anew.
            Event::ReceiveEnded { slot, reason } => {
                assert!(matches!(reason, ReceiveEnd::Again), "{reason:?}");
                ring.receive(slot);
            }
            Event::Sent { slot, result, .. } => {
                result.unwrap();
                assert!(!ring.is_sending(slot));
                sent_count += 1;
            }
            _ => {}
        }
        ((received_count, sent_count) == (100, 100)).then_some(())
    });
    for peer in &mut peers {
        let mut reply = [0; 5];
        peer.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"reply");
    }
}
