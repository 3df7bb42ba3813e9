//! `weir tls`: an authority of one's own, and certificates for servers and clients signed by it, so that traffic
//! can be encrypted without buying or configuring anything else.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::args::{Tls, TlsFiles};
use super::exit::{Exit, Failure};
use super::terminal;
use crate::base::clock;
use crate::net::tls::{certificate, pem};

const DAY_SECONDS: i64 = 86_400;
const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key";

/// Makes what was asked for, and prints what was written and how to use it.
///
/// # Errors
/// With 64 for a name that cannot be certified, 66 when there is no authority, 73 when a file exists or cannot be
/// written.
pub fn run(what: &Tls) -> Result<Exit, Failure> {
    let text = match what {
        Tls::Ca { name, days, files } => authority(name, *days, files)?,
        Tls::Server { name, days, files } => server(name, *days, files)?,
        Tls::Client { name, days, files } => client(name, *days, files)?,
    };
    terminal::print(&text)?;
    Ok(Exit::OK)
}

fn authority(name: &str, days: u16, files: &TlsFiles) -> Result<String, Failure> {
    let mut params = params(name, Vec::new(), days);
    // It signs servers and clients, and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(|e| internal(&e))?;
    let made = params.self_signed(&key).map_err(|e| internal(&e))?;
    let (cert, key) = write(files, CA_FILE, CA_KEY_FILE, &made.pem(), &key)?;
    Ok(format!(
        "wrote {cert}, an authority's certificate, valid until {}: give it to all who should trust what it signs\n\
         wrote {key}, its key: keep it secret, whoever has it can sign\n\n\
         Next, in the same directory:\n  weir tls server --name logs.example.com\n  weir tls client --name shipper-1\n",
        certificate::valid_until(made.der()),
        cert = cert.display(),
        key = key.display(),
    ))
}

fn server(names: &[String], days: u16, files: &TlsFiles) -> Result<String, Failure> {
    let names = if names.is_empty() { own_names() } else { names.to_vec() };
    let sans = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
    let mut params = params(&names[0], sans, days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (made, key) = signed(&params, files)?;
    let (cert, key) = write(files, "server.pem", "server.key", &made.pem(), &key)?;
    let ca = absolute(&files.dir.join(CA_FILE));
    Ok(format!(
        "wrote {cert}, valid until {until} for {names}\n\
         wrote {key}, its key: keep it secret\n\n\
         In pipelines.toml; `tls` is the same on sources and sinks that listen:\n\n\
         [server]\ntls = {{ cert_file = {cert_text}, key_file = {key_text} }}\n\n\
         Then:\n  curl --cacert {ca} https://{first}:8080/status\n",
        until = certificate::valid_until(made.der()),
        names = names.join(", "),
        cert = cert.display(),
        key = key.display(),
        cert_text = quoted(&cert),
        key_text = quoted(&key),
        ca = ca.display(),
        first = if names[0].contains(':') { format!("[{}]", names[0]) } else { names[0].clone() },
    ))
}

fn client(name: &str, days: u16, files: &TlsFiles) -> Result<String, Failure> {
    let mut params = params(name, client_name(name)?, days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let base: String = name.chars().map(plain).collect::<String>().trim_start_matches('.').to_owned();
    if base.is_empty() || ["ca", "server"].contains(&base.as_str()) {
        return Err(Failure::usage(format!(
            "cannot name a client `{name}`: its files would be those of another"
        )));
    }
    let (made, key) = signed(&params, files)?;
    let (cert, key) = write(files, &format!("{base}.pem"), &format!("{base}.key"), &made.pem(), &key)?;
    let ca = absolute(&files.dir.join(CA_FILE));
    Ok(format!(
        "wrote {cert}, valid until {until} for {name}\n\
         wrote {key}, its key: keep it secret\n\n\
         A server that lets in only clients of this authority has in its `tls`:\n  \
         client_ca_file = {ca_text}, require_client_cert = true\n\n\
         The client:\n  curl --cacert {ca} --cert {cert} --key {key} https://localhost:8080/status\n",
        until = certificate::valid_until(made.der()),
        cert = cert.display(),
        key = key.display(),
        ca_text = quoted(&ca),
        ca = ca.display(),
    ))
}

/// The names under which this machine is reached from itself and its network.
fn own_names() -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !names.contains(&host) && server_name(&host).is_ok() {
        names.push(host);
    }
    names
}

/// A DNS name, which may begin with `*.`, or an address.
fn server_name(name: &str) -> Result<SanType, Failure> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let sound = name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label);
    let wrong = || {
        Failure::usage(format!("cannot certify the name `{name}`: it is neither a host name nor an address"))
            .hint("write names as in `logs.example.com`, `*.example.com`, `10.0.0.5` or `::1`, without port or scheme")
    };
    if sound { name.try_into().map(SanType::DnsName).map_err(|_| wrong()) } else { Err(wrong()) }
}

