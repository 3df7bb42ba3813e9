//! The `tls` table of listeners: the certificate they show, whose clients they trust, and how old a protocol they
//! still speak.

use crate::config::{choices, options};

choices! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// TLS 1.2 and 1.3.
        V12 = "1.2",
        /// TLS 1.3 only.
        V13 = "1.3",
    }
}

options! {
    /// Encryption of a listener. The files are read again when they change; open connections go on.
    pub struct TlsServerOptions {
        /// The certificate in PEM, followed by those of the authorities between it and the root.
        pub cert_file: String,
        /// The certificate's private key in PEM (PKCS #8, PKCS #1 or SEC 1), not encrypted.
        pub key_file: String,
        /// Certificates in PEM of the authorities whose clients are trusted. A client's name in its certificate is
        /// then known.
        pub client_ca_file: Option<String> = None,
        /// Whether every client needs a certificate of `client_ca_file`; otherwise one that has none may come too.
        pub require_client_cert: bool = false,
        /// The oldest version of the protocol that is spoken.
        pub min_version: TlsVersion = TlsVersion::V12,
    }
}
