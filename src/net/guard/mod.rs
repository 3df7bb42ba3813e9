//! Who may come in: what every listener asks before it serves a connection or a request, in the order deny, allow,
//! limits, authentication. Whatever it keeps per address or credential is bounded; every refusal is counted by its
//! reason and audited.

mod address;
mod audit;
mod auth;
mod board;
mod buckets;
mod credentials;
mod exposure;
mod farewell;
mod identity;
mod known;
mod memory;
pub(super) mod origin;
mod refusal;
mod slots;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};
use tokio::net::TcpStream;

pub use board::{GuardBoard, GuardStatus};
pub use credentials::{Credentials, TICKET_PARAMETER, of_headers, ticket, without_ticket};
pub use exposure::{Exposure, exposure};
pub use identity::{Identity, Means};
pub use known::htpasswd;
pub use refusal::{Reason, Refusal, Refusals};

use self::address::AddressKey;
use self::audit::Audit;
use self::auth::Auth;
use self::buckets::Buckets;
use self::farewell::Farewell;
use self::known::SLOW_TOKENS_MAX;
use self::slots::Slots;
use super::socket::Peer;
use crate::base::clock;
use crate::config::{AccessOptions, AuthOptions, Cidr};
use crate::flow::{BuildCx, SecretSource, Shared, TokenBucket};

/// Addresses whose request rate is kept at a time.
const ADDRESSES_MAX: usize = 65_536;
/// What logs call a listener that was never loaded.
const UNNAMED: &str = "listener";

/// The guard of one listener, shared by its connections.
#[derive(Debug)]
pub struct Guard {
    name: OnceLock<Arc<str>>,
    allow: Vec<Cidr>,
    deny: Vec<Cidr>,
    slots: Slots,
    /// Per address.
    requests: Option<Mutex<Buckets>>,
    requests_global: Option<Mutex<TokenBucket>>,
    limited: Limited,
    auth: Option<Arc<Auth>>,
    audit: Audit,
    farewell: Farewell,
    refusals: Arc<Refusals>,
}

/// How those who exceed a limit are answered.
#[derive(Debug)]
struct Limited {
    status: StatusCode,
    message: Option<String>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard::open()
    }
}

impl Guard {
    /// A guard that admits everybody.
    pub fn open() -> Guard {
        Guard {
            name: OnceLock::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            slots: Slots::new(None, None),
            requests: None,
            requests_global: None,
            limited: Limited { status: StatusCode::TOO_MANY_REQUESTS, message: None },
            auth: None,
            audit: Audit::default(),
            farewell: Farewell::default(),
            refusals: Arc::default(),
        }
    }

    /// The guard that the tables ask for, or `None` after complaints. No I/O: secrets and files are read by
    /// [`Guard::load`].
    pub fn build(
        access: Option<&AccessOptions>,
        auth: Option<&AuthOptions>,
        cx: &mut BuildCx<'_>,
    ) -> Option<Guard> {
        let sound = auth.is_none_or(|auth| check(auth, cx));
        sound.then(|| Guard::of(access, auth))
    }

    /// The guard of tables that are known to be sound.
    pub(super) fn of(access: Option<&AccessOptions>, auth: Option<&AuthOptions>) -> Guard {
        let mut guard = Guard::open();
        guard.auth = auth.map(|auth| Arc::new(Auth::new(auth.clone())));
        let Some(access) = access else { return guard };
        guard.allow.clone_from(&access.allow);
        guard.deny.clone_from(&access.deny);
        guard.slots = Slots::new(access.max_connections, access.max_connections_per_ip);
        let burst = |rate: f64| access.burst.map_or(rate, |burst| burst as f64);
        guard.requests =
            access.requests_per_second.map(|rate| Mutex::new(Buckets::new(rate, burst(rate), ADDRESSES_MAX)));
        guard.requests_global = access
            .global_requests_per_second
            .map(|rate| Mutex::new(TokenBucket::new(rate, burst(rate).max(rate), clock::now())));
        guard.limited = Limited {
            status: StatusCode::from_u16(access.status_code).unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            message: access.message.clone(),
        };
        guard
    }

