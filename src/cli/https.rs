//! TLS for the questions that weir's commands ask a running weir: by the authorities of this machine, or, for the
//! server of the configuration at hand, by the very certificate it is configured with.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};

use crate::net::tls::{TlsError, pem, provider};

/// Which certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// One that an authority known to this machine has signed; `SSL_CERT_FILE` names others.
    System,
    /// One that an authority in this file has signed.
    Authorities(PathBuf),
    /// The one in this file.
    Exactly(PathBuf),
    /// Any: only to look at it. Nothing is asked on such a connection.
    Any,
}

/// A connection to ask on.
pub(super) enum Connection {
    /// A Unix socket.
    Local(UnixStream),
    /// Without TLS.
    Plain(TcpStream),
    /// With.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// Makes a handshake over `socket` where it is trusted at all.
    pub(super) fn over(
        socket: TcpStream,
        host: &str,
        trust: Option<&Trust>,
        shown: Option<&(PathBuf, PathBuf)>,
    ) -> io::Result<Connection> {
        let Some(trust) = trust else { return Ok(Connection::Plain(socket)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let config = config(trust, shown).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        // The handshake, which shows an unknown certificate.
        stream.flush()?;
        Ok(Connection::Tls(Box::new(stream)))
    }

    /// Bounds how long a single read and write may take; `None`: not at all.
    pub(super) fn set_timeouts(&self, each: Option<Duration>) -> io::Result<()> {
        let tcp = match self {
            Connection::Local(socket) => {
                socket.set_write_timeout(each)?;
                return socket.set_read_timeout(each);
            }
            Connection::Plain(socket) => socket,
            Connection::Tls(stream) => &stream.sock,
        };
        tcp.set_write_timeout(each)?;
        tcp.set_read_timeout(each)
    }

    /// The certificate that the server has shown, and the version of the protocol.
    pub(super) fn certificate(&self) -> Option<(Vec<u8>, String)> {
        let Connection::Tls(stream) = self else { return None };
        let shown = stream.conn.peer_certificates()?.first()?.to_vec();
        let version = stream.conn.protocol_version().map_or("TLS", |version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            _ => "TLS",
        });
        Some((shown, version.to_owned()))
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Local(socket) => socket.read(into),
            Connection::Plain(socket) => socket.read(into),
            Connection::Tls(stream) => stream.read(into),
        }
    }

    /// Another handle to a Unix socket, to shut it down from elsewhere.
    pub(super) fn local(&self) -> Option<UnixStream> {
        match self {
            Connection::Local(socket) => socket.try_clone().ok(),
            Connection::Plain(_) | Connection::Tls(_) => None,
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connection::Local(socket) => socket.write_all(bytes),
            Connection::Plain(socket) => socket.write_all(bytes),
            Connection::Tls(stream) => stream.write_all(bytes),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Connection::read(self, into)
    }
}

fn config(trust: &Trust, shown: Option<&(PathBuf, PathBuf)>) -> Result<ClientConfig, Error> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Exactly(file) => Arc::new(Exactly(Some(leaf(file)?))),
        Trust::Any => Arc::new(Exactly(None)),
        Trust::System | Trust::Authorities(_) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(match trust {
                Trust::Authorities(file) => {
                    pem::certificates("--ca-file", file).map_err(|e| Error::General(e.message))?
                }
                _ => rustls_native_certs::load_native_certs().certs,
            });
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|e| Error::General(format!("no authority is known: {e}")))?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = shown else { return Ok(builder.with_no_client_auth()) };
    let unusable = |e: TlsError| Error::General(format!("{}; hint: {}", e.message, e.hint));
    let chain = pem::certificates("--cert", certificate).map_err(unusable)?;
    builder.with_client_auth_cert(chain, pem::private_key("--key", key).map_err(unusable)?)
}

fn leaf(file: &Path) -> Result<CertificateDer<'static>, Error> {
    let chain = pem::certificates("cert_file", file).map_err(|e| Error::General(e.message))?;
    chain.into_iter().next().ok_or(Error::NoCertificatesPresented)
}

/// Believes one certificate, or any if there is none, whatever names and times it has; who shows it must still have
/// its key.
#[derive(Debug)]
struct Exactly(Option<CertificateDer<'static>>);

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.0.as_ref().is_none_or(|known| shown == known) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
