//! Time and size of the hot messages: encoding into a warm buffer, and checked access.
//!
//! `cargo bench -p in-mem-ipc --bench codec`. Each figure is the fastest and the median of
//! 101 rounds; on a busy machine only the fastest says what the code costs.

use std::hint::black_box;
use std::time::Instant;

use in_mem_ipc::codec::{
    FrameBuffer, access_request, access_response, encode_request, encode_response,
};
use in_mem_ipc::frame::parse_frame;
use in_mem_ipc::request::kv::{Key, KeyValue};
use in_mem_ipc::request::{ArchivedOperation, Operation, Request, RequestHeader};
use in_mem_ipc::response::{ArchivedResponse, ReachedLevel, Receipt, Response};

const ROUND_COUNT: usize = 101;
const CALL_COUNT: u32 = 20_000;

fn measure(name: &str, mut call: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUND_COUNT)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALL_COUNT {
                call();
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALL_COUNT)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let median = rounds.get(ROUND_COUNT / 2).copied().unwrap_or_default();
    let fastest = rounds.first().copied().unwrap_or_default();
    println!("{name:<48} {fastest:>7.1} ns {median:>7.1} ns");
}

fn measure_request(name: &str, operation: &Operation<'_>) {
    let mut buffer = FrameBuffer::with_capacity(4096);
    let request = Request {
        header: RequestHeader::default(),
        operation: operation.clone(),
    };
    measure(&format!("encode request {name}"), || {
        buffer.clear();
        let _ = encode_request(black_box(&request), 7, &mut buffer);
        black_box(&buffer);
    });
    println!(
        "{:<48} {:>7} bytes",
        format!("frame request {name}"),
        buffer.len()
    );
    measure(&format!("parse and access request {name}"), || {
        let Ok(Some(frame)) = parse_frame(black_box(&buffer)) else {
            return;
        };
        let Ok(request) = access_request(frame.body) else {
            return;
        };
        match &request.operation {
            ArchivedOperation::KvPut(put) => {
                black_box((put.key.as_slice(), put.value.as_slice()));
            }
            ArchivedOperation::KvGet(get) => {
                black_box(get.key.as_slice());
            }
            _ => {}
        }
    });
}

fn measure_response(name: &str, response: &Response<'_>) {
    let mut buffer = FrameBuffer::with_capacity(4096);
    measure(&format!("encode response {name}"), || {
        buffer.clear();
        let _ = encode_response(black_box(response), 7, &mut buffer);
        black_box(&buffer);
    });
    println!(
        "{:<48} {:>7} bytes",
        format!("frame response {name}"),
        buffer.len()
    );
    measure(&format!("parse and access response {name}"), || {
        let Ok(Some(frame)) = parse_frame(black_box(&buffer)) else {
            return;
        };
        match access_response(frame.body) {
            Ok(ArchivedResponse::Value(value)) => {
                black_box(value.as_slice());
            }
            Ok(ArchivedResponse::Written(receipt)) => {
                black_box(receipt.version.to_native());
            }
            _ => {}
        }
    });
}

fn main() {
    let key = [b'k'; 16];
    let value = [b'v'; 100];
    let put = KeyValue {
        key: key[..].into(),
        value: value[..].into(),
    };
    measure_request("kv.put, 16 + 100 bytes", &Operation::KvPut(put));
    measure_request(
        "kv.get, 16 bytes",
        &Operation::KvGet(Key {
            key: key[..].into(),
        }),
    );
    let receipt = Receipt::of_commit(42, ReachedLevel::Synced);
    measure_response("Written", &Response::Written(receipt));
    measure_response("Value, 100 bytes", &Response::Value(value[..].into()));
}
