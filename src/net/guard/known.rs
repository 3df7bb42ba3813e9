//! Who is known: users and tokens with their hashes, read from the configuration, from secrets and from a file in
//! htpasswd form. Checking compares in constant time, and an unknown user costs what a wrong password costs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use aws_lc_rs::digest;
use subtle::ConstantTimeEq;

use super::credentials::Credentials;
use super::identity::{Identity, Means};
use crate::config::{AuthOptions, Environment, Hash};

/// Token hashes that are slow to check, at most: a wrong token is held against each.
pub(super) const SLOW_TOKENS_MAX: usize = 8;
/// The largest htpasswd file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The users and tokens.
#[derive(Debug, Default)]
pub(super) struct Known {
    users: HashMap<Arc<str>, Hash>,
    tokens: Vec<(Arc<str>, Hash)>,
    /// What the password of an unknown user is held against: the first user's hash.
    stand_in: Option<Hash>,
}

impl Known {
    /// Reads secrets and the file; blocks.
    pub(super) fn read(options: &AuthOptions, environment: &Environment) -> Result<Known, String> {
        let mut known = Known::default();
        for entry in &options.basic {
            let hash = entry.password_hash.resolve(environment);
            let hash = hash.map_err(|why| format!("the password hash of `{}`: {why}", entry.user))?;
            known.add(&entry.user, hash);
        }
        for entry in &options.bearer {
            let hash = entry.token_hash.resolve(environment);
            let hash = hash.map_err(|why| format!("the token hash of `{}`: {why}", entry.name))?;
            known.tokens.push((entry.name.as_str().into(), hash));
        }
        let slow = known.tokens.iter().filter(|(_, hash)| hash.is_slow()).count();
        if slow > SLOW_TOKENS_MAX {
            return Err(format!(
                "{slow} tokens have the hash of a password: at most {SLOW_TOKENS_MAX} are allowed"
            ));
        }
        if let Some(path) = &options.htpasswd_file {
            let text =
                read_file(path).map_err(|why| format!("cannot read the password file {path}: {why}"))?;
            known.add_lines(&text).map_err(|why| format!("the password file {path}: {why}"))?;
        }
        Ok(known)
    }

    fn add(&mut self, user: &str, hash: Hash) {
        self.stand_in.get_or_insert_with(|| hash.clone());
        self.users.insert(user.into(), hash);
    }

    /// Adds the lines of a file in htpasswd form.
    fn add_lines(&mut self, text: &str) -> Result<(), String> {
        for (number, user, hash) in htpasswd(text)? {
            if self.users.contains_key(user) {
                return Err(format!("line {number}: this user is there twice"));
            }
            self.add(user, hash);
        }
        Ok(())
    }

    /// Whether checking these credentials takes long on purpose, and so belongs on a thread that may block.
    pub(super) fn is_slow(&self, credentials: &Credentials) -> bool {
        match credentials {
            Credentials::Basic { .. } => true,
            Credentials::Bearer(_) => self.tokens.iter().any(|(_, hash)| hash.is_slow()),
        }
    }

    /// Whose credentials they are.
    pub(super) fn check(&self, credentials: &Credentials) -> Option<Identity> {
        match credentials {
            Credentials::Basic { user, password } => {
                let found = self.users.get_key_value(user.as_str());
                let hash = found.map(|(_, hash)| hash).or(self.stand_in.as_ref())?;
                let right = matches(hash, password);
                let (name, _) = found.filter(|_| right)?;
                Some(Identity::new(name.clone(), Means::Basic))
            }
            Credentials::Bearer(token) => {
                // All are tried, so that time does not tell which one it was.
                let mut whose = None;
                for (name, hash) in &self.tokens {
                    if matches(hash, token) && whose.is_none() {
                        whose = Some(name);
                    }
                }
                whose.map(|name| Identity::new(name.clone(), Means::Bearer))
            }
        }
    }
}

/// The entries of a text in htpasswd form, `user:hash` with blank lines and `#` comments aside: the line, from 1, the
/// user, and the hash.
///
/// # Errors
/// The first line that is no entry, and why; never what it holds.
pub fn htpasswd(text: &str) -> Result<Vec<(usize, &str, Hash)>, String> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) =
            line.split_once(':').ok_or_else(|| format!("line {number}: expected `user:hash`"))?;
        let hash = Hash::of_password(hash).map_err(|why| format!("line {number}: {why}"))?;
        entries.push((number, user, hash));
    }
    Ok(entries)
}

fn matches(hash: &Hash, secret: &[u8]) -> bool {
    match hash {
        Hash::Sha256(expected) => {
            digest::digest(&digest::SHA256, secret).as_ref().ct_eq(expected.as_slice()).into()
        }
        Hash::Argon2(hash) => Argon2::default().verify_password(secret, hash.as_ref()).is_ok(),
        // As htpasswd does, bcrypt looks at the first 72 bytes only.
        Hash::Bcrypt(hash) => bcrypt::verify(secret, hash).unwrap_or(false),
    }
}

fn read_file(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err("it is larger than 4MiB".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of `secret`, cheaply.
    fn argon2() -> String {
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon2::PasswordHasher::hash_password(&argon2, b"secret").unwrap().to_string()
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: password.into() }
    }

    fn known() -> Known {
        let mut known = Known::default();
        let bcrypt = bcrypt::hash("geheim", 4).unwrap().replacen("$2b$", "$2y$", 1);
        known.add_lines(&format!("# people\nalice:{}\n\nbob:{bcrypt}\r\n", argon2())).unwrap();
        let token = digest::digest(&digest::SHA256, b"t0ken");
        let hex: String = token.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        known.tokens.push(("agent".into(), Hash::of_token(&format!("sha256:{hex}")).unwrap()));
        known.tokens.push(("old".into(), Hash::of_token(&argon2()).unwrap()));
        known
    }

    #[test]
    fn right_credentials_and_only_those() {
        let known = known();
        for (credentials, name) in [
            (basic("alice", "secret"), Some("alice")),
            (basic("bob", "geheim"), Some("bob")),
            (basic("alice", "geheim"), None),
            (basic("bob", "secret"), None),
            // The password that the stand-in would accept.
            (basic("mallory", "secret"), None),
            (basic("", ""), None),
            (basic("alice", ""), None),
            (basic("Alice", "secret"), None),
            (Credentials::Bearer(b"t0ken".to_vec()), Some("agent")),
            (Credentials::Bearer(b"secret".to_vec()), Some("old")),
            (Credentials::Bearer(b"T0ken".to_vec()), None),
            (Credentials::Bearer(b"t0ken ".to_vec()), None),
        ] {
            let identity = known.check(&credentials);
            assert_eq!(identity.as_ref().and_then(Identity::name), name);
        }
        assert!(Known::default().check(&basic("a", "b")).is_none());
    }

    #[test]
    fn files_say_which_line_is_wrong_and_not_what_it_holds() {
        for (text, why) in [
            ("alice", "line 1: expected `user:hash`"),
            ("\nalice:hunter2", "line 2: this is no password hash"),
            (
                "alice:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
                "line 1: this hash is broken by a laptop: argon2 and bcrypt are taken",
            ),
            (&format!("a:{0}\na:{0}", argon2()), "line 2: this user is there twice"),
        ] {
            assert_eq!(Known::default().add_lines(text).unwrap_err(), why);
        }
    }
}
