//! The tables `access` and `auth` of whatever listens: who may connect, how much one may ask, and who one has to
//! be. Addresses and hashes are checked as they are read, so that a mistake is told with its place.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use argon2::password_hash::phc;
use ipnet::{IpNet, Ipv4Net};

use super::diagnostics::Diagnostics;
use super::environment::Environment;
use super::field::Shape;
use super::from_node::{FromNode, wrong_form, wrong_type};
use super::node::Node;
use super::options;
use super::path::{Path, quote_string};
use super::secret::Secret;

options! {
    /// Who may connect to a listener, and how much one may ask. In this order: `deny`, `allow`, the limits, and then
    /// `auth`. IPv4 addresses in IPv6 form count as what they are, and the limits count an IPv6 network of /64 as
    /// one address.
    pub struct AccessOptions {
        /// Networks (`10.0.0.0/8`, `2001:db8::/32`) or addresses that may connect. Empty: all.
        pub allow: Vec<Cidr> = Vec::new(),
        /// Networks or addresses that may not, even where `allow` has them.
        pub deny: Vec<Cidr> = Vec::new(),
        /// Most connections at a time. Default: what the listener itself allows.
        #[range(1..=1_000_000)]
        pub max_connections: Option<usize> = None,
        /// Most connections of one address at a time. Default: no limit of its own.
        #[range(1..=1_000_000)]
        pub max_connections_per_ip: Option<usize> = None,
        /// How many requests per second one address may send in the long run. Default: no limit.
        #[range(0.001..=1e9)]
        pub requests_per_second: Option<f64> = None,
        /// How many requests may come at once after a quiet time. Default: one second's worth.
        #[range(1..=1_000_000_000)]
        pub burst: Option<u64> = None,
        /// How many requests per second all may send together; `burst` applies where it is more than one second's
        /// worth. Default: no limit.
        #[range(0.001..=1e9)]
        pub global_requests_per_second: Option<f64> = None,
        /// The status of an answer to whoever exceeds a limit.
        #[range(400..=599)]
        pub status_code: u16 = 429,
        /// What such an answer says. Default: which limit it was.
        pub message: Option<String> = None,
    }
}

options! {
    /// Who one has to be. Any one of the ways suffices; `/healthz` and `/readyz` of the shared router are open to
    /// whoever may connect.
    pub struct AuthOptions {
        /// Users and passwords (HTTP Basic).
        pub basic: Vec<BasicOptions> = Vec::new(),
        /// A file of `user:hash` lines as `htpasswd -B` writes them (bcrypt; argon2 is taken too). Read again when it
        /// changes.
        pub htpasswd_file: Option<String> = None,
        /// Tokens (HTTP Bearer).
        pub bearer: Vec<BearerOptions> = Vec::new(),
        /// Names in verified client certificates, `*.example` for all of a domain; needs `tls.client_ca_file`.
        pub client_names: Vec<ClientName> = Vec::new(),
    }
}

options! {
    /// A user and the hash of the password.
    pub struct BasicOptions {
        /// The name; without a colon.
        pub user: String,
        /// argon2 (`$argon2id$…`) or bcrypt (`$2y$…`), as `weir hash` prints it.
        pub password_hash: PasswordHash,
    }
}

options! {
    /// A token and what it is called in logs.
    pub struct BearerOptions {
        /// What logs call its holder.
        pub name: String,
        /// `sha256:…` as `weir hash --token` prints it: right for random tokens, which nobody can guess. For a
        /// token that a person made up, a password's hash.
        pub token_hash: TokenHash,
    }
}

/// A network or one address; IPv4 in IPv6 form is kept as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Parses `10.0.0.0/8` or an address. Errors say what is wrong.
    pub fn parse(text: &str) -> Result<Cidr, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Cidr(IpNet::from(address.to_canonical())));
        }
        let net: IpNet =
            text.parse().map_err(|_| format!("{text:?} is not a network like 10.0.0.0/8 or an address"))?;
        if net.trunc() != net {
            return Err(format!("{text:?} has bits beyond its prefix: the network is {}", net.trunc()));
        }
        let mapped = match net {
            IpNet::V6(v6) => {
                v6.network().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96).map(|v4| (v4, v6))
            }
            IpNet::V4(_) => None,
        };
        Ok(Cidr(match mapped {
            Some((v4, v6)) => {
                IpNet::V4(Ipv4Net::new(v4, v6.prefix_len() - 96).map_err(|e| format!("{text:?}: {e}"))?)
            }
            None => net,
        }))
    }

    /// Whether `address`, in its canonical form, belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether it is every address there is.
    pub fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hash of a password: argon2 or bcrypt; in place, in a file or in a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash(Secret);

