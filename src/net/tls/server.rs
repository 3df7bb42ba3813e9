//! The server's side of TLS: a configuration made from files, handshakes with a deadline, and new files taken over
//! while connections go on. A broken new file changes nothing and is said once.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::failures::Failures;
use super::{TlsError, certificate, pem, provider};
use crate::base::clock;
use crate::config::{TlsServerOptions, TlsVersion};

/// How long a client may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The server's side of TLS for one listener.
#[derive(Debug)]
pub struct TlsServer {
    options: TlsServerOptions,
    config: ArcSwap<ServerConfig>,
    /// Whether HTTP is spoken here, and its versions are offered.
    http: AtomicBool,
    /// What the files looked like before they were read.
    loaded: Vec<Stamp>,
    failures: Failures,
}

/// What a file looked like: a change of it shows in one of its times, its length or its inode, which changes where a
/// link is turned to another file. `None` while it is not there.
type Stamp = Option<(SystemTime, (i64, i64), u64, u64)>;

impl TlsServer {
    /// Reads the files and warns of a certificate that has expired or soon will. Blocks.
    ///
    /// # Errors
    /// Which file is missing, broken or does not fit, with the way out.
    pub fn load(options: &TlsServerOptions) -> Result<TlsServer, TlsError> {
        let loaded = stamps(options);
        let (config, leaf) = server_config(options, false)?;
        warn_of_time(options, &leaf);
        Ok(TlsServer {
            options: options.clone(),
            config: ArcSwap::from_pointee(config),
            http: AtomicBool::new(false),
            loaded,
            failures: Failures::default(),
        })
    }

    /// Offers HTTP/2 and HTTP/1.1 in every handshake from now on (RFC 7301).
    pub fn offer_http(&self) {
        self.http.store(true, Ordering::Relaxed);
        let mut config = ServerConfig::clone(&self.config.load());
        config.alpn_protocols = protocols(true);
        self.config.store(Arc::new(config));
    }

    /// Makes the handshake, within ten seconds.
    ///
    /// # Errors
    /// Why it failed, in a few words.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let peer = socket.peer_addr().ok();
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await;
        let late =
            |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took more than ten seconds"));
        shaken.unwrap_or_else(late).map_err(|e| io::Error::new(e.kind(), self.failures.note(peer, &e)))
    }

    /// Takes over changed files and tells of failed handshakes, for as long as it is polled. `who` names the listener
    /// in messages.
    pub async fn look_after(self: Arc<Self>, who: String) {
        let mut current = self.loaded.clone();
        // New files that failed already, and whether that was said: while they are being replaced one by one, they
        // do not fit together for a moment.
        let mut failed: Option<(Vec<Stamp>, bool)> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(told) = self.failures.take() {
                tracing::info!("{who}: {told}");
            }
            let now = self.stamps().await;
            let again = failed.as_ref().is_some_and(|(stamps, _)| *stamps == now);
            let told = again && failed.as_ref().is_some_and(|(_, told)| *told);
            if now == current || told {
                continue;
            }
            match self.clone().reload().await {
                Ok(until) => {
                    tracing::info!("{who}: new certificate in use, valid until {until}");
                    (current, failed) = (now, None);
                }
                Err(e) => {
                    if again {
                        tracing::warn!(
                            "{who}: the old certificate stays in use: {}; hint: {}",
                            e.message,
                            e.hint
                        );
                    }
                    failed = Some((now, again));
                }
            }
        }
    }

    async fn reload(self: Arc<Self>) -> Result<String, TlsError> {
        let loaded = tokio::task::spawn_blocking(move || {
            let (config, leaf) = server_config(&self.options, self.http.load(Ordering::Relaxed))?;
            warn_of_time(&self.options, &leaf);
            self.config.store(Arc::new(config));
            Ok(certificate::valid_until(&leaf))
        });
        loaded
            .await
            .unwrap_or_else(|e| Err(TlsError::new(format!("reading failed: {e}"), "report this as a bug")))
    }

    async fn stamps(self: &Arc<Self>) -> Vec<Stamp> {
        let server = self.clone();
        let looked = tokio::task::spawn_blocking(move || stamps(&server.options));
        // Fails only when the runtime ends, and this task with it.
        looked.await.unwrap_or_default()
    }
}

fn stamps(options: &TlsServerOptions) -> Vec<Stamp> {
    let files = [Some(&options.cert_file), Some(&options.key_file), options.client_ca_file.as_ref()];
    files.into_iter().flatten().map(|path| stamp(Path::new(path))).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.modified().ok()?, changed, metadata.len(), metadata.ino()))
}

fn warn_of_time(options: &TlsServerOptions, leaf: &[u8]) {
    if let Some(why) = certificate::timing(leaf, clock::unix_nanos() / 1_000_000_000) {
        tracing::warn!(
            "certificate {}: {why}; hint: renew it, the new file is taken over as it is",
            options.cert_file
        );
    }
}

fn protocols(http: bool) -> Vec<Vec<u8>> {
    if http { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { Vec::new() }
}

/// The configuration that the files make, and the certificate that it shows.
fn server_config(options: &TlsServerOptions, http: bool) -> Result<(ServerConfig, Vec<u8>), TlsError> {
    const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let shown = &options.cert_file;
    let chain = pem::certificates("cert_file", Path::new(shown))?;
    let key = pem::private_key("key_file", Path::new(&options.key_file))?;
    let leaf = chain[0].to_vec();
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => TlsError::new(
            format!("key_file {} does not match cert_file {shown}: the certificate was made for another key", options.key_file),
            "name the key that the certificate was made with; the server's own certificate comes first in `cert_file`",
        ),
        rustls::Error::InvalidCertificate(e) => {
            TlsError::new(format!("cannot use cert_file {shown}: {e:?}"), "write the file again, whole and unchanged")
        }
        e => TlsError::new(
            format!("cannot use key_file {}: {e}", options.key_file),
            "keys of RSA with 2048 to 8192 bits, ECDSA P-256, P-384 and P-521, and Ed25519 can be used",
        ),
    })?;
    let versions = if options.min_version == TlsVersion::V13 { NEW } else { BOTH };
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(|e| unusable(shown, &e))?;
    let builder = match &options.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(file)?), provider());
            let verifier =
                if options.require_client_cert { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|e| {
                TlsError::new(
                    format!("cannot use client_ca_file {file}: {e}"),
                    "name the certificate of an authority",
                )
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| unusable(shown, &e))?;
    config.alpn_protocols = protocols(http);
    Ok((config, leaf))
}

fn unusable(file: &str, e: &rustls::Error) -> TlsError {
    TlsError::new(format!("cannot use cert_file {file}: {e}"), "make the certificate again")
}

fn roots(file: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for found in pem::certificates("client_ca_file", Path::new(file))? {
        roots.add(found).map_err(|e| {
            TlsError::new(
                format!("cannot use client_ca_file {file}: {e}"),
                "name the certificate of an authority",
            )
        })?;
    }
    Ok(roots)
}
