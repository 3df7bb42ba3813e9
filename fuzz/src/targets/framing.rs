//! Streams of bytes cut into events, through the readers that the network sources use.

use std::sync::{Arc, OnceLock};

use logweir::batch::{Batch, Origin};
use logweir::codec::frames::{FrameReader, FrameSettings};
use logweir::codec::framing::{FramingError, Oversize, Scheme};
use logweir::flow::{Meter, Reason};

const POLICIES: [Oversize; 3] = [Oversize::Truncate, Oversize::Drop, Oversize::Split];

/// Lines: what a plain split by line breaks makes of them.
pub fn newline(data: &[u8]) {
    delimited(Scheme::Newline, b'\n', data);
}

/// The same with zero bytes.
pub fn nul(data: &[u8]) {
    delimited(Scheme::Nul, 0, data);
}

/// Octet-counted events: what is sent arrives, whatever the reads.
pub fn octet_counted(data: &[u8]) {
    any(Scheme::OctetCounted, data);
}

/// Octet-counted events and lines on one stream.
pub fn auto(data: &[u8]) {
    any(Scheme::Auto, data);
}

/// Events behind four bytes of length.
pub fn length_prefixed(data: &[u8]) {
    any(Scheme::LengthPrefixed, data);
}

/// What came of a stream.
#[derive(Debug, PartialEq, Eq, Default)]
struct Outcome {
    rows: Vec<Vec<u8>>,
    too_long: u64,
    error: Option<FramingError>,
}

fn delimited(scheme: Scheme, delimiter: u8, data: &[u8]) {
    let [max, policy, piece, text @ ..] = data else { return };
    let (max, oversize) = (usize::from(*max).max(1), POLICIES[usize::from(*policy) % 3]);
    let whole = read(scheme, text, text.len(), max, oversize);
    assert_eq!(read(scheme, text, usize::from(*piece).max(1), max, oversize), whole, "pieces do not matter");
    let mut events: Vec<Vec<u8>> = text.split(|b| *b == delimiter).map(<[u8]>::to_vec).collect();
    if events.last().is_some_and(Vec::is_empty) {
        events.pop();
    }
    assert_eq!(whole, Outcome { error: None, ..told_apart(scheme, &events, max, oversize) });
}

/// Two streams from one input: the bytes as they are, and events made of them as a sender would write them.
fn any(scheme: Scheme, data: &[u8]) {
    let [max, policy, piece, text @ ..] = data else { return };
    // Configurations allow no less than 64; where digits may begin a line, they are held as a length first.
    let least = if scheme == Scheme::Auto { 16 } else { 1 };
    let (max, piece) = (usize::from(*max).max(least), usize::from(*piece).max(1));
    let oversize = POLICIES[usize::from(*policy) % 3];
    let whole = read(scheme, text, text.len(), max, oversize);
    assert_eq!(read(scheme, text, piece, max, oversize), whole, "pieces do not matter");
    assert!(whole.rows.iter().all(|row| row.len() <= max));
    let events = text.split(|b| *b == b'|').map(|event| sendable(scheme, event));
    // A length of zero is none.
    let events: Vec<Vec<u8>> =
        events.filter(|event| scheme != Scheme::OctetCounted || !event.is_empty()).collect();
    let sent: Vec<u8> = events.iter().enumerate().flat_map(|(i, event)| frame(scheme, i, event)).collect();
    assert_eq!(read(scheme, &sent, piece, max, oversize), told_apart(scheme, &events, max, oversize));
}

/// An event that the scheme can carry.
fn sendable(scheme: Scheme, event: &[u8]) -> Vec<u8> {
    match scheme {
        Scheme::Auto => {
            [b"<", &event.iter().copied().filter(|b| *b != b'\n').collect::<Vec<_>>()[..]].concat()
        }
        _ => event.to_vec(),
    }
}

/// Its bytes on the wire; where both forms may alternate, they do.
fn frame(scheme: Scheme, index: usize, event: &[u8]) -> Vec<u8> {
    match scheme {
        Scheme::LengthPrefixed => [&(event.len() as u32).to_be_bytes()[..], event].concat(),
        Scheme::Auto if index % 2 == 1 => [event, b"\n"].concat(),
        _ => [event.len().to_string().as_bytes(), b" ", event].concat(),
    }
}

/// What the policy makes of events.
fn told_apart(scheme: Scheme, events: &[Vec<u8>], max: usize, oversize: Oversize) -> Outcome {
    let mut outcome = Outcome::default();
    for event in events {
        match oversize {
            _ if event.len() <= max => {
                // The line break that syslog senders count at the end of an event is none of it.
                let ends = scheme == Scheme::OctetCounted && event.ends_with(b"\n");
                outcome.rows.push(event[..event.len() - usize::from(ends)].to_vec());
            }
            Oversize::Drop => {}
            Oversize::Truncate => outcome.rows.push(event[..max].to_vec()),
            Oversize::Split => outcome.rows.extend(event.chunks(max).map(<[u8]>::to_vec)),
        }
        outcome.too_long += u64::from(event.len() > max);
    }
    outcome
}

/// The rows of `text` when it arrives in pieces and the stream then ends.
fn read(scheme: Scheme, text: &[u8], piece: usize, max: usize, oversize: Oversize) -> Outcome {
    static SHARED: OnceLock<(FrameSettings, Arc<Origin>)> = OnceLock::new();
    let (shared, origin) = SHARED.get_or_init(|| {
        (FrameSettings::new(Scheme::Newline, 1, Oversize::Drop), Arc::new(Origin::new("fuzz", "fuzz")))
    });
    let mut settings = shared.clone();
    (settings.scheme, settings.line_bytes_max, settings.oversize) = (scheme, max, oversize);
    let mut reader = FrameReader::new(&settings, origin.clone());
    let (meter, mut outcome) = (Meter::default(), Outcome::default());
    for bytes in text.chunks(piece.max(1)) {
        let mut reading = reader.start_read();
        reading.space()[..bytes.len()].copy_from_slice(bytes);
        reading.advance(bytes.len());
        let (batch, error) = reader.take(reading, &meter);
        outcome.keep(batch);
        if error.is_some() {
            // How much of a length has come when it is too much is a matter of the reads.
            outcome.error = error.map(|e| match e {
                FramingError::TooLong { .. } => FramingError::TooLong { announced: 0 },
                other => other,
            });
            break;
        }
        assert!(reader.kept_bytes() <= max + 12, "no more than the limit and a length is held");
    }
    if outcome.error.is_none() {
        outcome.keep(reader.finish(true, &meter));
        assert_eq!(reader.kept_bytes(), 0);
    }
    let counts = meter.snapshot();
    outcome.too_long = counts.dropped(Reason::Oversize) + counts.cut_events;
    outcome
}

impl Outcome {
    fn keep(&mut self, batch: Option<Batch>) {
        self.rows.extend(batch.iter().flat_map(Batch::lines).map(|(_, line)| line.to_vec()));
    }
}
