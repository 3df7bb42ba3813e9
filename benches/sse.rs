//! What a live stream costs without its sockets: appending a batch to the ring, encoding it once, and handing the
//! encoded bytes to a thousand subscribers.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use logweir::batch::Batch;
use logweir::codec::encode::{Format, RowEncoder};
use logweir::codec::template::TimestampFormat;
use logweir::flow::Meter;
use logweir::net::id::Epoch;
use logweir::net::notes::NoteStyle;
use logweir::net::ring::{Ring, RingBounds, Start};
use logweir::net::segment::{Content, Encode, Form, Framing, RowWriter};
use logweir::net::select::Select;
use logweir::net::subscriber::{Outgoing, Seat, Subscriber, Wish};

const ROWS: usize = 200;
const SUBSCRIBERS: usize = 1000;

struct Rows {
    json: Format,
    pipeline: Arc<str>,
}

impl Encode for Rows {
    fn rows<'a>(&'a self, batch: &'a Batch, _: Content) -> RowWriter<'a> {
        let encoder = RowEncoder::new(batch, &self.json, &self.pipeline);
        Box::new(move |row, out| encoder.write(row, out))
    }

    fn own_is_json(&self) -> bool {
        true
    }
}

fn ring() -> Arc<Ring> {
    let encoder = Rows { json: Format::Json(TimestampFormat::Rfc3339), pipeline: "bench".into() };
    Arc::new(Ring::new("bench".into(), Epoch::from_millis(1), RingBounds::default(), Arc::new(encoder)))
}

fn batch() -> Batch {
    let line =
        |i: usize| format!("2026-11-20 10:11:12.123 INFO [cart-3] cart - request completed id={i:0>56}");
    Batch::from_lines("bench", (0..ROWS).map(line))
}

fn subscriber(ring: &Arc<Ring>) -> Subscriber {
    let wish = Wish { notes: NoteStyle::Events, select: Select::default(), limit: None, many: false };
    let mut subscriber = Subscriber::new(wish);
    let form = Form::new(Framing::Sse, Content::Own);
    subscriber.join(ring, Start::Live, form, Seat::take(Arc::new(Meter::default())));
    subscriber
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("append_and_encode_once", |b| {
        let ring = ring();
        let mut reader = subscriber(&ring);
        b.iter_batched(
            batch,
            |batch| {
                ring.append(&batch);
                let mut out = Outgoing::default();
                reader.fill(&mut out);
                black_box(out.bytes)
            },
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements((ROWS * SUBSCRIBERS) as u64));
    group.bench_function("fill_1000_subscribers", |b| {
        let ring = ring();
        let mut readers: Vec<_> = (0..SUBSCRIBERS).map(|_| subscriber(&ring)).collect();
        b.iter_batched(
            batch,
            |batch| {
                ring.append(&batch);
                let mut bytes = 0;
                for reader in &mut readers {
                    let mut out = Outgoing::default();
                    reader.fill(&mut out);
                    bytes += out.bytes;
                }
                black_box(bytes)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, streams);
criterion_main!(benches);
