//! Encrypted connections within this process: who the client is, new certificates under open connections, and
//! clients that stop reading.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::base::task;
use crate::config::{TlsServerOptions, TlsVersion};
use crate::net::socket::Socket;
use crate::net::tls::provider;
use crate::net::tls::server::TlsServer;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for `name` and its key.
fn issue(issuer: &Issuer, name: &str, dir: &Path, file: &str) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    std::fs::write(dir.join(format!("{file}.pem")), made.pem()).unwrap();
    std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

fn options(dir: &Path, client_ca: bool) -> TlsServerOptions {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    TlsServerOptions {
        cert_file: path("server.pem"),
        key_file: path("server.key"),
        client_ca_file: client_ca.then(|| path("ca.pem")),
        require_client_cert: false,
        min_version: TlsVersion::V12,
    }
}

fn connector(issuer: &Issuer, client: Option<&Path>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(base) => {
            let chain = vec![CertificateDer::from_pem_file(base.with_extension("pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(base.with_extension("key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Connects to a server of one connection; both ends after the handshake.
async fn pair(
    server: &Arc<TlsServer>,
    connector: &TlsConnector,
) -> (tokio_rustls::server::TlsStream<TcpStream>, TlsStream<TcpStream>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let (server, client) = tokio::join!(server.accept(accepted), connector.connect(name, socket));
    (server.unwrap(), client.unwrap())
}

fn shown(client: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn a_client_has_the_name_in_its_certificate_or_none() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), authority());
    std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
    issue(&issuer, "localhost", dir.path(), "server");
    issue(&issuer, "shipper.example", dir.path(), "client");
    let server = Arc::new(TlsServer::load(&options(dir.path(), true)).unwrap());
    for (client, name) in [(None, None), (Some(dir.path().join("client")), Some("shipper.example"))] {
        let (socket, _client) = pair(&server, &connector(&issuer, client.as_deref())).await;
        assert_eq!(Socket::Tls(Box::new(socket)).peer_name().as_deref(), name);
    }
}

#[tokio::test]
async fn new_files_serve_new_connections_and_open_ones_go_on() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, "localhost", dir.path(), "server");
    let server = Arc::new(TlsServer::load(&options(dir.path(), false)).unwrap());
    server.offer_http();
    let following = task::spawn(server.clone().follow_files("test".into()));
    let connector = connector(&issuer, None);
    let (mut here, mut there) = pair(&server, &connector).await;
    let first = shown(&there);
    // The key comes later than the certificate, as when somebody copies two files.
    let second = tempfile::tempdir().unwrap();
    issue(&issuer, "localhost", second.path(), "server");
    std::fs::copy(second.path().join("server.pem"), dir.path().join("server.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown(&pair(&server, &connector).await.1), first, "half of it is not taken");
    std::fs::copy(second.path().join("server.key"), dir.path().join("server.key")).unwrap();
    let end = crate::base::clock::now() + Duration::from_secs(20);
    while shown(&pair(&server, &connector).await.1) == first {
        assert!(crate::base::clock::now() < end, "the new certificate is not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    here.write_all(b"still here").await.unwrap();
    here.flush().await.unwrap();
    let mut read = [0; 10];
    there.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_deadline() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, "localhost", dir.path(), "server");
    let server = Arc::new(TlsServer::load(&options(dir.path(), false)).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let begun = crate::base::clock::now();
    let failed = server.accept(accepted).await.unwrap_err();
    assert_eq!(failed.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 10);
}
