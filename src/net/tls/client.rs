//! TLS for clients: TLS 1.2 and 1.3, the system's certificate authorities or those of a file, a certificate of our
//! own where the server asks. Files are looked at before each handshake, so that what replaces them is used.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};
use rustls::{Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{TlsError, pem, provider};
use crate::base::clock::{self, Instant};
use crate::config::TlsClientOptions;
use crate::flow::BuildCx;

/// The system's certificate authorities are read again after this time.
const SYSTEM_ROOTS_AGE_MAX: Duration = Duration::from_secs(600);

/// The TLS side of a client. Clones share what was loaded, and sessions that can be resumed.
#[derive(Debug, Clone)]
pub struct ClientTls {
    options: Arc<TlsClientOptions>,
    alpn: Arc<[Vec<u8>]>,
    loaded: Arc<Mutex<Option<Loaded>>>,
}

#[derive(Debug, Clone)]
struct Loaded {
    config: Arc<ClientConfig>,
    stamps: Stamps,
    at: Instant,
}

/// What tells that a file was replaced or changed: length and time of change.
type Stamps = Vec<Option<(u64, SystemTime)>>;

impl ClientTls {
    /// Checks the options, without I/O. `alpn` names the protocols to offer, the favourite first.
    pub fn build(options: &TlsClientOptions, alpn: &[&str], cx: &mut BuildCx<'_>) -> Option<ClientTls> {
        if options.cert_file.is_some() != options.key_file.is_some() {
            cx.error("tls", "`cert_file` and `key_file` belong together: only one of them is set")
                .hint("set both, or neither");
            return None;
        }
        if let Some(name) = &options.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            cx.error("tls", format!("invalid `server_name`: {name:?} is not a host name or an address"));
            return None;
        }
        if options.insecure_skip_verify {
            let (at, origin) = (cx.at.key("tls"), cx.node.get("tls").unwrap_or(cx.node).origin.clone());
            cx.diagnostics
                .warning(
                    &origin,
                    "`insecure_skip_verify`: whoever is in between can read and change every event",
                )
                .path(&at)
                .hint("set `ca_file` to the certificate of the authority that signed the server's");
        }
        Some(ClientTls::new(options.clone(), alpn))
    }

    /// The same without checks.
    pub fn new(options: TlsClientOptions, alpn: &[&str]) -> ClientTls {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        ClientTls { options: Arc::new(options), alpn, loaded: Arc::default() }
    }

    /// The name that certificates must have, where it is not the host's.
    pub fn server_name(&self) -> Option<&str> {
        self.options.server_name.as_deref()
    }

    /// Shakes hands over `stream` with a server that must prove to be `server_name`. Has no deadline of its own.
    ///
    /// # Errors
    /// When a file cannot be used, or the handshake fails: with the cause and a hint.
    pub async fn connect<S>(&self, server_name: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| invalid(format!("{server_name:?} is not a name that a certificate can have")))?;
        let config = self.config().await?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|e| explain(server_name, e))
    }

    /// The configuration as the files say now. Reads them on a blocking thread, and only if they have changed.
    ///
    /// # Errors
    /// With the file, the cause and a hint.
    pub async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.load()).await.map_err(io::Error::other)?
    }

    fn load(&self) -> io::Result<Arc<ClientConfig>> {
        let stamps = self.stamps();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.as_ref()
            && known.stamps == stamps
            && (self.options.ca_file.is_some() || known.at.elapsed() < SYSTEM_ROOTS_AGE_MAX)
        {
            return Ok(known.config.clone());
        }
        let config = Arc::new(self.read()?);
        *loaded = Some(Loaded { config: config.clone(), stamps, at: clock::now() });
        Ok(config)
    }

    fn stamps(&self) -> Stamps {
        let TlsClientOptions { ca_file, cert_file, key_file, .. } = &*self.options;
        let stamp = |path: &String| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        [ca_file, cert_file, key_file].into_iter().map(|path| path.as_ref().and_then(stamp)).collect()
    }

    fn read(&self) -> io::Result<ClientConfig> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| invalid(format!("TLS cannot be set up: {e}")))?;
        let trusting = if self.options.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match (&self.options.cert_file, &self.options.key_file) {
            (Some(cert_file), Some(key_file)) => {
                let chain = pem::certificates("cert_file", Path::new(cert_file)).map_err(unusable)?;
                let key = pem::private_key("key_file", Path::new(key_file)).map_err(unusable)?;
                trusting.with_client_auth_cert(chain, key).map_err(|e| {
                    invalid(format!(
                        "cannot use the certificate {cert_file} with the key {key_file}: {e}; \
                         hint: they must belong together"
                    ))
                })?
            }
            _ => trusting.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.to_vec();
        Ok(config)
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.options.ca_file {
            for certificate in pem::certificates("ca_file", Path::new(path)).map_err(unusable)? {
                roots.add(certificate).map_err(|e| {
                    invalid(format!("cannot use the CA file {path}: {e}; hint: it must hold CA certificates"))
                })?;
            }
            return Ok(roots);
        }
        let native = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(native.certs);
        if taken == 0 {
            let why = native.errors.first().map_or("it has none".to_owned(), ToString::to_string);
            return Err(invalid(format!(
                "no certificate authorities of the system: {why}; \
                 hint: install ca-certificates, or set `tls.ca_file`"
            )));
        }
        Ok(roots)
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// A file's trouble, as one line.
fn unusable(error: TlsError) -> io::Error {
    invalid(format!("{}; hint: {}", error.message, error.hint))
}

/// A handshake's failure in words that say what to do.
fn explain(server_name: &str, error: io::Error) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the server closed the connection; hint: does it speak TLS?".to_owned()
            }
            _ => error.to_string(),
        };
        return io::Error::new(error.kind(), format!("TLS handshake with {server_name} failed: {why}"));
    };
    let hint = match tls {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "set `tls.ca_file` to the certificate of the authority that signed it"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "set `tls.server_name` to a name the certificate has",
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "renew the server's certificate, and check the clocks",
        Error::InvalidMessage(_) => "does the server speak TLS on this port?",
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure,
        ) => "the server may want a client certificate it trusts: set `tls.cert_file` and `tls.key_file`",
        _ => "",
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; hint: {hint}") };
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("TLS handshake with {server_name} failed: {tls}{hint}"),
    )
}

/// Believes every certificate, and still checks that the server holds its key.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
