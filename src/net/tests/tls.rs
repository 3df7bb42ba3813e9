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

use super::harness::Nothing;
use crate::base::shutdown::Shutdown;
use crate::base::task;
use crate::config::{TlsServerOptions, TlsVersion};
use crate::net::socket::Socket;
use crate::net::tls::provider;
use crate::net::tls::server::TlsServer;
use crate::net::{Entrance, Policy, bind, serve};

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
    let looking = task::spawn(server.clone().look_after("test".into()));
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
    looking.abort();
}

/// An HTTP listener, and a client that asks for HTTP/2.
async fn http2(policy: Policy) -> (TlsStream<TcpStream>, Shutdown) {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, "localhost", dir.path(), "server");
    let listener = bind("127.0.0.1:0").await.unwrap();
    let entrance = Entrance::encrypted(listener, TlsServer::load(&options(dir.path(), false)).unwrap());
    let (address, shutdown) = (entrance.local_addr(), Shutdown::new());
    let served = serve(entrance, Arc::default(), Arc::new(Nothing), policy, shutdown.clone());
    drop(task::spawn(served));
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut config = ClientConfig::clone(connector(&issuer, None).config());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    (client, shutdown)
}

#[tokio::test]
async fn http_2_without_requests_is_let_go() {
    let policy = Policy { header_timeout: Duration::from_millis(200), ..Policy::default() };
    // Neither one that says nothing nor one that only says hello.
    for preface in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"] {
        let (mut client, _shutdown) = http2(policy.clone()).await;
        client.write_all(preface).await.unwrap();
        client.flush().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "it stays open after {preface:?}");
    }
}

#[tokio::test]
async fn http_2_that_is_none_and_floods_of_resets_end_the_connection() {
    let (mut client, _shutdown) = http2(Policy::default()).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it stays open");
    // Requests that are reset as soon as they are made (CVE-2023-44487).
    let (mut client, _shutdown) = http2(Policy::default()).await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    let mut flood = async || {
        for id in (1..200_000u32).step_by(2) {
            // :method GET, :scheme https, :path /, :authority by literal; then RST_STREAM, CANCEL.
            let mut frames = vec![0, 0, 14, 1, 5];
            frames.extend(id.to_be_bytes());
            frames.extend([0x82, 0x87, 0x84, 0x41, 0x09]);
            frames.extend(b"localhost");
            frames.extend([0, 0, 4, 3, 0]);
            frames.extend(id.to_be_bytes());
            frames.extend([0, 0, 0, 8]);
            client.write_all(&frames).await?;
        }
        client.read_to_end(&mut rest).await
    };
    let flooded = tokio::time::timeout(Duration::from_secs(20), flood()).await;
    assert!(flooded.is_ok(), "the flood is not ended");
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

#[tokio::test(start_paused = true)]
async fn a_handshake_without_end_does_not_hold_up_the_end_and_is_counted() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), authority());
    issue(&issuer, "localhost", dir.path(), "server");
    let listener = bind("127.0.0.1:0").await.unwrap();
    let entrance = Entrance::encrypted(listener, TlsServer::load(&options(dir.path(), false)).unwrap());
    let (guard, shutdown) = (entrance.guard().clone(), Shutdown::new());
    let mut half = TcpStream::connect(entrance.local_addr()).await.unwrap();
    half.write_all(b"\x16\x03\x01").await.unwrap();
    let arrival = entrance.accept(&shutdown).await.unwrap();
    shutdown.drain();
    let drained = crate::base::clock::now();
    assert!(arrival.open(&shutdown).await.is_err());
    assert_eq!(drained.elapsed().as_secs(), 1);
    assert_eq!(guard.refusals().of(crate::net::guard::Reason::Handshake), 1);
}

#[tokio::test]
async fn responses_that_nobody_reads_end_the_connection_under_http_2_too() {
    let policy = Policy { write_timeout: Duration::from_millis(300), ..Policy::default() };
    let (mut client, _shutdown) = http2(policy).await;
    // A window of nothing: SETTINGS_INITIAL_WINDOW_SIZE = 0. Then a GET.
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04".to_vec();
    asked.extend([0, 0, 0, 0, 0, 0, 14, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84, 0x41, 0x09]);
    asked.extend(b"localhost");
    client.write_all(&asked).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it stays open");
}