/// The hash of a token: SHA-256, argon2 or bcrypt; in place, in a file or in a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHash(Secret);

/// A name in a client's certificate; `*.` at its start stands for one label or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

/// A hash whose form is known to be right.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256([u8; 32]),
    /// argon2, in PHC notation.
    Argon2(Box<phc::PasswordHash>),
    /// bcrypt, in modular crypt notation.
    Bcrypt(String),
}

/// Never the hash: whoever has it can guess at leisure.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Most memory an argon2 hash may ask for, in KiB: every guess costs it.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 64;
/// Most that bcrypt may cost, as a power of two: beyond, one guess takes seconds.
const BCRYPT_COST_MAX: u32 = 16;

impl Hash {
    /// Parses the hash of a password. Errors say what is wrong and never quote it.
    pub fn of_password(text: &str) -> Result<Hash, String> {
        let text = text.trim();
        if text.starts_with("$argon2") {
            return argon2_hash(text);
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return bcrypt_hash(text);
        }
        Err(match text {
            "" => "the hash is empty".to_owned(),
            _ if text.starts_with("$apr1$") || text.starts_with("{SHA}") || text.starts_with("$1$") => {
                "this hash is broken by a laptop: argon2 and bcrypt are taken".to_owned()
            }
            _ if text.starts_with('$') => {
                "this kind of hash is not known: argon2 and bcrypt are taken".to_owned()
            }
            _ => "this is no password hash".to_owned(),
        })
    }

    /// Parses the hash of a token.
    pub fn of_token(text: &str) -> Result<Hash, String> {
        let text = text.trim();
        if text.starts_with('$') {
            return Hash::of_password(text);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("this is no token hash: expected `sha256:` and 64 hexadecimal digits".to_owned());
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).unwrap_or_default() as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Hash::Sha256(bytes))
    }

    /// Whether checking it takes long on purpose.
    pub fn is_slow(&self) -> bool {
        !matches!(self, Hash::Sha256(_))
    }
}

fn argon2_hash(text: &str) -> Result<Hash, String> {
    let hash = phc::PasswordHash::new(text).map_err(|e| format!("broken argon2 hash: {e}"))?;
    let params = argon2::Params::try_from(&hash).map_err(|e| format!("broken argon2 hash: {e}"))?;
    argon2::Algorithm::try_from(hash.algorithm.as_str()).map_err(|e| format!("broken argon2 hash: {e}"))?;
    if hash.hash.is_none() || hash.salt.is_none() {
        return Err("broken argon2 hash: it is cut short".to_owned());
    }
    if params.m_cost() > ARGON2_KIB_MAX || params.t_cost() > ARGON2_PASSES_MAX {
        return Err(format!(
            "this hash costs too much: at most m={ARGON2_KIB_MAX} and t={ARGON2_PASSES_MAX} are allowed"
        ));
    }
    Ok(Hash::Argon2(Box::new(hash)))
}

fn bcrypt_hash(text: &str) -> Result<Hash, String> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| "broken bcrypt hash".to_owned())?;
    if parts.get_cost() > BCRYPT_COST_MAX {
        return Err(format!("this hash costs too much: at most a cost of {BCRYPT_COST_MAX} is allowed"));
    }
    Ok(Hash::Bcrypt(text.to_owned()))
}

impl PasswordHash {
    /// The hash, read now; see [`Secret::resolve`]. Blocks on a file.
    ///
    /// # Errors
    /// When it is not there or is none.
    pub fn resolve(&self, environment: &Environment) -> Result<Hash, String> {
        Hash::of_password(self.0.resolve(environment)?.expose())
    }
}

