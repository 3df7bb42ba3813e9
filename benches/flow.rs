//! Hot loops between a source's read and a sink's write: framing, encoding, the buffer, and the fan-out.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir::batch::{Arena, Batch, Origin, Receipt, Timestamp};
use logweir::codec::encode::{self, Format, encode_lines};
use logweir::codec::framing::{LineFramer, Oversize};
use logweir::codec::template::TimestampFormat;
use logweir::flow::{Bounds, Branch, Chain, Inlet, Intake, Meter, Outlet, Queue, WhenFull};

const CHUNK_BYTES: usize = 256 << 10;

/// A chunk of application log lines of about 110 bytes, ending with a whole line.
fn chunk() -> Vec<u8> {
    let mut text = Vec::with_capacity(CHUNK_BYTES);
    let mut n = 0u32;
    while text.len() < CHUNK_BYTES - 200 {
        let level = ["INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR"][n as usize % 6];
        text.extend_from_slice(
            format!(
                "2026-11-20 10:11:12.{:03} {level} [cart-3] cart - request completed id={n} ip=10.1.2.3 took={}ms\n",
                n % 1000,
                n % 3000
            )
            .as_bytes(),
        );
        n += 1;
    }
    text
}

fn batch(text: &Bytes) -> Batch {
    let framed = LineFramer::new(1 << 20, Oversize::Split).frame(text);
    let origin = Arc::new(Origin::new("bench", "bench.log"));
    Batch::new(Arena::new(text.clone(), framed.spans, framed.framing, origin, Timestamp(0)), Receipt::none())
}

fn framing(c: &mut Criterion) {
    let text = chunk();
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("lines", |b| {
        let mut framer = LineFramer::new(1 << 20, Oversize::Split);
        b.iter(|| black_box(framer.frame(black_box(&text)).spans.len()));
    });
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let text = Bytes::from(chunk());
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Bytes(text.len() as u64));
    let pipeline: Arc<str> = "bench".into();
    let whole = batch(&text);
    let raw = Format::Raw;
    let key = raw.key();
    group.bench_function("raw", |b| b.iter(|| black_box(encode::lines(&whole, &raw, &key, &pipeline).len())));
    let mut some = whole.view();
    some.retain(|_, row| row % 5 == 0);
    group.bench_function("raw_one_in_five", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            encode_lines(&some, &raw, &pipeline, &mut out);
            black_box(out.len())
        });
    });
    let json = Format::Json(TimestampFormat::Rfc3339);
    // A fresh batch each time: level and timestamp are detected once per row and then remembered.
    group.bench_function("json", |b| {
        let mut out = Vec::new();
        b.iter_batched(
            || batch(&text),
            |batch| {
                out.clear();
                encode_lines(&batch, &json, &pipeline, &mut out);
                black_box(out.len())
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn queue() -> (Arc<Queue>, Inlet) {
    let bounds = Bounds { events_max: 100_000, bytes_max: 64 << 20, when_full: WhenFull::Block };
    let queue = Queue::new(bounds, Arc::new(Meter::default()));
    (queue.clone(), Inlet::new(queue))
}

fn buffers(c: &mut Criterion) {
    let text = Bytes::from(chunk());
    let whole = batch(&text);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("flow");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("buffer_push_take", |b| {
        let (queue, mut inlet) = queue();
        b.iter(|| {
            runtime.block_on(queue.push(whole.view()));
            inlet.try_recv().expect("just pushed").delivered();
        });
    });
    group.bench_function("fan_out_to_8", |b| {
        let (queues, mut inlets): (Vec<_>, Vec<_>) = (0..8).map(|_| queue()).unzip();
        let branches = queues.into_iter().map(|queue| Branch { chain: None, queue }).collect();
        let intake = Intake::new(None, Chain::default(), branches, Arc::new(Meter::default()));
        let outlet = Outlet::new(Arc::new(intake), Arc::new(Meter::default()));
        b.iter(|| {
            runtime.block_on(outlet.send(whole.view()));
            for inlet in &mut inlets {
                inlet.try_recv().expect("just sent").delivered();
            }
        });
    });
    group.finish();
}

criterion_group!(benches, framing, encoding, buffers);
criterion_main!(benches);