/// A client's name: a URI, an e-mail address, a host name, or text that becomes the common name alone.
fn client_name(name: &str) -> Result<Vec<SanType>, Failure> {
    let text = || {
        name.try_into().map_err(|_| Failure::usage(format!("cannot certify the name `{name}`: ASCII only")))
    };
    if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
        return Err(Failure::usage(
            "a client's name has 1 to 200 characters, none of them control characters",
        ));
    }
    Ok(match name {
        _ if name.contains("://") => vec![SanType::URI(text()?)],
        _ if name.contains('@') => vec![SanType::Rfc822Name(text()?)],
        _ => server_name(name).into_iter().collect(),
    })
}

fn params(name: &str, names: Vec<SanType>, days: u16) -> CertificateParams {
    let day = |from_today: i64| {
        let seconds = clock::unix_nanos() / 1_000_000_000 + from_today * DAY_SECONDS;
        let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        let day = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(day.year().into(), day.month().unsigned_abs(), day.day().unsigned_abs())
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names;
    // A day of room for clocks that are behind.
    params.not_before = day(-1);
    params.not_after = day(i64::from(days));
    params.use_authority_key_identifier_extension = true;
    params
}

/// Has the directory's authority sign a certificate for a new key.
fn signed(params: &CertificateParams, files: &TlsFiles) -> Result<(rcgen::Certificate, KeyPair), Failure> {
    let (ca, ca_key) = (files.dir.join(CA_FILE), files.dir.join(CA_KEY_FILE));
    let no_authority = |message: String| {
        Failure::new(Exit::NO_INPUT, message)
            .hint("make an authority first with `weir tls ca`, or name its directory with --dir")
    };
    let chain = pem::certificates("the authority", &ca).map_err(|e| no_authority(e.message))?;
    let text = fs::read_to_string(&ca_key)
        .map_err(|e| no_authority(format!("cannot read {}: {e}", ca_key.display())))?;
    let signer = KeyPair::from_pem(&text)
        .map_err(|e| no_authority(format!("cannot use the authority's key {}: {e}", ca_key.display())))?;
    let same = X509Certificate::from_der(&chain[0])
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *signer.public_key_raw());
    if !same {
        return Err(no_authority(format!("{} does not match {}", ca_key.display(), ca.display())));
    }
    let issuer = Issuer::from_ca_cert_der(&chain[0], signer)
        .map_err(|e| no_authority(format!("cannot use the authority {}: {e}", ca.display())))?;
    let key = KeyPair::generate().map_err(|e| internal(&e))?;
    let made = params.signed_by(&key, &issuer).map_err(|e| internal(&e))?;
    Ok((made, key))
}

/// Writes a certificate and its key, the key first and readable by its owner only; returns their absolute paths.
fn write(
    files: &TlsFiles,
    cert: &str,
    key: &str,
    text: &str,
    pair: &KeyPair,
) -> Result<(PathBuf, PathBuf), Failure> {
    let dir = &files.dir;
    fs::create_dir_all(dir).map_err(|e| cannot_write(dir, &e))?;
    let (cert, key) = (dir.join(cert), dir.join(key));
    if let Some(there) = [&cert, &key].into_iter().find(|path| path.exists() && !files.force) {
        return Err(cannot_write(there, &ErrorKind::AlreadyExists.into()));
    }
    place(&key, &pair.serialize_pem(), 0o600, files.force).map_err(|e| cannot_write(&key, &e))?;
    place(&cert, text, 0o644, files.force).map_err(|e| cannot_write(&cert, &e))?;
    Ok((absolute(&cert), absolute(&key)))
}

/// Writes a whole file, or nothing: a server that looks meanwhile sees the old one or the new one.
fn place(path: &Path, text: &str, mode: u32, force: bool) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        // A link, unlike a new name, never takes the place of another file.
        .and_then(|()| if force { fs::rename(&beside, path) } else { fs::hard_link(&beside, path) });
    // Already gone after a new name.
    fs::remove_file(&beside).ok();
    written
}

fn cannot_write(path: &Path, e: &std::io::Error) -> Failure {
    let shown = path.display();
    match e.kind() {
        ErrorKind::AlreadyExists => {
            Failure::new(Exit::CANNOT_CREATE, format!("cannot write {shown}: it exists"))
                .hint("--force replaces it; or choose another directory with --dir")
        }
        _ => Failure::new(Exit::CANNOT_CREATE, format!("cannot write {shown}: {e}")),
    }
}

fn internal(e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::INTERNAL, format!("cannot make a certificate: {e}"))
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    crate::config::path::quote_string(&path.to_string_lossy())
}
