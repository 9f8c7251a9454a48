//! The codecs of a put's way over the socket, each beside the copy of the same bytes that no codec
//! can do without: building the frame in a warm buffer, reading it in place, validating its value.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use in_mem_ipc::FrameBuffer;
use in_mem_ipc::codec::{access_request, encode_request};
use in_mem_ipc::frame::parse_frame;
use in_mem_ipc::request::kv::KeyValue;
use in_mem_ipc::request::{Operation, Request, RequestHeader};
use in_mem_model::{EncodedValue, Limits, Value, encode, validate};

/// Lengths of the values, bytes.
const VALUE_LENS_BYTES: [usize; 3] = [100, 4 << 10, 1 << 20];

fn value(len_bytes: usize) -> EncodedValue {
    encode(&Value::Bytes(vec![0xab; len_bytes])).expect("within the limits")
}

fn put(value: &EncodedValue) -> Request<'_> {
    let header = RequestHeader::default();
    let operation = Operation::KvPut(KeyValue {
        key: b"agent/7/position".as_slice().into(),
        value: value.as_bytes().into(),
    });
    Request { header, operation }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put_frame");
    for len_bytes in VALUE_LENS_BYTES {
        let value = value(len_bytes);
        let request = put(&value);
        let mut buffer = FrameBuffer::new();
        encode_request(&request, 1, &mut buffer).expect("fits a frame");
        let frame = buffer.clone();
        group.throughput(Throughput::Bytes(len_bytes as u64));
        group.bench_function(BenchmarkId::new("floor_copy", len_bytes), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(black_box(&frame));
            });
        });
        group.bench_function(BenchmarkId::new("encode", len_bytes), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                encode_request(black_box(&request), 1, &mut buffer).expect("fits a frame");
            });
        });
        group.bench_function(BenchmarkId::new("read_in_place", len_bytes), |bencher| {
            bencher.iter(|| {
                let frame = parse_frame(black_box(&frame))
                    .expect("valid")
                    .expect("whole");
                black_box(access_request(frame.body).expect("valid"));
            });
        });
    }
    group.finish();
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    let limits = Limits::default();
    for len_bytes in VALUE_LENS_BYTES {
        let binary = value(len_bytes);
        let numbers = vec![Value::Int(1); len_bytes.min(1_000_000)];
        let list = encode(&Value::Array(numbers)).expect("within the limits");
        group.throughput(Throughput::Bytes(len_bytes as u64));
        for (name, value) in [
            ("validate_bytes", &binary),
            ("validate_array_of_ints", &list),
        ] {
            group.bench_function(BenchmarkId::new(name, len_bytes), |bencher| {
                bencher.iter(|| validate(black_box(value.as_bytes()), &limits).expect("valid"));
            });
        }
    }
    group.finish();
}

fn configured() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group! {
    name = benches;
    config = configured();
    targets = frames, values
}
criterion_main!(benches);
