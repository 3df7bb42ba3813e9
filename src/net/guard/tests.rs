//! The guard as a whole, under paused time: the order of its decisions, what it lets through in how long, and who
//! it recognises.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::*;
use crate::base::task;
use crate::config::{Diagnostics, Environment, FromNode, Node, Origin, Path};

fn options<T: FromNode>(value: Value) -> T {
    let node = Node::from_json(&value, &Origin::Default).unwrap();
    let mut diags = Diagnostics::new();
    T::from_node(&node, &Path::root(), &mut diags).unwrap_or_else(|| panic!("{:?}", diags.items()))
}

fn guard(access: Value, auth: Option<Value>) -> Arc<Guard> {
    let guard = Guard::of(Some(&options(access)), auth.map(options).as_ref());
    guard.load("test", &Shared::default()).unwrap();
    Arc::new(guard)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(text: &str) -> Peer {
    Peer::at((ip(text), 1).into())
}

fn argon2(password: &str) -> String {
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2::PasswordHasher::hash_password(&argon2, password.as_bytes()).unwrap().to_string()
}

fn basic(user: &str, password: &str) -> HeaderMap {
    let pair = STANDARD.encode(format!("{user}:{password}"));
    let value = HeaderValue::from_str(&format!("Basic {pair}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn alice() -> Option<Value> {
    Some(json!({ "basic": [{ "user": "alice", "password_hash": argon2("secret") }] }))
}

async fn ask(guard: &Guard, headers: &HeaderMap, address: &str) -> Result<Identity, Reason> {
    let asked = guard.authenticate(headers, &Uri::from_static("/"), &peer(address)).await;
    asked.map_err(|refusal| refusal.reason())
}

#[tokio::test(start_paused = true)]
async fn deny_then_allow_then_limits() {
    let guard = guard(
        json!({
            "allow": ["10.0.0.0/8", "::ffff:192.168.1.0/120", "2001:db8::/32"], "deny": ["10.6.6.6", "2001:db8:bad::/48"],
            "max_connections": 3, "max_connections_per_ip": 2,
        }),
        None,
    );
    let mut inside = Vec::new();
    for (address, outcome) in [
        ("10.6.6.6", Err(Reason::Denied)),
        ("::ffff:10.6.6.6", Err(Reason::Denied)),
        ("11.0.0.1", Err(Reason::NotAllowed)),
        ("2001:db8:bad::1", Err(Reason::Denied)),
        ("2001:db9::1", Err(Reason::NotAllowed)),
        ("::1", Err(Reason::NotAllowed)),
        ("::ffff:10.0.0.1", Ok(())),
        ("10.0.0.1", Ok(())),
        ("10.0.0.1", Err(Reason::ConnectionsPerAddress)),
        ("192.168.1.7", Ok(())),
        ("2001:db8::1", Err(Reason::Connections)),
        // Who may not come hears that, and not that it is full.
        ("11.0.0.1", Err(Reason::NotAllowed)),
    ] {
        let admitted = guard.admit(ip(address));
        assert_eq!(admitted.as_ref().map(drop).map_err(Refusal::reason), outcome, "{address}");
        inside.extend(admitted.ok());
    }
    assert_eq!(guard.connections(), 3);
    inside.clear();
    assert_eq!(guard.connections(), 0);
    assert!(guard.admit(ip("2001:db8::1")).is_ok());
    assert_eq!((guard.refusals().of(Reason::Denied), guard.refusals().of(Reason::NotAllowed)), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn requests_pass_at_their_rate_and_not_above() {
    let guard = guard(
        json!({ "requests_per_second": 2.0, "burst": 4, "global_requests_per_second": 10.0, "status_code": 503, "message": "slow down" }),
        None,
    );
    let pass =
        |address: &str, times: usize| (0..times).filter(|_| guard.request(ip(address)).is_ok()).count();
    assert_eq!(pass("10.0.0.1", 10), 4);
    // All of a /64 together; its bucket is its own.
    assert_eq!(pass("2001:db8::1", 3) + pass("2001:db8::2", 3), 4);
    // What is left for all: ten, less the eight.
    assert_eq!(pass("10.0.0.2", 3), 2);
    let refusal = guard.request(ip("10.0.0.3")).unwrap_err();
    assert_eq!((refusal.reason(), refusal.status().as_u16()), (Reason::RequestsGlobal, 503));
    assert_eq!(refusal.to_string(), "slow down");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(pass("10.0.0.1", 10), 2);
    let refusal = guard.request(ip("10.0.0.1")).unwrap_err();
    let answer = refusal.into_problem().into_response();
    assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
    // An hour of guests: never more than rate times time, and the burst.
    let mut passed = 0;
    for _ in 0..3600 {
        tokio::time::advance(Duration::from_secs(1)).await;
        passed += pass("10.0.0.1", 5);
    }
    assert!((7200..=7204).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_user_and_a_wrong_password_hear_the_same() {
    let guard = guard(json!({}), alice());
    let mut said = Vec::new();
    for headers in [basic("alice", "wrong"), basic("mallory", "secret"), bearer("secret")] {
        let refused =
            guard.authenticate(&headers, &Uri::from_static("/"), &peer("10.0.0.1")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::WrongCredentials);
        let answer = refused.into_problem().into_response();
        assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"weir\", charset=\"UTF-8\"");
        said.push((answer.status(), format!("{:?}", answer.body())));
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
    assert_eq!(ask(&guard, &HeaderMap::new(), "10.0.0.1").await, Err(Reason::NoCredentials));
    let identity = ask(&guard, &basic("alice", "secret"), "10.0.0.1").await.unwrap();
    assert_eq!((identity.name(), identity.means()), (Some("alice"), Means::Basic));
}

#[tokio::test(start_paused = true)]
async fn token_guesses_at_full_speed_are_throttled() {
    let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let guard = guard(json!({}), Some(json!({ "bearer": [{ "name": "agent", "token_hash": hash }] })));
    // Known before the attack begins, and behind the same address.
    assert!(ask(&guard, &bearer("abc"), "10.0.0.1").await.is_ok());
    let mut outcomes = [0u32; 2];
    for n in 0..1000 {
        match ask(&guard, &bearer(&format!("guess-{n}")), "10.0.0.1").await.unwrap_err() {
            Reason::WrongCredentials => outcomes[0] += 1,
            Reason::Guessing => outcomes[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes, [10, 990]);
    let headers = bearer("guess");
    let refused = guard.authenticate(&headers, &Uri::from_static("/"), &peer("10.0.0.1")).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let answer = refused.into_problem().into_response();
    assert_eq!(answer.headers()[header::RETRY_AFTER], "6");
    assert!(ask(&guard, &bearer("abc"), "10.0.0.1").await.is_ok(), "who is known is not locked out");
    assert_eq!(ask(&guard, &bearer("guess"), "10.0.0.2").await, Err(Reason::WrongCredentials));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(ask(&guard, &bearer("guess"), "10.0.0.1").await, Err(Reason::WrongCredentials));
    assert_eq!(ask(&guard, &bearer("guess"), "10.0.0.1").await, Err(Reason::Guessing));
}

#[tokio::test(start_paused = true)]
async fn guesses_at_once_are_counted_before_they_are_checked() {
    let guard = guard(json!({}), alice());
    let asked: Vec<_> = (0..200)
        .map(|n| {
            let guard = guard.clone();
            task::spawn(async move { ask(&guard, &basic("alice", &n.to_string()), "10.0.0.1").await })
        })
        .collect();
    let mut checked = 0;
    for outcome in asked {
        checked += u32::from(outcome.await.unwrap() == Err(Reason::WrongCredentials));
    }
    assert_eq!(checked, 10);
}

#[tokio::test(start_paused = true)]
async fn tickets_are_for_those_who_were_recognised_otherwise() {
    let guard = guard(json!({}), alice());
    let identity = ask(&guard, &basic("alice", "secret"), "10.0.0.1").await.unwrap();
    let (ticket, lifetime) = guard.ticket(&identity).unwrap();
    assert_eq!(lifetime, Duration::from_secs(30));
    let uri: Uri = format!("/app/stream?tail=5&ticket={ticket}").parse().unwrap();
    let none = HeaderMap::new();
    let by_ticket = guard.authenticate(&none, &uri, &peer("10.0.0.2")).await.unwrap();
    assert_eq!((by_ticket.name(), by_ticket.means()), (Some("alice"), Means::Ticket));
    // No ticket for a ticket, and none twice; and coming back with a used one is no guess.
    assert_eq!(guard.ticket(&by_ticket), None);
    for _ in 0..50 {
        let again = guard.authenticate(&none, &uri, &peer("10.0.0.2")).await.unwrap_err();
        assert_eq!(again.reason(), Reason::WrongCredentials);
    }
    let late = guard.ticket(&identity).unwrap().0;
    tokio::time::advance(Duration::from_secs(30)).await;
    let uri = format!("/?ticket={late}").parse().unwrap();
    assert!(guard.authenticate(&none, &uri, &peer("10.0.0.2")).await.is_err());
    // Credentials count, whatever the ticket.
    assert!(guard.authenticate(&basic("alice", "secret"), &uri, &peer("10.0.0.2")).await.is_ok());
    assert_eq!(Guard::open().ticket(&Identity::anybody()), None);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_names_that_were_verified() {
    let guard = guard(json!({}), Some(json!({ "client_names": ["agent-1", "*.example"] })));
    for (name, known) in [
        (Some("agent-1"), true),
        (Some("AGENT-1"), true),
        (Some("a.example"), true),
        (Some("a.b.example"), true),
        (Some("example"), false),
        (Some(".example"), false),
        (Some("aexample"), false),
        (Some("agent-12"), false),
        (None, false),
    ] {
        let peer = Peer { name: name.map(Into::into), ..peer("10.0.0.1") };
        let asked = guard.authenticate(&HeaderMap::new(), &Uri::from_static("/"), &peer).await;
        assert_eq!(asked.is_ok(), known, "{name:?}");
        if let Err(refusal) = asked {
            assert_eq!(refusal.status(), StatusCode::FORBIDDEN, "there is nothing to ask for");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_come_from_files_and_variables_and_are_read_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hash");
    std::fs::write(&file, format!("{}\n", argon2("secret"))).unwrap();
    let auth = json!({
        "basic": [{ "user": "alice", "password_hash": { "file": file.to_str().unwrap() } }],
        "bearer": [{ "name": "agent", "token_hash": { "env": "HASH" } }],
    });
    let guard = Guard::of(None, Some(&options(auth)));
    assert_eq!(ask(&guard, &basic("alice", "secret"), "10.0.0.1").await, Err(Reason::CannotCheck));
    let shared = Shared::default();
    let why = guard.load("test", &shared).unwrap_err();
    assert_eq!(why, "the token hash of `agent`: no secret: the variable HASH is not set");
    let shared = Shared::default();
    shared.get::<SecretSource>().set(Environment::from_pairs([("HASH", "hunter2")]));
    let why = Guard::of(
        None,
        Some(&options(json!({ "bearer": [{ "name": "agent", "token_hash": { "env": "HASH" } }] }))),
    )
    .load("test", &shared)
    .unwrap_err();
    assert!(
        why.starts_with("the token hash of `agent`: this is no token hash") && !why.contains("hunter2"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_password_file_is_read_again_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    let write = |text: String| std::fs::write(&file, text).unwrap();
    write(format!("alice:{}\n", argon2("one")));
    let guard = guard(json!({}), Some(json!({ "htpasswd_file": file.to_str().unwrap() })));
    assert!(ask(&guard, &basic("alice", "one"), "10.0.0.1").await.is_ok());
    write(format!("alice:{}\nbob:{}\n", argon2("two"), argon2("three")));
    tokio::time::advance(Duration::from_secs(3)).await;
    // Also who was remembered is asked again.
    assert_eq!(ask(&guard, &basic("alice", "one"), "10.0.0.1").await, Err(Reason::WrongCredentials));
    assert!(ask(&guard, &basic("bob", "three"), "10.0.0.1").await.is_ok());
    write("alice:broken".to_owned());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(ask(&guard, &basic("alice", "two"), "10.0.0.1").await.is_ok());
    std::fs::remove_file(&file).unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(ask(&guard, &basic("bob", "three"), "10.0.0.1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_at_the_check_makes_nobody_a_guesser() {
    let guard = guard(json!({}), alice());
    let busy = guard.auth.as_ref().unwrap().checks.clone().acquire_many_owned(2).await.unwrap();
    for _ in 0..3 {
        let asked = (0..10).map(|_| {
            let guard = guard.clone();
            task::spawn(async move { ask(&guard, &basic("alice", "secret"), "10.0.0.1").await })
        });
        for outcome in asked.collect::<Vec<_>>() {
            assert_eq!(outcome.await.unwrap(), Err(Reason::CannotCheck));
        }
    }
    drop(busy);
    assert!(ask(&guard, &basic("alice", "secret"), "10.0.0.1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_password_that_changes_while_it_is_checked_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, format!("alice:{}\n", argon2("old"))).unwrap();
    let guard = guard(json!({}), Some(json!({ "htpasswd_file": file.to_str().unwrap() })));
    let busy = guard.auth.as_ref().unwrap().checks.clone().acquire_many_owned(2).await.unwrap();
    let asking = guard.clone();
    let asked = task::spawn(async move { ask(&asking, &basic("alice", "old"), "10.0.0.1").await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    std::fs::write(&file, format!("alice:{}\n", argon2("new"))).unwrap();
    guard.load("test", &Shared::default()).unwrap();
    drop(busy);
    assert!(asked.await.unwrap().is_ok(), "it was right when it was sent");
    assert_eq!(ask(&guard, &basic("alice", "old"), "10.0.0.1").await, Err(Reason::WrongCredentials));
}

#[test]
fn what_is_known_is_never_shown() {
    let auth: AuthOptions = options(alice().unwrap());
    let guard = Guard::of(None, Some(&auth));
    guard.load("test", &Shared::default()).unwrap();
    let shown = format!("{auth:?} {guard:?} {}", auth.display());
    assert!(!shown.contains("$argon2id$"), "{shown}");
}
