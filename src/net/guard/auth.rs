//! Who has to be known: holds what is known against what a request carries. Right credentials are remembered for a
//! while, wrong ones are counted per address, and hashing happens on threads that may block, a few at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::sync::Semaphore;

use super::address::AddressKey;
use super::buckets::Buckets;
use super::credentials::{self, Credentials};
use super::identity::{Identity, Means};
use super::known::Known;
use super::memory::Memory;
use super::refusal::{Reason, Refusal};
use crate::base::clock::{self, Instant};
use crate::config::{AuthOptions, Environment};
use crate::net::socket::Peer;

/// How long right credentials are taken without hashing them again.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: usize = 1024;
/// How long a ticket is good, and how many may be out.
const TICKET_LIFETIME: Duration = Duration::from_secs(30);
const TICKETS_MAX: usize = 1024;
/// Wrong credentials that one address may send at once, and after that one every so often.
const GUESSES: f64 = 10.0;
const GUESS_EVERY: Duration = Duration::from_secs(6);
const GUESSERS_MAX: usize = 16_384;
/// Hashes computed at a time: each of argon2's takes 19 MiB and a core.
const CHECKS_AT_ONCE: usize = 2;
/// How long credentials wait for their turn.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// How often the password file is looked at.
const FILE_LOOK_EVERY: Duration = Duration::from_secs(2);

const BASIC: &str = "Basic realm=\"weir\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"weir\"";

/// The check of credentials of one listener.
#[derive(Debug)]
pub(super) struct Auth {
    options: AuthOptions,
    known: ArcSwapOption<Known>,
    environment: OnceLock<Environment>,
    file: Mutex<FileSeen>,
    remembered: Memory,
    tickets: Memory,
    guesses: Mutex<Buckets>,
    /// Seats among those whose hashes are computed.
    pub(super) checks: Arc<Semaphore>,
}

/// When the password file was last looked at, and how it looked.
#[derive(Debug, Default)]
struct FileSeen {
    looked_at: Option<Instant>,
    look: Option<Look>,
}

type Look = (SystemTime, u64);

impl Auth {
    pub(super) fn new(options: AuthOptions) -> Auth {
        let guesses = Buckets::new(1.0 / GUESS_EVERY.as_secs_f64(), GUESSES, GUESSERS_MAX);
        Auth {
            options,
            known: ArcSwapOption::empty(),
            environment: OnceLock::new(),
            file: Mutex::default(),
            remembered: Memory::new(REMEMBERED_FOR, REMEMBERED_MAX),
            tickets: Memory::new(TICKET_LIFETIME, TICKETS_MAX),
            guesses: Mutex::new(guesses),
            checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
        }
    }