    /// Reads the secrets and the password file, and makes the refusals of the listener `name` known to status and
    /// metrics. Called when the listener is bound; until then nobody is recognised. Blocks on files.
    ///
    /// # Errors
    /// Which secret or file cannot be read, and why; never what it holds.
    pub fn load(&self, name: &str, shared: &Shared) -> Result<(), String> {
        let name = self.name.get_or_init(|| name.into());
        if let Some(auth) = &self.auth {
            auth.load(&shared.get::<SecretSource>().environment())?;
        }
        shared.get::<GuardBoard>().register(name, &self.refusals);
        Ok(())
    }

    fn name(&self) -> &str {
        self.name.get().map_or(UNNAMED, |name| name)
    }

    /// Lets a connection in: deny, allow, and the limits on connections. Costs a lookup; before any handshake.
    ///
    /// # Errors
    /// Why not; counted and audited already.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admission, Refusal> {
        let peer = peer.to_canonical();
        let key = AddressKey::of(peer);
        self.by_address(peer)
            .and_then(|()| self.slots.take(key).map_err(|reason| self.over_limit(reason, None)))
            .map_err(|refusal| self.refused(peer, refusal))?;
        self.audit.connected(self.name(), peer);
        Ok(Admission { guard: self.clone(), key })
    }

    fn by_address(&self, peer: IpAddr) -> Result<(), Refusal> {
        let among = |list: &[Cidr]| list.iter().any(|net| net.contains(peer));
        let (reason, detail) = if among(&self.deny) {
            (Reason::Denied, "this address is denied")
        } else if !self.allow.is_empty() && !among(&self.allow) {
            (Reason::NotAllowed, "this address is not allowed")
        } else {
            return Ok(());
        };
        Err(Refusal::new(reason, StatusCode::FORBIDDEN, detail))
    }

    /// Lets a request through the rate limits: of its address, then of all.
    ///
    /// # Errors
    /// Which limit is exceeded and when to come back; counted and audited already.
    pub fn request(&self, peer: IpAddr) -> Result<(), Refusal> {
        if self.requests.is_none() && self.requests_global.is_none() {
            return Ok(());
        }
        let now = clock::now();
        if let Some(requests) = &self.requests {
            let taken =
                requests.lock().unwrap_or_else(PoisonError::into_inner).take(AddressKey::of(peer), now);
            taken.map_err(|wait| self.refused(peer, self.over_limit(Reason::Requests, Some(wait))))?;
        }
        if let Some(requests) = &self.requests_global {
            let mut bucket = requests.lock().unwrap_or_else(PoisonError::into_inner);
            if bucket.take_up_to(1, now) == 0 {
                let wait = bucket.wait_for(1);
                drop(bucket);
                return Err(self.refused(peer, self.over_limit(Reason::RequestsGlobal, Some(wait))));
            }
        }
        Ok(())
    }

    /// Who sends a request: by the name in the client's certificate, a ticket in the query, or the credentials in
    /// the headers. Hashing happens on a thread that may block; nothing else waits for it. Cancel-safe.
    ///
    /// # Errors
    /// 401 with `WWW-Authenticate`, 429 with `Retry-After` after too many wrong guesses from one address, 503 when
    /// it cannot be checked now; counted and audited already.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        peer: &Peer,
    ) -> Result<Identity, Refusal> {
        let Some(auth) = &self.auth else { return Ok(Identity::anybody()) };
        let address = peer.address.ip().to_canonical();
        let identity =
            auth.identify(headers, uri, peer).await.map_err(|refusal| self.refused(address, refusal))?;
        self.audit.recognised(self.name(), address, &identity);
        Ok(identity)
    }

    /// Whether a request carries nothing to be recognised by where a token is the only thing to send: browsers have no
    /// prompt for one.
    pub(super) fn lacks_only_a_token(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.lacks_only_a_token(headers, peer))
    }

    /// Tells a refused connection of a plain HTTP listener why, and closes it; in a task of its own.
    pub fn turn_away(&self, socket: TcpStream, refusal: Refusal) {
        self.farewell.say(socket, refusal);
    }

    /// Whether requests need to be authenticated.
    pub fn wants_credentials(&self) -> bool {
        self.auth.is_some()
    }

    /// A ticket for one request of somebody who was recognised, and how long it is good; `None` where nobody has
    /// to be, and for whom a ticket was all there was.
    pub fn ticket(&self, identity: &Identity) -> Option<(String, Duration)> {
        let auth = self.auth.as_ref()?;
        (identity.means() != Means::Ticket).then(|| auth.ticket(identity))
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.slots.total()
    }

    /// What was refused so far.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Counts and audits a refusal that was decided elsewhere, such as by the origin of a page.
    pub(super) fn refuse(&self, peer: IpAddr, reason: Reason, detail: impl Into<String>) -> Refusal {
        self.refused(peer.to_canonical(), Refusal::new(reason, StatusCode::FORBIDDEN, detail))
    }

    fn refused(&self, peer: IpAddr, refusal: Refusal) -> Refusal {
        self.refusals.count(refusal.reason);
        self.audit.refused(self.name(), peer, &refusal);
        refusal
    }

    fn over_limit(&self, reason: Reason, wait: Option<Duration>) -> Refusal {
        let detail = match (&self.limited.message, reason) {
            (Some(message), _) => message.clone(),
            (None, Reason::Connections) => "too many connections".to_owned(),
            (None, Reason::ConnectionsPerAddress) => "too many connections from this address".to_owned(),
            (None, Reason::RequestsGlobal) => "too many requests".to_owned(),
            (None, _) => "too many requests from this address".to_owned(),
        };
        // When a connection will be free nobody knows.
        Refusal::new(reason, self.limited.status, detail).retry_after(wait.unwrap_or(Duration::from_secs(1)))
    }
}

