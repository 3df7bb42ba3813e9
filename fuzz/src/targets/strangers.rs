//! Who a stranger says to be, and what operators write about who may come in.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use logweir::config::{Cidr, Hash};
use logweir::net::guard::{self, Credentials};
use logweir::net::id::Epoch;
use logweir::net::tls::{certificate, pem as files};

fn read(value: &[u8]) -> Option<Result<Credentials, ()>> {
    let value = HeaderValue::from_bytes(value).ok()?;
    guard::of_headers(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

/// What a client sends by the rules is what is read, and nothing is ever printed.
pub fn credentials(data: &[u8]) {
    if let Some(Ok(credentials)) = read(data) {
        assert_eq!(format!("{credentials:?}"), "***");
        if let Credentials::Basic { user, .. } = &credentials {
            assert!(!user.contains(':'));
        }
    }
    let [kind, rest @ ..] = data else { return };
    let colon = rest.iter().position(|b| *b == b':').unwrap_or(rest.len());
    let (user, password) = (&rest[..colon], rest.get(colon + 1..).unwrap_or_default());
    let pair = [user, b":", password].concat();
    let written = if kind % 2 == 0 { STANDARD.encode(&pair) } else { STANDARD_NO_PAD.encode(&pair) };
    if written.len() > 4000 {
        return;
    }
    let expected = match std::str::from_utf8(user) {
        Ok(user) => Ok(Credentials::Basic { user: user.to_owned(), password: password.to_vec() }),
        Err(_) => Err(()),
    };
    assert!(read(format!("Basic {written}").as_bytes()) == Some(expected));
    let token = format!("Bearer {written}");
    assert!(read(token.as_bytes()) == Some(Ok(Credentials::Bearer(written.into_bytes()))));
}

/// A ticket that is taken is gone from what other readers of the query see.
pub fn tickets(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let rest = guard::without_ticket(query);
    assert_eq!(guard::ticket(Some(&rest)), None, "{query:?} left {rest:?}");
    assert!(rest.len() <= query.len());
}

/// Password files: entries, or which line is wrong and never what it holds.
pub fn htpasswd(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match guard::htpasswd(text) {
        Ok(entries) => {
            let lines: Vec<&str> = text.lines().collect();
            assert!(entries.len() <= lines.len());
            for (number, user, hash) in entries {
                assert!(lines[number - 1].trim().starts_with(user) && !user.contains(':'));
                assert_eq!(format!("{hash:?}"), "***");
            }
        }
        Err(why) => keeps_secret(&why, text.lines().filter_map(|line| Some(line.split_once(':')?.1.trim()))),
    }
}

/// What is long enough to be a secret is not in the message.
fn keeps_secret<'a>(why: &str, mut secrets: impl Iterator<Item = &'a str>) {
    assert!(why.len() < 300, "{why}");
    // The words of messages may be in a hash, too.
    let told = secrets.find(|secret| secret.len() > 16 && !secret.contains(' ') && why.contains(secret));
    assert_eq!(told, None, "{why}");
}

/// PHC strings of argon2, bcrypt in modular crypt form, and hashes of tokens.
pub fn hashes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Hash::of_password(text) {
        Ok(hash) => {
            assert!(hash.is_slow() && format!("{hash:?}") == "***");
            assert!(Hash::of_token(text) == Ok(hash), "what protects a password protects a token");
        }
        Err(why) => keeps_secret(&why, [text.trim()].into_iter()),
    }
    match Hash::of_token(text) {
        Ok(Hash::Sha256(bytes)) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert!(text.trim().to_ascii_lowercase().ends_with(&hex));
        }
        Ok(_) => {}
        Err(why) => keeps_secret(&why, [text.trim()].into_iter()),
    }
}

/// Networks of access lists print as what they are read from.
pub fn networks(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(network) = Cidr::parse(text) else { return };
    let shown = network.to_string();
    assert_eq!(Cidr::parse(&shown), Ok(network), "{text} {shown}");
    let (address, prefix) = shown.split_once('/').expect("a prefix");
    assert!(network.contains(address.parse().expect("an address")), "its first address belongs to it");
    assert_eq!(network.is_everything(), prefix == "0");
}

/// PEM files: certificates come back as they went in, and a mistake is told apart.
pub fn pem(data: &[u8]) {
    let path = Path::new("file.pem");
    match files::certificates_in("cert_file", path, data) {
        Ok(found) => assert!(!found.is_empty()),
        Err(e) => assert!(e.message.len() < 400 && e.hint.len() < 400, "{e}"),
    }
    if let Err(e) = files::private_key_in("key_file", path, data) {
        assert!(e.message.len() < 400 && e.hint.len() < 400, "{e}");
    }
    let body = STANDARD.encode(data);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("ASCII")).collect();
    let text = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    let found = files::certificates_in("cert_file", path, text.repeat(2).as_bytes()).expect("PEM");
    assert!(found.len() == 2 && found.iter().all(|der| der.as_ref() == data));
}

/// A certificate's name is fit for a label, and its times can be shown.
pub fn certificates(data: &[u8]) {
    if let Some(name) = certificate::name(data) {
        assert!(!name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control), "{name:?}");
    }
    for now in [i64::MIN / 4, 0, 1_700_000_000, i64::MAX / 4] {
        let said = certificate::timing(data, now);
        assert!(said.is_none_or(|said| said.len() < 200));
    }
    assert!(certificate::valid_until(data).len() < 20);
}

/// `Last-Event-ID`: only what was given out is taken, and nothing else for it.
pub fn event_ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let epoch = Epoch::from_millis(36 * 36);
    if let Some(seq) = epoch.parse(text) {
        assert_eq!(epoch.id(seq), text);
    }
    assert!(epoch.parse_composite(text, "a").is_none() || text.contains("a:"));
    let mut names: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    let numbers = data.iter().map(|byte| u64::from(*byte) << 32);
    let positions: Vec<(&str, u64)> = names.into_iter().zip(numbers).collect();
    let id = epoch.composite(positions.iter().copied());
    for (name, seq) in positions {
        assert_eq!(epoch.parse_composite(&id, name), Some(seq), "{id}");
    }
}