    /// Reads secrets and the password file, blocking; also again, at a restart.
    pub(super) fn load(&self, environment: &Environment) -> Result<(), String> {
        let environment = self.environment.get_or_init(|| environment.clone());
        let look = self.look();
        let known = Known::read(&self.options, environment)?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) =
            FileSeen { looked_at: Some(clock::now()), look };
        self.known.store(Some(Arc::new(known)));
        self.remembered.clear();
        Ok(())
    }

    fn look(&self) -> Option<Look> {
        let metadata = std::fs::metadata(Path::new(self.options.htpasswd_file.as_ref()?)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// Reads the password file again if it has changed. One that cannot be used changes nothing.
    async fn refresh(self: &Arc<Self>, now: Instant) {
        if self.options.htpasswd_file.is_none() || !self.look_is_due(now) {
            return;
        }
        let auth = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let look = auth.look();
            let seen = auth.file.lock().unwrap_or_else(PoisonError::into_inner).look;
            if look == seen {
                return;
            }
            let Some(environment) = auth.environment.get() else { return };
            match auth.load(environment) {
                Ok(()) => tracing::info!("read the password file again: it has changed"),
                Err(why) => {
                    auth.file.lock().unwrap_or_else(PoisonError::into_inner).look = look;
                    tracing::warn!("the passwords stay as they were: {why}");
                }
            }
        });
        looked.await.ok();
    }

    fn look_is_due(&self, now: Instant) -> bool {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let due = file.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= FILE_LOOK_EVERY);
        if due {
            file.looked_at = Some(now);
        }
        due
    }

    /// Who it is. Cancel-safe; a check that was begun goes on and is counted.
    pub(super) async fn identify(
        self: &Arc<Self>,
        headers: &HeaderMap,
        uri: &Uri,
        peer: &Peer,
    ) -> Result<Identity, Refusal> {
        if let Some(name) = self.certified(peer) {
            return Ok(Identity::new(name.clone(), Means::Certificate));
        }
        let now = clock::now();
        let ticket = credentials::ticket(uri.query());
        if let Some(identity) = ticket.as_ref().and_then(|ticket| self.tickets.take(ticket.as_bytes(), now)) {
            return Ok(identity.by_ticket());
        }
        self.refresh(now).await;
        let key = AddressKey::of(peer.address.ip());
        match credentials::of_headers(headers) {
            // A used ticket is what a browser comes back with after a break, and no guess: it asks for a new one.
            None if ticket.is_some() => {
                Err(self.unauthorized(Reason::WrongCredentials, "the ticket is used, expired or wrong"))
            }
            None => Err(self.unauthorized(Reason::NoCredentials, "credentials are needed")),
            Some(Err(())) => {
                self.guess(key, now)?;
                Err(self.unauthorized(Reason::WrongCredentials, "credentials that cannot be read"))
            }
            Some(Ok(credentials)) => self.check(credentials, key).await,
        }
    }

    /// The name in the client's certificate, if it is one that is let in.
    fn certified<'a>(&self, peer: &'a Peer) -> Option<&'a Arc<str>> {
        peer.name
            .as_ref()
            .filter(|name| self.options.client_names.iter().any(|allowed| allowed.matches(name)))
    }

    /// Whether nothing says who it is, and a token is the only thing that could be sent to say so.
    pub(super) fn lacks_only_a_token(&self, headers: &HeaderMap, peer: &Peer) -> bool {
        !self.takes_passwords()
            && !self.options.bearer.is_empty()
            && !headers.contains_key(header::AUTHORIZATION)
            && self.certified(peer).is_none()
    }

    fn takes_passwords(&self) -> bool {
        !self.options.basic.is_empty() || self.options.htpasswd_file.is_some()
    }

    async fn check(self: &Arc<Self>, credentials: Credentials, key: AddressKey) -> Result<Identity, Refusal> {
        let secret = credentials.canonical();
        if let Some(identity) = self.remembered.find(&secret, clock::now()) {
            return Ok(identity);
        }
        let known = self.known.load_full();
        let known = known.ok_or_else(|| cannot_check("the credentials are not loaded"))?;
        // Counted in advance, so that a thousand guesses at once are a thousand.
        self.guess(key, clock::now())?;
        let identity = if known.is_slow(&credentials) {
            let checked = self.check_slowly(known.clone(), credentials, &secret).await;
            // What was not checked was no guess.
            checked.inspect_err(|_| self.no_guess(key))?
        } else {
            known.check(&credentials)
        };
        let now = clock::now();
        let Some(identity) = identity else {
            return Err(self.unauthorized(Reason::WrongCredentials, "wrong credentials"));
        };
        self.no_guess(key);
        self.remembered.put(&secret, identity.clone(), now);
        // Passwords that changed during the check: either this shows here, or what was just remembered was forgotten.
        let current = self.known.load_full();
        if !current.is_some_and(|current| Arc::ptr_eq(&current, &known)) {
            self.remembered.clear();
        }
        Ok(identity)
    }

    fn no_guess(&self, key: AddressKey) {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner).give_back(key, clock::now());
    }

    async fn check_slowly(
        &self,
        known: Arc<Known>,
        credentials: Credentials,
        secret: &[u8],
    ) -> Result<Option<Identity>, Refusal> {
        let turn = tokio::time::timeout(CHECK_PATIENCE, self.checks.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(cannot_check("too many credentials are being checked"));
        };
        // Another request with the same may have been checked meanwhile.
        if let Some(identity) = self.remembered.find(secret, clock::now()) {
            return Ok(Some(identity));
        }
        let checked = tokio::task::spawn_blocking(move || {
            let identity = known.check(&credentials);
            // Held to the end, even when nobody waits any more: what is limited is the work.
            drop(turn);
            identity
        });
        checked.await.map_err(|_| cannot_check("checking the credentials failed"))
    }

    fn guess(&self, key: AddressKey, now: Instant) -> Result<(), Refusal> {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.take(key, now).map_err(|wait| {
            let detail = "too many wrong credentials from this address";
            Refusal::new(Reason::Guessing, StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
        })
    }

    fn unauthorized(&self, reason: Reason, detail: &str) -> Refusal {
        let mut refusal = Refusal::new(reason, StatusCode::UNAUTHORIZED, detail);
        refusal.challenges = match (self.takes_passwords(), !self.options.bearer.is_empty()) {
            (true, true) => &[BASIC, BEARER],
            (true, false) => &[BASIC],
            (false, true) => &[BEARER],
            (false, false) => {
                // Only a certificate helps, which no status asks for.
                refusal.status = StatusCode::FORBIDDEN;
                "a client certificate with a known name is needed".clone_into(&mut refusal.detail);
                &[]
            }
        };
        refusal
    }

    /// A ticket for somebody who was recognised otherwise, and how long it is good.
    pub(super) fn ticket(&self, identity: &Identity) -> (String, Duration) {
        (self.tickets.ticket(identity.clone(), clock::now()), self.tickets.lifetime())
    }
}

fn cannot_check(detail: &str) -> Refusal {
    Refusal::new(Reason::CannotCheck, StatusCode::SERVICE_UNAVAILABLE, detail)
        .retry_after(Duration::from_secs(2))
}
