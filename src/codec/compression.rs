//! Content codings of HTTP, both ways: gzip, zstd, deflate and snappy. Decompression never yields more than it is
//! allowed to, whatever the input claims, and tells a cut-off or broken body from a whole one; compression keeps its
//! tables from one body to the next.

use std::fmt;
use std::io::{self, Read};

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952; several members in a row are read as one body.
    Gzip,
    /// RFC 8878; several frames in a row are read as one body.
    Zstd,
    /// RFC 1950, as RFC 9110 defines the name. Bare RFC 1951, which some clients send under it, is read too.
    Deflate,
    /// One raw block, as Prometheus and Loki name it; the framed format is recognised by its first chunk and read
    /// too.
    Snappy,
}

/// Largest window of a zstd frame that is accepted: 8 MiB, which RFC 9659 lets a content coding use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The first chunk of framed snappy. No raw block can begin with it: its second element would refer back to before
/// the start.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";
/// A copy of three bytes yields at most 64: no snappy block grows by more than this factor.
const SNAPPY_GROWTH_MAX: usize = 22;

impl Compression {
    /// Every coding, in the order they are listed to users.
    pub const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Deflate, Compression::Snappy];

    /// The coding that `content-encoding` names so, whatever its case.
    pub fn from_token(token: &str) -> Option<Compression> {
        let names = [
            ("gzip", Compression::Gzip),
            ("x-gzip", Compression::Gzip),
            ("zstd", Compression::Zstd),
            ("deflate", Compression::Deflate),
            ("snappy", Compression::Snappy),
            ("x-snappy-framed", Compression::Snappy),
        ];
        names.into_iter().find(|(name, _)| token.eq_ignore_ascii_case(name)).map(|(_, coding)| coding)
    }

    /// Its name in `content-encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Deflate => "deflate",
            Compression::Snappy => "snappy",
        }
    }

    /// The whole body that `input` holds, of at most `bytes_max` bytes. Memory in use is that, doubled while the
    /// result grows, and for zstd a window of up to 8 MiB.
    ///
    /// # Errors
    /// When there would be more, or `input` is broken, cut off, or goes on after its end.
    pub fn decompress(self, input: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
        match self {
            // No coding writes nothing at all, even for an empty body.
            _ if input.is_empty() => Err(cut_off()),
            Compression::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(input), bytes_max),
            Compression::Zstd => {
                let broken = |e: io::Error| DecompressError::Broken(e.to_string());
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
                read_all(decoder, bytes_max)
            }
            Compression::Deflate => inflate(input, bytes_max),
            Compression::Snappy if input.starts_with(SNAPPY_STREAM) => {
                read_all(snap::read::FrameDecoder::new(input), bytes_max)
            }
            Compression::Snappy => snappy_block(input, bytes_max),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecompressError {
    /// It would be larger than this many bytes.
    TooLarge(usize),
    /// It is broken or cut off; what the decoder says.
    Broken(String),
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecompressError::TooLarge(max) => write!(f, "more than {max} bytes once decompressed"),
            DecompressError::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DecompressError {}

fn read_all(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    // One byte more than allowed tells a body of just that size from a larger one.
    let outcome = reader.take((bytes_max as u64).saturating_add(1)).read_to_end(&mut out);
    if out.len() > bytes_max {
        return Err(DecompressError::TooLarge(bytes_max));
    }
    match outcome {
        Ok(_) => Ok(out),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(cut_off()),
        Err(e) => Err(DecompressError::Broken(e.to_string())),
    }
}

fn cut_off() -> DecompressError {
    DecompressError::Broken("it ends before its end: cut off".to_owned())
}

/// Inflates by hand, since flate2's readers take a stream that is cut off for one that ended.
fn inflate(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut stream = Decompress::new(has_zlib_header(input));
    let mut out = Vec::new();
    let mut read = 0;
    loop {
        if out.len() > bytes_max {
            return Err(DecompressError::TooLarge(bytes_max));
        }
        if out.len() == out.capacity() {
            let more = out.len().clamp(4 << 10, 1 << 20).min(bytes_max - out.len() + 1);
            out.reserve_exact(more);
        }
        let (in_before, out_before) = (stream.total_in(), out.len());
        let status = stream
            .decompress_vec(&input[read..], &mut out, FlushDecompress::None)
            .map_err(|_| DecompressError::Broken("not a deflate stream, or a damaged one".to_owned()))?;
        let consumed = (stream.total_in() - in_before) as usize;
        read += consumed;
        match status {
            Status::StreamEnd => break,
            _ if consumed == 0 && out.len() == out_before && out.len() < out.capacity() => {
                return Err(cut_off());
            }
            _ => {}
        }
    }
    if out.len() > bytes_max {
        return Err(DecompressError::TooLarge(bytes_max));
    }
    if read < input.len() {
        let rest = input.len() - read;
        return Err(DecompressError::Broken(format!("{rest} bytes follow the end of the stream")));
    }
    Ok(out)
}

/// Whether the first two bytes are a zlib header: method 8, and a multiple of 31 (RFC 1950, section 2.2). A bare
/// deflate stream that began so would be a stored block with padding that is not zero, which nobody writes.
fn has_zlib_header(input: &[u8]) -> bool {
    matches!(*input, [first, second, ..]
        if first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31))
}

fn snappy_block(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let broken = |e: snap::Error| DecompressError::Broken(e.to_string());
    let claimed = snap::raw::decompress_len(input).map_err(broken)?;
    if claimed > bytes_max {
        return Err(DecompressError::TooLarge(bytes_max));
    }
    // Before memory is set aside for what a few bytes claim.
    if claimed > input.len().saturating_mul(SNAPPY_GROWTH_MAX) {
        return Err(DecompressError::Broken(format!("{} bytes cannot hold {claimed}", input.len())));
    }
    snap::raw::Decoder::new().decompress_vec(input).map_err(broken)
}

/// Compresses bodies one after the other, each whole by itself.
pub struct Compressor {
    coding: Compression,
    state: State,
}

enum State {
    /// gzip or zlib, as its header says.
    Flate(Box<Compress>),
    Zstd(zstd::bulk::Compressor<'static>),
    Snappy(Box<snap::raw::Encoder>),
}

impl Compressor {
    /// A compressor at the coding's usual level (6 of gzip and deflate, 3 of zstd), or at `level`: 0 to 9 for gzip
    /// and deflate, 1 to 22 for zstd, none for snappy; others are taken for the nearest.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(coding: Compression, level: Option<i32>) -> io::Result<Compressor> {
        let flate = flate2::Compression::new(level.unwrap_or(6).clamp(0, 9).unsigned_abs());
        let state = match coding {
            Compression::Gzip => State::Flate(Box::new(Compress::new_gzip(flate, 15))),
            Compression::Deflate => State::Flate(Box::new(Compress::new(flate, true))),
            Compression::Zstd => {
                let mut zstd = zstd::bulk::Compressor::new(level.unwrap_or(3).clamp(1, 22))?;
                zstd.include_checksum(true)?;
                // A receiver may refuse a larger window.
                zstd.window_log(ZSTD_WINDOW_LOG_MAX.min(21))?;
                State::Zstd(zstd)
            }
            Compression::Snappy => State::Snappy(Box::new(snap::raw::Encoder::new())),
        };
        Ok(Compressor { coding, state })
    }

    /// The coding.
    pub fn coding(&self) -> Compression {
        self.coding
    }

    /// Appends `input`, compressed, to `out`.
    ///
    /// # Errors
    /// When `input` is too large for the coding (4 GiB for snappy) or memory is short; `out` is then as before.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        let outcome = match &mut self.state {
            State::Flate(deflate) => deflate_all(deflate, input, out),
            State::Zstd(zstd) => {
                out.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
                zstd.compress_to_buffer(input, &mut out[start..]).map(|n| out.truncate(start + n))
            }
            State::Snappy(snappy) => {
                out.resize(start + snap::raw::max_compress_len(input.len()), 0);
                let written = snappy.compress(input, &mut out[start..]);
                written.map(|n| out.truncate(start + n)).map_err(io::Error::other)
            }
        };
        if outcome.is_err() {
            out.truncate(start);
        }
        outcome
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.coding).finish()
    }
}