/// What only the whole of an `auth` table shows to be wrong.
fn check(auth: &AuthOptions, cx: &mut BuildCx<'_>) -> bool {
    let mut sound = true;
    let mut wrong = |cx: &mut BuildCx<'_>, message: String, hint: &str| {
        cx.error("auth", message).hint(hint);
        sound = false;
    };
    if !auth.names_somebody() {
        wrong(
            cx,
            "`auth` names nobody: nobody could come in".to_owned(),
            "add `basic`, `bearer`, `htpasswd_file` or `client_names`",
        );
    }
    let mut users: Vec<&str> = auth.basic.iter().map(|entry| entry.user.as_str()).collect();
    if users.iter().any(|user| user.is_empty() || user.contains(':')) {
        wrong(
            cx,
            "a user's name is not empty and holds no colon".to_owned(),
            "the colon ends the name when it is sent",
        );
    }
    users.sort_unstable();
    for pair in users.windows(2).filter(|pair| pair[0] == pair[1]) {
        wrong(cx, format!("the user `{}` is there twice", pair[0]), "keep one of them");
    }
    let slow = auth.bearer.iter().filter(|entry| entry.token_hash.is_slow()).count();
    if slow > SLOW_TOKENS_MAX {
        wrong(
            cx,
            format!(
                "{slow} tokens have the hash of a password: at most {SLOW_TOKENS_MAX} are allowed, since a wrong token is held against each"
            ),
            "make random tokens with `weir hash --token`",
        );
    }
    let trusts_clients = cx.node.get("tls").is_some_and(|tls| tls.get("client_ca_file").is_some());
    if !auth.client_names.is_empty() && !trusts_clients {
        wrong(
            cx,
            "`auth.client_names` needs `tls.client_ca_file`: without it no certificate is verified"
                .to_owned(),
            "add the certificate of the authority that signs your clients",
        );
    }
    sound
}

/// A connection that was let in; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Admission {
    guard: Arc<Guard>,
    key: AddressKey,
}

impl Admission {
    /// Counts a handshake that came to nothing; why is the listener's own to tell.
    pub(super) fn handshake_failed(&self) {
        self.guard.refusals.count(Reason::Handshake);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.guard.slots.release(self.key);
    }
}
