//! `weir hash`: makes the hash of a password or a token for `auth`, so that the configuration holds nothing that
//! opens a door. What is typed is not shown and goes nowhere else.

use std::io::{IsTerminal, Read};

use argon2::{Argon2, PasswordHasher};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::args::HashAlgorithm;
use super::exit::{Exit, Failure};
use super::terminal;
use super::unseen;

/// Longer input is no password.
const INPUT_BYTES_MAX: u64 = 4096;
/// What bcrypt takes into account.
const BCRYPT_BYTES_MAX: usize = 72;
/// 2¹² rounds, about a quarter of a second.
const BCRYPT_COST: u32 = 12;
/// Random bytes of a token: nobody guesses 256 bits, so a fast hash keeps it safe.
const TOKEN_BYTES: usize = 32;

/// Prints the hash of what is typed, or of standard input; with `token` a new token and its hash.
///
/// # Errors
/// When there is nothing to hash, or what was typed twice differs.
pub fn run(algorithm: HashAlgorithm, token: bool) -> Result<Exit, Failure> {
    let text = if token {
        let token = new_token()?;
        format!("token = \"{token}\"\ntoken_hash = \"{}\"\n", sha256(token.as_bytes()))
    } else {
        format!("{}\n", hash(&ask()?, algorithm)?)
    };
    terminal::print(&text)?;
    Ok(Exit::OK)
}

/// The password: typed twice at a terminal, or the first line of standard input.
fn ask() -> Result<Vec<u8>, Failure> {
    let failed = |e| Failure::new(Exit::IO, format!("cannot read the password: {e}"));
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() {
        let first = unseen::ask("password: ").map_err(failed)?;
        let second = unseen::ask("again: ").map_err(failed)?;
        if first != second {
            return Err(Failure::new(Exit::FAILED, "the two differ: nothing was hashed"));
        }
        first
    } else {
        let mut text = Vec::new();
        stdin.lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        let end = text.strip_suffix(b"\n").map_or(text.len(), <[u8]>::len);
        text.truncate(end);
        let end = text.strip_suffix(b"\r").map_or(text.len(), <[u8]>::len);
        text.truncate(end);
        text
    };
    match password.len() as u64 {
        0 => Err(Failure::new(Exit::NO_INPUT, "nothing to hash: the password is empty")
            .hint("type one, or pipe it in: printf %s \"$PASSWORD\" | weir hash")),
        n if n > INPUT_BYTES_MAX => Err(Failure::usage(format!(
            "the password is too long: at most {INPUT_BYTES_MAX} bytes are taken"
        ))),
        _ if password.contains(&b'\n') => {
            Err(Failure::usage("more than one line came in").hint("hash one password at a time"))
        }
        _ => Ok(password),
    }
}

fn hash(password: &[u8], algorithm: HashAlgorithm) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::INTERNAL, format!("cannot hash: {why}"));
    match algorithm {
        HashAlgorithm::Argon2id => {
            let hashed = Argon2::default().hash_password(password);
            hashed.map(|hash| hash.to_string()).map_err(|e| failed(e.to_string()))
        }
        HashAlgorithm::Bcrypt if password.len() > BCRYPT_BYTES_MAX => Err(Failure::usage(format!(
            "the password is too long for bcrypt, which ignores what comes after {BCRYPT_BYTES_MAX} bytes"
        ))
        .hint("use argon2id")),
        HashAlgorithm::Bcrypt => {
            let hashed = bcrypt::non_truncating_hash_with_result(password, BCRYPT_COST);
            // As htpasswd writes it.
            hashed
                .map(|parts| parts.format_for_version(bcrypt::Version::TwoY))
                .map_err(|e| failed(e.to_string()))
        }
        HashAlgorithm::Sha256 => Ok(sha256(password)),
    }
}

fn sha256(token: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, token);
    let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

fn new_token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    rand::fill(&mut bytes)
        .map_err(|_| Failure::new(Exit::UNAVAILABLE, "the operating system has no randomness"))?;
    Ok(format!("weir_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hash;

    #[test]
    fn what_it_prints_is_what_auth_takes() {
        for algorithm in [HashAlgorithm::Argon2id, HashAlgorithm::Bcrypt] {
            let hash = hash(b"hunter2", algorithm).unwrap();
            assert!(Hash::of_password(&hash).is_ok(), "{hash}");
        }
        let token = new_token().unwrap();
        assert!(token.len() > 40 && token != new_token().unwrap());
        assert!(Hash::of_token(&sha256(token.as_bytes())).is_ok());
        assert_eq!(sha256(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(hash(&[b'x'; 73], HashAlgorithm::Bcrypt).is_err());
    }
}
