//! Certificates and keys from PEM files (RFC 7468), with the mistakes that people make told apart: a file in DER,
//! the key in the certificate's place, a key that is encrypted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The largest file that is read: a bundle of all public authorities has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a whole file.
fn read(option: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|e| TlsError::unreadable(option, path, &e))
}

fn has_section(text: &[u8], label: &str) -> bool {
    memchr::memmem::find(text, format!("-----BEGIN {label}-----").as_bytes()).is_some()
}

fn has_key(text: &[u8]) -> bool {
    ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
        .iter()
        .any(|label| has_section(text, label))
}

/// The library's own words quote the file, and it may be a key's.
fn broken(option: &str, path: &Path, e: &pem::Error) -> TlsError {
    let cause = match e {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line",
        pem::Error::IllegalSectionStart { .. } => "a section's first line is damaged",
        pem::Error::Base64Decode(_) => "its base64 is damaged",
        pem::Error::SectionTooLarge => "a section is too large",
        _ => "it cannot be read",
    };
    let message = format!("broken PEM in {option} {}: {cause}", path.display());
    TlsError::new(message, "write the file again, whole and unchanged")
}

/// The certificates in the file that `option` names, in its order; at least one.
///
/// # Errors
/// When it cannot be read, or has none.
pub fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates_in(option, path, &read(option, path)?)
}

/// The same for the text of that file.
///
/// # Errors
/// When it has none.
pub fn certificates_in(
    option: &str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let shown = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|e| broken(option, path, &e))?;
    if !found.is_empty() {
        return Ok(found);
    }
    Err(if has_key(text) {
        TlsError::new(
            format!("no certificate in {option} {shown}: it holds a private key"),
            "name the certificate's file here and the key's file in `key_file`",
        )
    } else {
        TlsError::new(
            format!("no certificate in {option} {shown}: it is not PEM"),
            format!(
                "a PEM file has a line `-----BEGIN CERTIFICATE-----`; if this one is DER, convert it with `openssl x509 -inform der -in {shown} -out {shown}.pem`"
            ),
        )
    })
}

/// The first private key in the file that `option` names.
///
/// # Errors
/// When it cannot be read, has none, or has one that needs a passphrase.
pub fn private_key(option: &str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    private_key_in(option, path, &read(option, path)?)
}

/// The same for the text of that file.
///
/// # Errors
/// When it has none, or one that needs a passphrase.
pub fn private_key_in(option: &str, path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let shown = path.display();
    let found = match PrivateKeyDer::pem_slice_iter(text).next() {
        Some(Ok(key)) => return Ok(key),
        found => found,
    };
    Err(
        if has_section(text, "ENCRYPTED PRIVATE KEY")
            || memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some()
        {
            TlsError::new(
                format!("cannot use {option} {shown}: the key is encrypted with a passphrase"),
                format!(
                    "decrypt it with `openssl pkey -in {shown} -out plain.key` and keep that file readable by weir only"
                ),
            )
        } else if let Some(Err(e)) = found {
            broken(option, path, &e)
        } else if has_section(text, "CERTIFICATE") {
            TlsError::new(
                format!("no private key in {option} {shown}: it holds a certificate"),
                "name the key's file here and the certificate's file in `cert_file`",
            )
        } else {
            TlsError::new(
                format!("no private key in {option} {shown}: it is not PEM"),
                format!(
                    "a PEM file has a line `-----BEGIN PRIVATE KEY-----`; if this one is DER, convert it with `openssl pkey -inform der -in {shown} -out {shown}.pem`"
                ),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_quoting_it() {
        let secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQ";
        for (text, cause) in [
            (format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"), "no end line"),
            (format!("-----BEGIN {secret}\n-----BEGIN PRIVATE KEY-----\n"), "first line is damaged"),
            (format!("-----BEGIN PRIVATE KEY-----\n{secret}=x=\n-----END PRIVATE KEY-----\n"), "base64"),
        ] {
            let error = private_key_in("key_file", Path::new("k.pem"), text.as_bytes()).unwrap_err();
            assert!(error.message.contains(cause), "{error}");
            let quoted = format!("{error} {error:?}");
            assert!(
                !quoted.contains("secret") && !quoted.contains(secret) && error.message.len() < 100,
                "{quoted}"
            );
        }
    }
}
