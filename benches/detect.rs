//! What severity and time detection cost per line, over generated application, JSON, logfmt, nginx and syslog
//! lines. Throughput is in lines, so criterion's time per element is nanoseconds per line.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logweir::batch::Timestamp;
use logweir::batch::detect::{detect_level, detect_timestamp};

/// Lines per iteration: enough that branches are not learnt by heart, few enough to stay in the cache.
const LINES: usize = 1000;

const LEVELS: [&str; 8] = ["INFO", "INFO", "INFO", "DEBUG", "WARN", "INFO", "ERROR", "INFO"];
const WORDS: [&str; 8] =
    ["cart", "checkout", "session", "payment", "retrying", "upstream", "cache miss", "user"];

/// A small generator of the same numbers in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn message(&mut self) -> String {
        let mut text = String::new();
        while text.len() < 55 {
            text.push_str(self.pick(&WORDS));
            text.push(' ');
        }
        text
    }
}

/// One kind of line, `LINES` of them.
fn lines(kind: &str) -> Vec<Vec<u8>> {
    let mut n = Numbers(7);
    let line = |_| {
        let (level, message) = (n.pick(&LEVELS), n.message());
        let (m, s, ms, id) = (n.below(60), n.below(60), n.below(1000), n.below(100_000));
        match kind {
            "app" => format!("2026-11-20 10:{m:02}:{s:02}.{ms:03} {level} [cart-{}] cart - {message}", id % 10),
            "json" => {
                let level = level.to_lowercase();
                format!(
                    "{{\"timestamp\":\"2026-11-20T10:{m:02}:{s:02}.{ms:03}Z\",\"level\":\"{level}\",\"id\":{id},\
                     \"message\":\"{message}\"}}"
                )
            }
            "logfmt" => {
                let level = level.to_lowercase();
                format!("time=2026-11-20T10:{m:02}:{s:02}.{ms:03}Z level={level} id={id} msg=\"{message}\"")
            }
            "nginx" => {
                let status = [200, 200, 200, 304, 404, 500][id % 6];
                format!(
                    "10.0.{}.{} - - [20/Nov/2026:10:{m:02}:{s:02} +0000] \"GET /items/{id} HTTP/1.1\" {status} {ms} \
                     \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
                    id % 256,
                    id / 256 % 256
                )
            }
            "syslog" => format!("Nov {:2} 10:{m:02}:{s:02} host{} app[{id}]: {message}", 1 + id % 20, id % 9),
            _ => format!("<{}>1 2026-11-20T10:{m:02}:{s:02}.{ms:03}Z host app {id} - - {message}", id % 192),
        }
        .into_bytes()
    };
    (0..LINES).map(line).collect()
}

fn detect(c: &mut Criterion) {
    // 2026-11-21, after every generated time.
    let received = Timestamp(1_795_219_200_000_000_000);
    for what in ["level", "timestamp"] {
        let mut group = c.benchmark_group(what);
        group.throughput(Throughput::Elements(LINES as u64));
        for kind in ["app", "json", "logfmt", "nginx", "syslog", "syslog5424"] {
            let lines = lines(kind);
            // A bench of lines that nothing is found in would flatter.
            assert!(lines.iter().all(|line| detect_timestamp(line, received).is_some()), "{kind}");
            assert!(kind == "syslog" || lines.iter().all(|line| detect_level(line).is_some()), "{kind}");
            group.bench_function(kind, |b| {
                b.iter(|| {
                    for line in &lines {
                        if what == "level" {
                            black_box(detect_level(black_box(line)));
                        } else {
                            black_box(detect_timestamp(black_box(line), received));
                        }
                    }
                });
            });
        }
        group.finish();
    }
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(LINES as u64));
    group.bench_function("rfc3339", |b| {
        let mut out = Vec::with_capacity(LINES * 30);
        b.iter(|| {
            out.clear();
            for n in 0..LINES as i64 {
                Timestamp(received.0 + n * 12_345_000_000).write_rfc3339(&mut out);
            }
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group!(benches, detect);
criterion_main!(benches);
