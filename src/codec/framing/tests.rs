//! Every framer against a plain model: rows are the same however the stream is cut into reads, nothing is held beyond
//! the limit, and bytes that nobody wrote on purpose do no harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SCHEMES: [Scheme; 5] =
    [Scheme::Newline, Scheme::Nul, Scheme::OctetCounted, Scheme::Auto, Scheme::LengthPrefixed];
const POLICIES: [Oversize; 3] = [Oversize::Truncate, Oversize::Drop, Oversize::Split];

/// What came of a stream.
#[derive(Debug, PartialEq, Eq, Default)]
struct Outcome {
    rows: Vec<Vec<u8>>,
    oversize_events: u64,
    cut: bool,
    error: Option<FramingError>,
}

impl Outcome {
    fn take(&mut self, framed: &Framed, chunk: &[u8]) {
        assert!(framed.spans.windows(2).all(|w| w[0].end() <= w[1].start()), "rows ascend");
        assert!(framed.spans.iter().all(|s| s.end() <= framed.consumed), "rows are dealt with");
        assert!(framed.consumed <= chunk.len());
        self.rows.extend(framed.spans.iter().map(|s| chunk[s.start()..s.end()].to_vec()));
        self.oversize_events += framed.oversize_events;
    }
}

/// The rows of `text` when it arrives in pieces of the given sizes and the stream then ends.
fn in_pieces(scheme: Scheme, text: &[u8], pieces: &[usize], max: usize, oversize: Oversize) -> Outcome {
    let mut framer = Framer::new(scheme, max, oversize);
    let (mut outcome, mut carry, mut at) = (Outcome::default(), Vec::new(), 0);
    let mut sizes = pieces.iter().copied().cycle();
    while at < text.len() {
        let size = sizes.next().unwrap_or(1).max(1).min(text.len() - at);
        let seen = carry.len();
        carry.extend_from_slice(&text[at..at + size]);
        at += size;
        let (framed, error) = framer.frame(&carry, seen);
        outcome.take(&framed, &carry);
        carry.drain(..framed.consumed);
        if error.is_some() {
            outcome.error = error;
            break;
        }
        assert!(carry.len() <= max + 12, "holds no more than the limit and a length");
    }
    if outcome.error.is_none() {
        let (framed, cut) = framer.finish(&carry);
        outcome.take(&framed, &carry);
        assert_eq!(framed.consumed, carry.len());
        outcome.cut = cut;
    }
    outcome
}

/// Events as a sender writes them; `counted` says which are counted where both may be.
fn encode(scheme: Scheme, events: &[Vec<u8>], counted: &[bool]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, event) in events.iter().enumerate() {
        let counts = scheme == Scheme::OctetCounted || (scheme == Scheme::Auto && counted[i % counted.len()]);
        match scheme {
            Scheme::LengthPrefixed => out.extend((event.len() as u32).to_be_bytes()),
            _ if counts => out.extend(format!("{} ", event.len()).bytes()),
            _ => {}
        }
        out.extend_from_slice(event);
        match scheme {
            Scheme::Nul => out.push(0),
            Scheme::Newline | Scheme::Auto if !counts => out.push(b'\n'),
            _ => {}
        }
    }
    out
}

/// What the policy makes of events.
fn model(scheme: Scheme, events: &[Vec<u8>], max: usize, oversize: Oversize) -> (Vec<Vec<u8>>, u64) {
    let mut rows = Vec::new();
    for event in events {
        match oversize {
            _ if event.len() <= max && scheme == Scheme::OctetCounted => {
                rows.push(event.strip_suffix(b"\n").unwrap_or(event).to_vec());
            }
            _ if event.len() <= max => rows.push(event.clone()),
            Oversize::Drop => {}
            Oversize::Truncate => rows.push(event[..max].to_vec()),
            Oversize::Split => rows.extend(event.chunks(max).map(<[u8]>::to_vec)),
        }
    }
    (rows, events.iter().filter(|e| e.len() > max).count() as u64)
}

/// Events that the scheme can carry: without its delimiter; for counted ones as syslog writes them.
fn sendable(scheme: Scheme, events: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let fit = |event: Vec<u8>| match scheme {
        Scheme::Newline => event.into_iter().filter(|b| *b != b'\n').collect(),
        Scheme::Nul => event.into_iter().filter(|b| *b != 0).collect(),
        Scheme::OctetCounted => [b"<".to_vec(), event].concat(),
        Scheme::Auto => [b"<".to_vec(), event.into_iter().filter(|b| *b != b'\n').collect()].concat(),
        Scheme::LengthPrefixed => event,
    };
    events.into_iter().map(fit).collect()
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(0), 2 => b'0'..=b'9', 1 => Just(b' '), 1 => Just(b'<'), 1 => any::<u8>()]
}

