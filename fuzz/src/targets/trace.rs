//! What the kernel's programs hand over: the records are ours, but what they captured is anybody's; and the files that
//! processes run.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use logweir::trace::event::TraceEvent;
use logweir::trace::http::head;
use logweir::trace::http::pairing::{Pairing, Wanted};
use logweir::trace::records::Record;
use logweir::trace::row;
use logweir::trace::symbols;

/// Records, each behind its length: exchanges are told once each, and rows are JSON.
pub fn trace_records(data: &[u8]) {
    let mut pairing = Pairing::new(Wanted { tcp: true, query: true }, Path::new("/nonexistent"), 256);
    let (mut events, mut rest, mut last) = (Vec::new(), data, 0);
    while let Some((len, bytes)) = rest.split_first_chunk::<4>() {
        let (record, after) = bytes.split_at(bytes.len().min(u32::from_le_bytes(*len) as usize));
        match Record::parse(record) {
            Ok(record) => {
                last = record.head().time_ns;
                pairing.record(&record, &mut events);
            }
            Err(_) => pairing.records_were_lost(),
        }
        rest = after;
    }
    pairing.tick(last.saturating_add(2_000_000_000), &mut events);
    pairing.finish(last, &mut events);
    let (mut requests, mut exchanges, mut text) = (0, 0, Vec::new());
    for event in &events {
        requests += u32::from(matches!(event, TraceEvent::Request(_)));
        exchanges += u32::from(matches!(event, TraceEvent::Exchange(_)));
        text.clear();
        if row::write(event, &mut text) {
            assert!(!text.contains(&b'\n'));
            serde_json::from_slice::<serde_json::Value>(&text).expect("a row is JSON");
        }
    }
    assert!(exchanges <= requests, "an exchange without a request");
}

/// Heads, whole or cut: what is kept of them is bounded.
pub fn http_heads(data: &[u8]) {
    if let Some(end) = head::end(data, 0) {
        assert!(end <= data.len());
        for from in 0..end {
            assert_eq!(head::end(data, from.min(end.saturating_sub(2))), Some(end), "from {from}");
        }
    }
    if let Some(request) = head::request(data) {
        assert!(!request.method.is_empty() && !request.path.is_empty());
        // Replacing what is no UTF-8 makes up to three bytes of one.
        assert!(request.path.len() <= 3 * 2048 && request.host.is_none_or(|host| host.len() <= 3 * 255));
    }
    if let Some(response) = head::response(data) {
        assert!((100..1000).contains(&response.status));
    }
    head::trace_context(data);
    head::begins(data, true);
}

/// A file that is as long as it is, whatever its headers say.
struct InMemory(Vec<u8>);

impl FileExt for InMemory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        unreachable!("files of others are only read")
    }
}

/// Programs and libraries, for whatever processor this is: what is found is named in there, and its place does not depend
/// on what else is looked for.
pub fn elf_symbols(data: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some(machine) = bytes.get_mut(18..20) {
        machine.copy_from_slice(&if cfg!(target_arch = "x86_64") { 62_u16 } else { 183 }.to_le_bytes());
    }
    let file = InMemory(bytes);
    let names = ["SSL_read", "SSL_write", "SSL_read_ex"];
    let found = symbols::offsets(&file, names).expect("reading does not fail");
    for (name, at) in names.iter().zip(found) {
        let name = [name.as_bytes(), b"\0"].concat();
        assert!(at.is_none() || file.0.windows(name.len()).any(|bytes| bytes == name));
    }
    let [read, write, read_ex] = found;
    let other_way_round = symbols::offsets(&file, ["SSL_read_ex", "SSL_write", "SSL_read"]);
    assert_eq!(other_way_round.expect("reading does not fail"), [read_ex, write, read]);
}
