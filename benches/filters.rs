//! What `include` costs per byte: lines of about 110 bytes, one in five of which matches, as a chunk of 256 KiB.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir::batch::{Arena, Batch, Origin, Receipt, Timestamp};
use logweir::codec::framing::{LineFramer, Oversize};
use logweir::query::Query;
use logweir::query::lookup::Field;
use logweir::query::patterns::{Logic, Patterns};

fn chunk() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0u64.. {
        let level = ["INFO", "DEBUG", "INFO", "ERROR", "INFO"][(i % 5) as usize];
        let line = format!(
            "2026-11-21T03:05:{:02}.{:03}Z {level} [checkout] payment authorised for order id={:08} took={}ms user=u{}\n",
            i % 60,
            i % 1000,
            i * 7919 % 100_000_000,
            i % 3000,
            i * 31 % 10_000
        );
        if text.len() + line.len() > 256 << 10 {
            break;
        }
        text.extend_from_slice(line.as_bytes());
    }
    text
}

fn include(c: &mut Criterion) {
    let text = bytes::Bytes::from(chunk());
    let origin = Arc::new(Origin::new("bench", "bench"));
    let spans = LineFramer::new(1 << 20, Oversize::Split).frame(&text).spans;
    let rows = spans.len();
    let arena = Arena::new(text.clone(), spans, logweir::batch::Framing::Lines, origin, Timestamp(0));
    let batch = Batch::new(arena, Receipt::none());
    let mut group = c.benchmark_group(format!("include, {} bytes a line", text.len() / rows));
    group.throughput(Throughput::Bytes(text.len() as u64));
    for pattern in ["ERROR|WARN", "(?i)error|warn", r"took=2\d\d\dms", r"\berror\b", "no such line", "^"] {
        let mut matcher = Patterns::new(&[pattern], Logic::Or, Field::Line).expect("a valid pattern");
        group.bench_function(pattern, |b| {
            b.iter(|| {
                let mut batch = batch.clone();
                let mask = matcher.matches(black_box(&batch));
                batch.narrow(mask);
                batch.events()
            });
        });
    }
    group.finish();
    c.benchmark_group("frame").throughput(Throughput::Bytes(text.len() as u64)).bench_function(
        "lines",
        |b| {
            b.iter(|| LineFramer::new(1 << 20, Oversize::Split).frame(black_box(&text)).spans.len());
        },
    );
}

/// The same lines as JSON objects.
fn json_chunk() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0u64.. {
        let level = ["info", "debug", "info", "error", "info"][(i % 5) as usize];
        let line = format!(
            "{{\"ts\":\"2026-11-21T03:05:{:02}.{:03}Z\",\"level\":\"{level}\",\"service\":\"checkout\",\"req\":{{\"path\":\"/api/{}\",\"status\":{}}},\"msg\":\"payment authorised\"}}\n",
            i % 60,
            i % 1000,
            i * 7919 % 10_000,
            [200, 200, 404, 200, 503][(i % 5) as usize],
        );
        if text.len() + line.len() > 256 << 10 {
            return text;
        }
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// A query beside `memmem` for the longest word of the same text, which is about what there is to be done.
fn query(c: &mut Criterion) {
    let now = "2026-11-21T03:06:00Z".parse().expect("a time");
    for (name, text, queries) in [
        (
            "text",
            chunk(),
            &[
                "nothing_like_it",
                "error",
                "\"payment refused\"",
                "*thorised",
                "ошибка",
                "/took=2\\d\\d\\dms/",
                "level:error",
                "took:nothing",
                "user:u93",
                "error -u93 took:2*",
            ][..],
        ),
        (
            "json",
            json_chunk(),
            &["nothing_like_it", "service:nothing", "req.status:>=500", "level:error req.status:>=500"][..],
        ),
    ] {
        let text = bytes::Bytes::from(text);
        let origin = Arc::new(Origin::new("bench", "bench"));
        let spans = LineFramer::new(1 << 20, Oversize::Split).frame(&text).spans;
        let arena = || {
            let (text, spans, origin) = (text.clone(), spans.clone(), origin.clone());
            Arena::new(text, spans, logweir::batch::Framing::Lines, origin, Timestamp(0))
        };
        let batch = Batch::new(arena(), Receipt::none());
        let mut group = c.benchmark_group(format!("query, {name}"));
        group.throughput(Throughput::Bytes(text.len() as u64));
        let finder = memchr::memmem::Finder::new(b"nothing_like_it");
        group.bench_function("memmem nothing_like_it", |b| b.iter(|| finder.find(black_box(&text))));
        let finder = memchr::memmem::Finder::new(b"ERROR");
        group.bench_function("memmem ERROR", |b| b.iter(|| finder.find_iter(black_box(&text)).count()));
        for text in queries {
            let mut matcher = Query::parse(text).expect("a query").matcher();
            // Levels are detected once for a batch and kept: here they are to be detected each time.
            group.bench_function(*text, |b| {
                b.iter_batched(
                    || {
                        if text.contains("level") {
                            Batch::new(arena(), Receipt::none())
                        } else {
                            batch.clone()
                        }
                    },
                    |mut batch| {
                        matcher.keep(black_box(&mut batch), now);
                        batch.events()
                    },
                    criterion::BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, include, query);
criterion_main!(benches);