proptest! {
    #[test]
    fn what_is_sent_arrives_whatever_the_reads(
        events in vec(vec(byte(), 0..60), 0..20),
        counted in vec(any::<bool>(), 1..5),
        pieces in vec(1usize..50, 1..8),
        max in 1usize..40,
        scheme in proptest::sample::select(&SCHEMES[..]),
        oversize in proptest::sample::select(&POLICIES[..]),
    ) {
        let events = sendable(scheme, events);
        let text = encode(scheme, &events, &counted);
        let outcome = in_pieces(scheme, &text, &pieces, max, oversize);
        let (rows, oversize_events) = model(scheme, &events, max, oversize);
        prop_assert_eq!(outcome, Outcome { rows, oversize_events, cut: false, error: None });
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm_and_pieces_do_not_matter(
        text in vec(byte(), 0..300),
        zeros in 0usize..4,
        pieces in vec(1usize..50, 1..8),
        max in 1usize..40,
        scheme in proptest::sample::select(&SCHEMES[..]),
        oversize in proptest::sample::select(&POLICIES[..]),
    ) {
        // Lengths that are not absurd at once.
        let text = [vec![0; zeros], text].concat();
        let whole = in_pieces(scheme, &text, &[usize::MAX], max, oversize);
        prop_assert_eq!(in_pieces(scheme, &text, &pieces, max, oversize), whole);
    }

    #[test]
    fn a_stream_that_breaks_off_yields_what_came(
        event in vec(Just(b'x'), 1..60),
        missing in 1usize..60,
        max in 1usize..80,
        oversize in proptest::sample::select(&POLICIES[..]),
    ) {
        for scheme in [Scheme::OctetCounted, Scheme::LengthPrefixed] {
            let text = encode(scheme, std::slice::from_ref(&event), &[true]);
            let body = event.len().saturating_sub(missing);
            let text = &text[..text.len() - (event.len() - body)];
            let outcome = in_pieces(scheme, text, &[7], max, oversize);
            let came = outcome.rows.concat();
            let passes = match oversize {
                Oversize::Drop if event.len() > max => 0,
                Oversize::Truncate => body.min(max),
                _ => body,
            };
            prop_assert_eq!(came.len(), passes, "{:?}", scheme);
            let told = outcome.cut || outcome.oversize_events > 0 || body == 0;
            prop_assert!(told, "a cut frame is counted: {:?} {:?}", scheme, outcome);
        }
    }
}

fn rows(scheme: Scheme, text: &[u8]) -> Outcome {
    in_pieces(scheme, text, &[3], 1000, Oversize::Drop)
}

#[test]
fn a_delimiter_split_across_two_reads() {
    for at in 1..8 {
        let outcome = in_pieces(Scheme::Newline, b"one\r\ntwo\n", &[at, 100], 100, Oversize::Drop);
        assert_eq!(outcome.rows, [&b"one\r"[..], b"two"]);
        let outcome =
            in_pieces(Scheme::OctetCounted, b"12 <1>one\ntwo!!3 <2>", &[at, 100], 100, Oversize::Drop);
        assert_eq!(outcome.rows, [&b"<1>one\ntwo!!"[..], b"<2>"]);
    }
}

#[test]
fn forged_lengths_are_told_and_hold_nothing() {
    let outcome = rows(Scheme::LengthPrefixed, b"GET / HTTP/1.1\r\n");
    assert_eq!(outcome.error, Some(FramingError::TooLong { announced: 0x4745_5420 }));
    let outcome = rows(Scheme::LengthPrefixed, &[0xff; 8]);
    assert_eq!(outcome.error, Some(FramingError::TooLong { announced: u64::from(u32::MAX) }));
    let outcome = rows(Scheme::OctetCounted, b"99999999999999999999999999 <1>x");
    assert!(matches!(outcome.error, Some(FramingError::TooLong { .. })), "{outcome:?}");
    let outcome = rows(Scheme::OctetCounted, b"4 <1>a<13>hello\n");
    assert_eq!(outcome.rows, [b"<1>a"]);
    assert_eq!(outcome.error, Some(FramingError::NoLength { found: b'<' }));
    assert!(outcome.error.unwrap().to_string().starts_with("no frame length: `<` is not a digit"));
    assert_eq!(rows(Scheme::OctetCounted, b"0 ").error, Some(FramingError::NoLength { found: b'0' }));
}

#[test]
fn counted_and_plain_events_alternate() {
    let text = b"<1>plain\n7 <2>a\nbc<3>plain\n2026-11-21 a line\n200 OK\n99999999999 <x\n\n4 <4>x12 ";
    let outcome = rows(Scheme::Auto, text);
    let expected = [
        &b"<1>plain"[..],
        b"<2>a\nbc",
        b"<3>plain",
        b"2026-11-21 a line",
        b"200 OK",
        b"99999999999 <x",
        b"",
        b"<4>x",
        b"12 ",
    ];
    assert_eq!(outcome.rows, expected);
    assert_eq!((outcome.cut, outcome.error), (false, None));
}

#[test]
fn one_line_break_at_the_end_of_a_counted_event_is_left_out() {
    for scheme in [Scheme::OctetCounted, Scheme::Auto] {
        let outcome = rows(scheme, b"6 <1>ab\n8 <2>a\nb\n\n4 <3>x");
        assert_eq!(outcome.rows, [&b"<1>ab"[..], b"<2>a\nb\n", b"<3>x"]);
    }
    assert_eq!(rows(Scheme::LengthPrefixed, b"\0\0\0\x02a\n").rows, [b"a\n"], "there every byte counts");
}

#[test]
fn nul_events_keep_their_line_breaks() {
    let outcome = rows(Scheme::Nul, b"a\nb\0\0last");
    assert_eq!(outcome.rows, [&b"a\nb"[..], b"", b"last"]);
    let (framed, _) = Framer::new(Scheme::Nul, 10, Oversize::Drop).frame(b"a\0", 0);
    assert_eq!(framed.framing, Framing::Free);
}

#[test]
fn a_line_in_small_pieces_is_searched_once() {
    let mut framer = LineFramer::new(1 << 20, Oversize::Drop);
    // Were the first bytes searched again, the line would end there.
    assert_eq!(framer.frame_fresh(b"a\nb\n", 3).spans, [Span::new(0, 3)]);
}
