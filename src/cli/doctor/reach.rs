//! The way to a server: names, addresses, encryption.

use std::net::{SocketAddr, ToSocketAddrs};

use super::report::{Finding, Verdict};
use super::wire;
use crate::base::clock;
use crate::cli::http_get::Base;
use crate::cli::https::{Connection, Trust};
use crate::net::tls::certificate;

/// Most addresses that are tried.
const ADDRESSES_MAX: usize = 8;

/// Finds an address that can be asked, and says what was met on the way.
pub(super) fn reach(base: &Base, findings: &mut Vec<Finding>) -> Option<SocketAddr> {
    let host = base.host();
    let found =
        (host, base.port()).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>());
    let addresses = match found {
        Ok(addresses) if !addresses.is_empty() => addresses,
        other => {
            let why = other.err().map_or("it has no address".to_owned(), |e| e.to_string());
            let failed = Finding::fail("dns", format!("{host} cannot be found: {why}"));
            findings.push(failed.hint("check the name, and what /etc/resolv.conf asks"));
            return None;
        }
    };
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    findings.push(Finding::ok(
        "dns",
        if is_name { format!("{host} is {}", list.join(", ")) } else { "an address".to_owned() },
    ));
    let mut good = None;
    let mut bad = Vec::new();
    for address in &addresses {
        let asked = clock::now();
        match std::net::TcpStream::connect_timeout(address, wire::CONNECT_MAX) {
            Ok(_) => {
                good.get_or_insert((*address, clock::now() - asked));
            }
            Err(e) => bad.push(format!("{address}: {}", why(&e))),
        }
    }
    let Some((address, took)) = good else {
        let failed = Finding::fail("connect", bad.join("; "));
        findings.push(failed.hint("is the server running, and do firewalls let the port through?"));
        return None;
    };
    let took = format!("{address} in {} ms", took.as_millis());
    // `localhost` has two addresses and servers listen on one; other names should not.
    if bad.is_empty() || host.eq_ignore_ascii_case("localhost") {
        findings.push(Finding::ok("connect", took));
    } else {
        let warning = Finding::warn("connect", format!("{took}, but not {}", bad.join("; ")));
        let cause = "clients that try the other address first wait, or fail";
        findings.push(warning.cause(cause).hint("take the address out of the DNS, or listen on it"));
    }
    encryption(base, address, findings).then_some(address)
}

/// The reason in our words where there is one.
pub(super) fn why(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => e.to_string(),
    }
}

/// Whether one can go on.
fn encryption(base: &Base, address: SocketAddr, findings: &mut Vec<Finding>) -> bool {
    let Some(trust) = base.trust() else {
        let open = !base.login_line().is_empty() && !address.ip().is_loopback();
        findings.push(if open {
            let warning = Finding::warn("tls", "the credentials are sent without encryption");
            warning.hint("use https://, and change them: whoever is in between may have read them")
        } else {
            Finding::skipped("tls", "not encrypted")
        });
        return true;
    };
    match wire::connect(base, address) {
        Ok(connection) => {
            findings.push(shown_certificate(&connection));
            true
        }
        Err(e) => {
            let text = why(&e);
            let failed = Finding::fail("tls", format!("the handshake failed: {text}"));
            let seen = if matches!(trust, Trust::Exactly(_)) { None } else { look(base, address) };
            let hint = match () {
                () if text.contains("UnknownIssuer") => {
                    "send the whole chain (fullchain.pem); for an authority of your own: --ca-file ca.pem"
                }
                () if text.contains("NotValidForName") || text.contains("not valid for name") => {
                    "use a name that the certificate has, or make one for this name: weir tls server --name NAME"
                }
                () if text.contains("xpired") => "renew the certificate; weir takes a new one over by itself",
                () if text.contains("InvalidContentType") || text.contains("corrupt") => {
                    "the port speaks without encryption: use http://"
                }
                () => "openssl s_client -connect HOST:PORT shows the handshake in detail",
            };
            let failed = failed.hint(hint);
            findings.push(match seen {
                Some(seen) => failed.cause(seen),
                None => failed,
            });
            false
        }
    }
}

fn unix_seconds() -> i64 {
    clock::unix_nanos() / 1_000_000_000
}

fn shown_certificate(connection: &Connection) -> Finding {
    let Some((der, version)) = connection.certificate() else { return Finding::ok("tls", "encrypted") };
    let name = certificate::name(&der).unwrap_or_else(|| "nobody".into());
    let text = format!("{version}, certificate for {name} until {}", certificate::valid_until(&der));
    match certificate::timing(&der, unix_seconds()) {
        None => Finding::ok("tls", text),
        Some(soon) => Finding::new("tls", Verdict::Warn, format!("{text}: {soon}")).hint("renew it now"),
    }
}

/// What the certificate says that is not believed.
fn look(base: &Base, address: SocketAddr) -> Option<String> {
    let socket = std::net::TcpStream::connect_timeout(&address, wire::CONNECT_MAX).ok()?;
    socket.set_read_timeout(Some(wire::CONNECT_MAX)).ok()?;
    let connection = Connection::over(socket, base.host(), Some(&Trust::Any), None).ok()?;
    let (der, _) = connection.certificate()?;
    let name = certificate::name(&der).unwrap_or_else(|| "nobody".into());
    let timing = certificate::timing(&der, unix_seconds());
    let timing = timing.unwrap_or_else(|| format!("it is valid until {}", certificate::valid_until(&der)));
    Some(format!("the certificate is for {name}; {timing}"))
}
