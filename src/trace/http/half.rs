//! One direction of a connection: where its messages begin and end. Only the first bytes of each call are there; what
//! lies behind them is counted, and a message end among them makes the half lose its place until a call begins like
//! a message again.

use super::head;

/// Longest head that is put together; what comes after is not read.
pub(super) const HEAD_MAX: usize = 8 * 1024;
/// Room for a line between chunks that is kept for the next.
const KEPT_MAX: usize = 256;
/// Longest line between chunks: a size with its extensions.
const CHUNK_LINE_MAX: usize = 1024;

/// What one call moved, as far as it was not consumed yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// The first bytes.
    pub(super) seen: &'a [u8],
    /// How many follow them that were not captured.
    pub(super) unseen: u64,
}

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.unseen == 0
    }

    /// Consumes up to `n` bytes; returns how many.
    fn skip(&mut self, n: u64) -> u64 {
        let seen = n.min(self.seen.len() as u64);
        self.seen = &self.seen[seen as usize..];
        let unseen = (n - seen).min(self.unseen);
        self.unseen -= unseen;
        seen + unseen
    }
}

/// How a body ends, decided by whoever knows both messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// Nobody knows.
    Unknown,
    /// What follows is not HTTP.
    Opaque,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more in this input.
    Wait,
    /// A head; [`Half::body`] must be told how the message goes on.
    Head {
        /// Its bytes, the empty line included.
        bytes: Vec<u8>,
        /// Whether its end is missing.
        cut: bool,
    },
    /// The message ended.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    Trailer,
    UntilClose,
    Lost,
    Opaque,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Half {
    request: bool,
    state: State,
    /// The head, or the line between chunks, so far.
    held: Vec<u8>,
    /// Bytes of the message so far.
    taken: u64,
}

impl Half {
    pub(super) fn new(request: bool) -> Half {
        Half { request, state: State::Head, held: Vec::new(), taken: 0 }
    }

    /// Bytes of the current message, or of the last one until the next begins.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing of a next message has come.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Head && self.held.is_empty()
    }

    pub(super) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Bytes of memory that wait here for the rest of a head or line.
    pub(super) fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Lets go of what waits: the message is lost, the next one that begins with a call is read again.
    pub(super) fn give_up(&mut self) {
        if !self.held.is_empty() {
            self.become_state(State::Lost);
        }
        self.held = Vec::new();
    }

    /// From now on nothing is read.
    pub(super) fn close(&mut self) {
        self.become_state(State::Opaque);
    }

    /// Called with the first bytes of each call, before [`Half::step`]. A half that has lost its place, or that may
    /// have (`doubt`: records were dropped), finds it again where a call begins like a message. Returns whether it
    /// did: the message before has ended somewhere.
    pub(super) fn resume(&mut self, seen: &[u8], doubt: bool) -> bool {
        let astray = match self.state {
            State::Lost => true,
            State::Opaque | State::UntilClose => false,
            _ => doubt && !self.is_between(),
        };
        let found = astray && head::begins(seen, self.request);
        if found {
            self.become_state(State::Head);
        } else if doubt && astray {
            self.become_state(State::Lost);
        }
        found
    }

    /// How the message goes on whose head was just found; `true` if it has ended with it.
    pub(super) fn body(&mut self, body: Body) -> bool {
        let state = match body {
            Body::None | Body::Length(0) => State::Head,
            Body::Length(n) => State::Length(n),
            Body::Chunked => State::ChunkSize,
            Body::UntilClose => State::UntilClose,
            Body::Unknown => State::Lost,
            Body::Opaque => State::Opaque,
        };
        let ended = state == State::Head;
        self.become_state(state);
        ended
    }

    /// Goes on until something is found or the input is used up.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Step {
        while !input.is_empty() {
            let found = match self.state {
                State::Head => self.head(input),
                State::Length(left) => {
                    let taken = self.skip(input, left);
                    self.after(left - taken, State::Length, None)
                }
                State::Chunk(left) => {
                    let taken = self.skip(input, left);
                    self.after(left - taken, State::Chunk, Some(State::ChunkSize))
                }
                State::ChunkSize | State::Trailer => self.line(input),
                State::UntilClose | State::Lost | State::Opaque => {
                    self.skip(input, u64::MAX);
                    None
                }
            };
            if let Some(found) = found {
                return found;
            }
        }
        Step::Wait
    }

    fn after(&mut self, left: u64, same: fn(u64) -> State, next: Option<State>) -> Option<Step> {
        if left > 0 {
            self.state = same(left);
            return None;
        }
        let ended = next.is_none();
        self.become_state(next.unwrap_or(State::Head));
        ended.then_some(Step::End)
    }

    fn head(&mut self, input: &mut Input<'_>) -> Option<Step> {
        if self.held.is_empty() {
            // Empty lines before a message are allowed.
            let blank = input.seen.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            input.seen = &input.seen[blank..];
            self.taken = 0;
        }
        let (before, room) = (self.held.len(), HEAD_MAX - self.held.len());
        let some = &input.seen[..input.seen.len().min(room)];
        self.held.extend_from_slice(some);
        if let Some(end) = head::end(&self.held, before) {
            self.held.truncate(end);
            self.skip(input, (end - before) as u64);
            return Some(Step::Head { bytes: std::mem::take(&mut self.held), cut: false });
        }
        self.skip(input, some.len() as u64);
        if input.is_empty() && self.held.len() < HEAD_MAX {
            return None;
        }
        // The rest of the head is not there, or there is too much of it.
        let bytes = std::mem::take(&mut self.held);
        self.become_state(State::Lost);
        (!bytes.is_empty()).then_some(Step::Head { bytes, cut: true })
    }

    /// A line between chunks, or of the trailer.
    fn line(&mut self, input: &mut Input<'_>) -> Option<Step> {
        let end = memchr::memchr(b'\n', input.seen);
        let some = end.map_or(input.seen.len(), |end| end + 1);
        self.held.extend_from_slice(&input.seen[..some]);
        self.skip(input, some as u64);
        if end.is_none() {
            if input.unseen > 0 || self.held.len() > CHUNK_LINE_MAX {
                self.become_state(State::Lost);
            }
            return None;
        }
        let line = self.held.trim_ascii();
        let (is_blank, size) = (line.is_empty(), chunk_size(line));
        self.held.clear();
        if self.state == State::Trailer {
            // An empty line ends the message.
            return is_blank.then(|| {
                self.become_state(State::Head);
                Step::End
            });
        }
        self.become_state(match size {
            Some(0) => State::Trailer,
            // The line break behind the data belongs to the chunk.
            Some(size) => State::Chunk(size.saturating_add(2)),
            None => State::Lost,
        });
        None
    }

    fn skip(&mut self, input: &mut Input<'_>, n: u64) -> u64 {
        let taken = input.skip(n);
        self.taken += taken;
        taken
    }

    fn become_state(&mut self, state: State) {
        self.state = state;
        self.held.clear();
        if self.held.capacity() > KEPT_MAX {
            self.held = Vec::new();
        }
    }
}