impl TokenHash {
    /// Whether it is known, without reading a file or a variable, to be slow to check.
    pub fn is_slow(&self) -> bool {
        self.0.in_place().is_some_and(|text| Hash::of_token(text).is_ok_and(|hash| hash.is_slow()))
    }

    /// The hash, read now; see [`Secret::resolve`]. Blocks on a file.
    ///
    /// # Errors
    /// When it is not there or is none.
    pub fn resolve(&self, environment: &Environment) -> Result<Hash, String> {
        Hash::of_token(self.0.resolve(environment)?.expose())
    }
}

/// Reads a secret, and checks its form where it stands in place.
fn hash_from_node(
    node: &Node,
    at: &Path,
    parse: fn(&str) -> Result<Hash, String>,
    hint: &str,
    diags: &mut Diagnostics,
) -> Option<Secret> {
    let secret = Secret::from_node(node, at, diags)?;
    if let Some(Err(why)) = node.as_str().map(parse) {
        wrong_form(node, at, &why, "a hash", diags);
        diags.hint_last(hint);
        return None;
    }
    Some(secret)
}

impl FromNode for PasswordHash {
    fn shape() -> Shape {
        Shape::Secret
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<PasswordHash> {
        hash_from_node(node, at, Hash::of_password, "`weir hash` makes one", diags).map(PasswordHash)
    }

    fn display(&self) -> String {
        self.0.display()
    }
}

impl FromNode for TokenHash {
    fn shape() -> Shape {
        Shape::Secret
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<TokenHash> {
        hash_from_node(node, at, Hash::of_token, "`weir hash --token` makes a token and its hash", diags)
            .map(TokenHash)
    }

    fn display(&self) -> String {
        self.0.display()
    }
}

impl ClientName {
    /// Whether a certificate's name is meant; case does not matter.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_prefix('*') {
            // At least one character must stand before the dot.
            Some(domain) => {
                name.len() > domain.len()
                    && name.is_char_boundary(name.len() - domain.len())
                    && name[name.len() - domain.len()..].eq_ignore_ascii_case(domain)
            }
            None => name.eq_ignore_ascii_case(&self.0),
        }
    }
}

impl FromNode for ClientName {
    fn shape() -> Shape {
        Shape::Text("a name like \"agent-1\" or \"*.example\"")
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<ClientName> {
        let expected = Self::shape().expected();
        let Some(text) = node.as_str() else {
            wrong_type(node, at, &expected, diags);
            return None;
        };
        let rest = text.strip_prefix("*.").unwrap_or(text);
        if rest.is_empty() || rest.contains('*') {
            let why =
                format!("{text:?} names no client: `*.` may stand at its start and before a domain only");
            wrong_form(node, at, &why, &expected, diags);
            return None;
        }
        Some(ClientName(text.to_owned()))
    }

    fn display(&self) -> String {
        quote_string(&self.0)
    }
}

impl Deref for ClientName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromNode for Cidr {
    fn shape() -> Shape {
        Shape::Text("a network like \"10.0.0.0/8\" or an address")
    }

    fn from_node(node: &Node, at: &Path, diags: &mut Diagnostics) -> Option<Cidr> {
        let expected = Self::shape().expected();
        let Some(text) = node.as_str() else {
            wrong_type(node, at, &expected, diags);
            return None;
        };
        Cidr::parse(text).map_err(|why| wrong_form(node, at, &why, &expected, diags)).ok()
    }

    fn display(&self) -> String {
        quote_string(&self.0.to_string())
    }
}

impl AccessOptions {
    /// Whether it keeps anybody out by address.
    pub fn restricts(&self) -> bool {
        !self.allow.is_empty() && !self.allow.iter().any(Cidr::is_everything)
    }
}

impl AuthOptions {
    /// Whether it names anybody; a table that names nobody would lock everybody out.
    pub fn names_somebody(&self) -> bool {
        !self.basic.is_empty()
            || !self.bearer.is_empty()
            || self.htpasswd_file.is_some()
            || !self.client_names.is_empty()
    }

    /// Whether credentials travel in requests, readable for whoever sees them without TLS.
    pub fn has_credentials(&self) -> bool {
        !self.basic.is_empty() || !self.bearer.is_empty() || self.htpasswd_file.is_some()
    }
}
