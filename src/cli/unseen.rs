//! A question at the terminal whose answer is not shown. The terminal is put back in order however the question
//! ends; an interrupt is read as a key, since a signal would leave the terminal mute.

use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longer answers are cut off with an error.
const ANSWER_BYTES_MAX: usize = 4096;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const CLEAR: u8 = 0x15;
const BACKSPACES: [u8; 2] = [0x08, 0x7f];

/// Puts the terminal back when dropped.
struct Mute(Termios);

impl Mute {
    fn new() -> io::Result<Mute> {
        let before = tcgetattr(io::stdin())?;
        let mut mute = before.clone();
        mute.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &mute)?;
        Ok(Mute(before))
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // When it cannot be put back, nothing can be done about it here.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// Asks on standard error and reads a line from the terminal that is standard input.
///
/// # Errors
/// When the terminal fails, and `Interrupted` on Ctrl-C.
pub fn ask(prompt: &str) -> io::Result<Vec<u8>> {
    let mute = Mute::new()?;
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let answer = read_answer(io::stdin().lock().bytes());
    drop(mute);
    stderr.write_all(b"\n")?;
    answer
}

fn read_answer(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    for key in keys {
        match key? {
            b'\n' | b'\r' | END => return Ok(answer),
            INTERRUPT => return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
            CLEAR => answer.clear(),
            key if BACKSPACES.contains(&key) => {
                // A whole character: continuation bytes of UTF-8 look like 10xxxxxx.
                while answer.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if answer.len() >= ANSWER_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is too long"));
            }
            key => answer.push(key),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_an_answer() {
        let read = |keys: &[u8]| read_answer(keys.iter().map(|key| Ok(*key))).map_err(|e| e.kind());
        for (keys, answer) in [
            (&b"secret\nrest"[..], Ok("secret")),
            (b"secret\r", Ok("secret")),
            (b"sex\x7fcret\x04", Ok("secret")),
            ("gr\u{fc}\u{7f}\u{7f}u\n".as_bytes(), Ok("gu")),
            (b"wrong\x15right\n", Ok("right")),
            (b"\x7f\x7fa\n", Ok("a")),
            (b"abc\x03", Err(io::ErrorKind::Interrupted)),
        ] {
            assert_eq!(read(keys), answer.map(|text| text.as_bytes().to_vec()));
        }
        assert_eq!(read(&[b'x'; 5000]), Err(io::ErrorKind::InvalidInput));
    }
}