/// The size in front of a chunk, extensions ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let ends = line.get(digits).is_none_or(|b| matches!(b, b';' | b' ' | b'\t'));
    let text = std::str::from_utf8(&line[..digits]).ok()?;
    if ends { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All steps of a stream that arrives in the given pieces; heads get `body`.
    fn steps(pieces: &[(&[u8], u64)], body: Body) -> (Vec<Step>, Half) {
        let (mut half, mut found) = (Half::new(true), Vec::new());
        for (seen, unseen) in pieces {
            let mut input = Input { seen, unseen: *unseen };
            half.resume(seen, false);
            loop {
                match half.step(&mut input) {
                    Step::Wait => break,
                    step => {
                        let cut = matches!(&step, Step::Head { cut: true, .. });
                        if matches!(&step, Step::Head { .. }) && !cut && half.body(body) {
                            found.push(step);
                            found.push(Step::End);
                            continue;
                        }
                        found.push(step);
                    }
                }
            }
        }
        (found, half)
    }

    fn kinds(steps: &[Step]) -> String {
        let kind = |step: &Step| match step {
            Step::Head { cut: false, .. } => 'H',
            Step::Head { cut: true, .. } => 'C',
            Step::End => 'E',
            Step::Wait => 'W',
        };
        steps.iter().map(kind).collect()
    }

    #[test]
    fn split_anywhere_it_is_the_same() {
        let (head, chunks) =
            ("POST /a HTTP/1.1\r\nHost: x\r\n\r\n", "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\n");
        let cases = [
            (format!("{head}{head}\r\n{head}"), Body::None, "HEHEHE"),
            (format!("{head}hello{head}world"), Body::Length(5), "HEHE"),
            (format!("{head}{chunks}{head}{chunks}"), Body::Chunked, "HEHE"),
        ];
        for (text, body, expected) in cases {
            let bytes = text.as_bytes();
            for size in 1..=bytes.len() {
                let pieces: Vec<_> = bytes.chunks(size).map(|piece| (piece, 0)).collect();
                assert_eq!(kinds(&steps(&pieces, body).0), expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn bodies_are_skipped_over_what_was_not_captured() {
        let head = &b"PUT /a HTTP/1.1\r\n\r\n"[..];
        let (found, half) = steps(&[(head, 900), (b"", 100), (head, 1000)], Body::Length(1000));
        assert_eq!((kinds(&found).as_str(), half.taken()), ("HEHE", 1000 + head.len() as u64));
        // Its end lies among what was not captured: the place is lost, and found again.
        let (found, half) = steps(&[(head, 2000)], Body::Length(1000));
        assert_eq!((kinds(&found).as_str(), half.is_lost()), ("HE", true));
        let (found, _) = steps(&[(head, 2000), (b"junk", 0), (head, 1000)], Body::Length(1000));
        assert_eq!(kinds(&found), "HEHE");
        // The same among chunks.
        let (found, _) =
            steps(&[(head, 0), (b"100\r\nab", 300), (head, 0), (b"0\r\n\r\n", 0)], Body::Chunked);
        assert_eq!(kinds(&found), "HHE");
    }

    #[test]
    fn heads_are_bounded() {
        let (found, half) = steps(&[(b"GET /a HTTP/1.1\r\nX: ", 3000)], Body::None);
        assert_eq!((kinds(&found).as_str(), half.is_lost()), ("C", true));
        let long = vec![b'a'; HEAD_MAX + 9];
        let (found, half) = steps(&[(&long, 0), (&long, 0)], Body::None);
        assert_eq!((kinds(&found).as_str(), half.is_lost()), ("C", true));
        assert!(half.held.capacity() <= 2 * HEAD_MAX);
        // A chunk's size that does not end.
        let (_, half) = steps(&[(b"GET / HTTP/1.1\r\n\r\n", 0), (&long, 0)], Body::Chunked);
        assert!(half.is_lost());
        let (_, half) = steps(&[(b"GET / HTTP/1.1\r\n\r\nffffffffffffffffff\r\n", 0)], Body::Chunked);
        assert!(half.is_lost());
    }
}
