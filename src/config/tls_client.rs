//! The `tls` table of clients: whom to trust, what name to expect, and what to show when asked.

use crate::config::options;

options! {
    /// Encrypts the connection. `tls = {}` trusts the certificate authorities of the system.
    pub struct TlsClientOptions {
        /// PEM file of the certificate authorities to trust, instead of the system's.
        pub ca_file: Option<String> = None,
        /// The name the server's certificate must have. Default: the host that is connected to.
        pub server_name: Option<String> = None,
        /// PEM file of a certificate to show to servers that ask for one, with its chain.
        pub cert_file: Option<String> = None,
        /// PEM file of the certificate's private key.
        pub key_file: Option<String> = None,
        /// Trusts any server, which a stranger in between may be: for tests only.
        pub insecure_skip_verify: bool = false,
    }
}
