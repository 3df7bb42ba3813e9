//! Queries that strangers send with a stream's address, and lines they run over.

use std::sync::Arc;

use logweir::batch::{BatchBuilder, Origin, Receipt, Timestamp};
use logweir::query::Query;

/// Any text is a query or an error that can be shown. A query is printed as what it is, and finds the same rows
/// together and alone, whatever bytes they hold.
pub fn query(data: &[u8]) {
    let (text, lines) = match data.iter().position(|b| *b == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &data[data.len() / 2..]),
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "the place of {error:?}");
            assert!(error.to_string().contains('^'));
            return;
        }
    };
    let printed = query.to_string();
    match Query::parse(&printed) {
        Ok(again) => assert!(again == query, "{text:?} is printed {printed:?}"),
        // Printing writes operators out, which a query that is nearly too long has no room for.
        Err(error) => assert!(printed.len() > logweir::query::TEXT_BYTES_MAX, "{printed:?}: {error}"),
    }
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut matcher = query.matcher();
    let mut builder = BatchBuilder::new(Arc::new(Origin::new("fuzz", "fuzz")));
    builder.received(Timestamp(0));
    lines.split(|b| *b == b'\n').for_each(|line| builder.push(line));
    let batch = builder.finish(Receipt::none());
    let found = matcher.mask(&batch, now);
    let of_batch = ["source", "pipeline"].iter().any(|name| printed.contains(name));
    let (highlights, mut marks) = (query.highlights(), Vec::new());
    for (row, line) in batch.lines() {
        let alone = matcher.matches(line, now);
        assert!(of_batch || found.has(row) == alone, "{text:?} on {:?}", String::from_utf8_lossy(line));
        highlights.ranges(line, &mut marks);
        assert!(marks.iter().all(|mark| mark.start < mark.end && mark.end <= line.len()));
        assert!(marks.windows(2).all(|pair| pair[0].end < pair[1].start));
    }
}
