//! Encryption of connections: certificates and keys from files, what a certificate says, and both sides of a
//! handshake, whose files may change while they run.

pub mod certificate;
pub mod client;
mod failures;
pub mod pem;
pub mod server;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// The cryptography that everything here uses. Named, so that no other library's choice can change it.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

/// The cryptography to build every TLS configuration with.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Why TLS cannot be set up: which file, why, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// What failed, with the file, and why; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl TlsError {
    /// An error with its way out.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> TlsError {
        TlsError { message: message.into(), hint: hint.into() }
    }

    /// A file that could not be read; `option` is the one that names it.
    fn unreadable(option: &str, path: &Path, e: &io::Error) -> TlsError {
        let (why, hint) = match e.kind() {
            io::ErrorKind::NotFound => (
                "no such file".to_owned(),
                format!("correct `{option}`, or make certificates with `weir tls ca`, `server` and `client`"),
            ),
            io::ErrorKind::PermissionDenied => (
                "permission denied".to_owned(),
                "let the user that weir runs as read it, for example with `chgrp` and `chmod g+r`".to_owned(),
            ),
            _ => (e.to_string(), format!("`{option}` needs a file in PEM")),
        };
        TlsError::new(format!("cannot read {option} {}: {why}", path.display()), hint)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nhint: {}", self.message, self.hint)
    }
}

impl std::error::Error for TlsError {}
