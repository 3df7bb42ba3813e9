//! Encoded batches into file descriptors. Raw rows leave from the arena itself, many stretches in one system
//! call; only short stretches are gathered in a buffer first, since each costs the kernel more than a copy.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use smallvec::SmallVec;

use super::encode::{self, Format, raw_slices};
use crate::batch::Batch;

/// Stretches at least this long are written from where they are, in bytes.
const DIRECT_BYTES_MIN: usize = 8 << 10;
/// Most stretches in one system call (IOV_MAX on Linux).
const STRETCHES_MAX: usize = 1024;

/// Writes all live rows of `batch` to `fd`, each followed by `\n`. `buffer` is working space to reuse.
///
/// # Errors
/// The system's; some of the bytes may have been written by then.
pub fn write_batch(
    fd: BorrowedFd<'_>,
    batch: &Batch,
    format: &Format,
    pipeline: &Arc<str>,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<()> {
    buffer.clear();
    if *format != Format::Raw {
        return write_all(fd, &encode::lines(batch, format, &format.key(), pipeline));
    }
    let (mut stretches, mut short) = (SmallVec::<[&[u8]; 8]>::new(), 0usize);
    raw_slices(batch, |slice| {
        short += if slice.len() < DIRECT_BYTES_MIN { slice.len() } else { 0 };
        stretches.push(slice);
    });
    buffer.reserve(short);
    for slice in stretches.iter().filter(|s| s.len() < DIRECT_BYTES_MIN) {
        buffer.extend_from_slice(slice);
    }
    // Short neighbours are one stretch of the buffer now.
    let (mut parts, mut taken) = (SmallVec::<[IoSlice<'_>; 8]>::new(), 0);
    let mut run = 0;
    for slice in &stretches {
        if slice.len() < DIRECT_BYTES_MIN {
            run += slice.len();
            continue;
        }
        if run > 0 {
            parts.push(IoSlice::new(&buffer[taken..taken + run]));
        }
        (taken, run) = (taken + run, 0);
        parts.push(IoSlice::new(slice));
    }
    if run > 0 {
        parts.push(IoSlice::new(&buffer[taken..taken + run]));
    }
    write_all_parts(fd, &mut parts)
}

/// Writes all of `bytes`.
///
/// # Errors
/// The system's; some of the bytes may have been written by then.
pub fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<()> {
    write_all_parts(fd, &mut [IoSlice::new(bytes)])
}

fn write_all_parts(fd: BorrowedFd<'_>, parts: &mut [IoSlice<'_>]) -> rustix::io::Result<()> {
    let mut rest = parts;
    // Drops leading empty parts, for which a write would return 0 for ever.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let many = rest.len().min(STRETCHES_MAX);
        match rustix::io::writev(fd, &rest[..many]) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(Errno::INTR) => {}
            // Somebody who shares the other end made it non-blocking; this thread may wait.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None).or_else(|e| match e {
                    Errno::INTR => Ok(0),
                    e => Err(e),
                })?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]
        #[test]
        fn writes_what_encoding_gives(
            lengths in proptest::collection::vec(prop_oneof![4 => 0usize..200, 1 => 7_000usize..20_000], 0..60),
            keep in proptest::collection::vec(any::<bool>(), 60),
        ) {
            let lines = lengths.iter().enumerate().map(|(i, n)| vec![b'a' + (i % 26) as u8; *n]);
            let mut batch = Batch::from_lines("t", lines);
            batch.retain(|_, row| keep[row as usize]);
            let mut file = tempfile::tempfile().unwrap();
            let (pipeline, mut buffer) = (Arc::from("p"), Vec::new());
            write_batch(file.as_fd(), &batch, &Format::Raw, &pipeline, &mut buffer).unwrap();
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            file.rewind().unwrap();
            file.read_to_end(&mut written).unwrap();
            encode::encode_lines(&batch, &Format::Raw, &pipeline, &mut expected);
            prop_assert!(written == expected);
        }
    }

    #[test]
    fn a_non_blocking_pipe_is_waited_for() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let text = vec![b'x'; 1 << 20];
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        write_all(writer.as_fd(), &text).unwrap();
        drop(writer);
        assert!(reading.join().unwrap() == text);
    }
}