fn deflate_all(stream: &mut Compress, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    stream.reset();
    // Logs shrink to less than a fifth as a rule; what is more comes in further steps.
    out.reserve(input.len() / 4 + 64);
    loop {
        let read = stream.total_in() as usize;
        match stream.compress_vec(&input[read..], out, FlushCompress::Finish)? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => out.reserve((input.len() / 4).max(64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn packed(coding: Compression, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::new(coding, None).unwrap().compress(text, &mut out).unwrap();
        out
    }

    fn snappy_framed(text: &[u8]) -> Vec<u8> {
        let mut writer = snap::write::FrameEncoder::new(Vec::new());
        writer.write_all(text).unwrap();
        writer.into_inner().unwrap()
    }

    fn bare_deflate(text: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(
            bodies in proptest::collection::vec(proptest::collection::vec(prop_oneof![4 => Just(b'a'), 1 => any::<u8>()], 0..3000), 1..4),
        ) {
            for coding in Compression::ALL {
                let mut compressor = Compressor::new(coding, None).unwrap();
                for body in &bodies {
                    let mut out = b"before".to_vec();
                    compressor.compress(body, &mut out).unwrap();
                    prop_assert_eq!(&out[..6], b"before");
                    // Exactly as much as there is may be allowed.
                    let back = coding.decompress(&out[6..], body.len());
                    prop_assert_eq!(back.as_ref(), Ok(body), "{}", coding);
                }
            }
        }

        #[test]
        fn garbage_is_refused_or_bounded(garbage in proptest::collection::vec(any::<u8>(), 0..300), start in 0usize..4) {
            let starts: [&[u8]; 4] = [b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", SNAPPY_STREAM];
            let input = [starts[start], &garbage].concat();
            for coding in Compression::ALL {
                if let Ok(out) = coding.decompress(&input, 1000) {
                    prop_assert!(out.len() <= 1000);
                }
            }
        }

        #[test]
        fn a_body_that_is_cut_off_is_no_body(cut in 1usize..200) {
            let text: Vec<u8> = (0..400u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
            for coding in Compression::ALL {
                let whole = packed(coding, &text);
                let part = &whole[..whole.len() - cut.min(whole.len())];
                prop_assert!(matches!(coding.decompress(part, 10_000), Err(DecompressError::Broken(_))), "{}", coding);
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0u8; 20 << 20];
        for coding in Compression::ALL {
            let bomb = packed(coding, &zeros);
            assert_eq!(
                coding.decompress(&bomb, 1 << 20),
                Err(DecompressError::TooLarge(1 << 20)),
                "{coding}"
            );
            assert_eq!(coding.decompress(&bomb, zeros.len()).unwrap().len(), zeros.len());
            let one_less = zeros.len() - 1;
            assert_eq!(coding.decompress(&bomb, one_less), Err(DecompressError::TooLarge(one_less)));
        }
        let framed = snappy_framed(&zeros);
        assert_eq!(Compression::Snappy.decompress(&framed, 100), Err(DecompressError::TooLarge(100)));
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        for coding in [Compression::Gzip, Compression::Zstd] {
            let members = [packed(coding, b"one\n"), packed(coding, b""), packed(coding, b"two\n")].concat();
            assert_eq!(coding.decompress(&members, 100).unwrap(), b"one\ntwo\n");
            // The limit is that of all members together.
            assert_eq!(coding.decompress(&members, 7), Err(DecompressError::TooLarge(7)));
        }
        let framed = [snappy_framed(b"one\n"), snappy_framed(b"two\n")].concat();
        assert_eq!(Compression::Snappy.decompress(&framed, 100).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn names_that_clients_use_for_other_forms_are_understood() {
        assert_eq!(Compression::Deflate.decompress(&bare_deflate(b"bare"), 100).unwrap(), b"bare");
        assert_eq!(Compression::from_token("X-GZIP"), Some(Compression::Gzip));
        assert_eq!(Compression::from_token("x-snappy-framed"), Some(Compression::Snappy));
        assert_eq!(Compression::from_token("br"), None);
        for coding in Compression::ALL {
            assert_eq!(Compression::from_token(coding.token()), Some(coding));
        }
    }

    #[test]
    fn what_follows_the_end_is_not_ignored() {
        for coding in Compression::ALL {
            let trailed = [packed(coding, b"body"), b"more".to_vec()].concat();
            assert!(matches!(coding.decompress(&trailed, 100), Err(DecompressError::Broken(_))), "{coding}");
        }
    }

    #[test]
    fn forged_lengths_set_no_memory_aside() {
        // A snappy block that claims 60 MiB in five bytes, and one that claims more than four gigabytes.
        let forged = [0x80, 0x80, 0x80, 0x1e, 0x00];
        let why = Compression::Snappy.decompress(&forged, 64 << 20).unwrap_err();
        assert_eq!(why, DecompressError::Broken("5 bytes cannot hold 62914560".to_owned()));
        assert!(Compression::Snappy.decompress(&[0xff; 12], usize::MAX).is_err());
        // A zstd frame that asks for a window of 2 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        let why = Compression::Zstd.decompress(&frame, 1 << 20).unwrap_err();
        assert!(matches!(&why, DecompressError::Broken(w) if w.contains("memory")), "{why}");
    }
}
