//! The live page: plain files, embedded, served under a policy that lets the page load and reach nothing but this
//! server. Scripts and styles have a version in their path, so that browsers keep them until weir is another one.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::net::problem::{Body, respond};

/// The files by name. The tests hold them to what [`POLICY`] allows.
const FILES: &[(&str, &str)] = &[
    ("ansi.js", include_str!("assets/ansi.js")),
    ("app.css", include_str!("assets/app.css")),
    ("context.js", include_str!("assets/context.js")),
    ("controls.js", include_str!("assets/controls.js")),
    ("details.js", include_str!("assets/details.js")),
    ("dom.js", include_str!("assets/dom.js")),
    ("export.js", include_str!("assets/export.js")),
    ("fields.js", include_str!("assets/fields.js")),
    ("filter.js", include_str!("assets/filter.js")),
    ("heights.js", include_str!("assets/heights.js")),
    ("histogram.js", include_str!("assets/histogram.js")),
    ("intake.js", include_str!("assets/intake.js")),
    ("keys.js", include_str!("assets/keys.js")),
    ("list.js", include_str!("assets/list.js")),
    ("login.js", include_str!("assets/login.js")),
    ("main.js", include_str!("assets/main.js")),
    ("page.js", include_str!("assets/page.js")),
    ("query.js", include_str!("assets/query.js")),
    ("query_parse.js", include_str!("assets/query_parse.js")),
    ("regex.js", include_str!("assets/regex.js")),
    ("render.js", include_str!("assets/render.js")),
    ("root.js", include_str!("assets/root.js")),
    ("rows.js", include_str!("assets/rows.js")),
    ("sse.js", include_str!("assets/sse.js")),
    ("status.js", include_str!("assets/status.js")),
    ("store.js", include_str!("assets/store.js")),
    ("stream.js", include_str!("assets/stream.js")),
    ("tabs.js", include_str!("assets/tabs.js")),
    ("time.js", include_str!("assets/time.js")),
    ("url.js", include_str!("assets/url.js")),
    ("values.js", include_str!("assets/values.js")),
    ("view.js", include_str!("assets/view.js")),
    ("words.js", include_str!("assets/words.js")),
];
const HTML: &str = include_str!("assets/index.html");
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// What all files hash to (FNV-1a): another build with other files has another version.
const VERSION: u64 = {
    let mut hash = fnv(HTML.as_bytes(), 0xcbf2_9ce4_8422_2325);
    let mut at = 0;
    while at < FILES.len() {
        hash = fnv(FILES[at].1.as_bytes(), hash);
        at += 1;
    }
    hash
};

const fn fnv(bytes: &[u8], mut hash: u64) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The page of `/`, or of a pipeline when `depth` is 1: that many steps below the root, to which all its links lead
/// relatively, so that it works below any prefix of a proxy.
pub(super) fn html(depth: usize, headers: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{VERSION:016x}-{depth}\"");
    let mut response = if known(headers, &tag) {
        not_modified()
    } else {
        let root = if depth == 0 { "./".to_owned() } else { "../".repeat(depth) };
        let assets = format!("{root}_assets/{VERSION:016x}");
        guarded("text/html; charset=utf-8", HTML.replace("{assets}", &assets).replace("{root}", &root))
    };
    insert(&mut response, header::ETAG, &tag);
    insert(&mut response, header::CACHE_CONTROL, "no-cache");
    response
}

/// One of the page's files, by the path below `/_assets/`: a version and a name. A page that was loaded from another
/// build gets the file of this one, which nobody keeps.
pub(super) fn asset(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (version, name) = path.split_once('/')?;
    let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
    let tag = format!("\"{:016x}\"", fnv(text.as_bytes(), 0xcbf2_9ce4_8422_2325));
    let content_type =
        if name.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
    let mut response =
        if known(headers, &tag) { not_modified() } else { guarded(content_type, (*text).to_owned()) };
    insert(&mut response, header::ETAG, &tag);
    let lasting = version == format!("{VERSION:016x}");
    let keep = if lasting { "private, max-age=31536000, immutable" } else { "no-cache" };
    insert(&mut response, header::CACHE_CONTROL, keep);
    Some(response)
}

/// Whether the client has what the tag names already (RFC 9110, 13.1.2).
fn known(headers: &HeaderMap, tag: &str) -> bool {
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    asked.is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn guarded(content_type: &'static str, text: String) -> Response<Body> {
    let mut response = respond(StatusCode::OK, content_type, text);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        insert(&mut response, name, value);
    }
    response
}

fn insert(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_served_and_every_import_is_a_file() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/assets");
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let served = FILES.iter().any(|(known, _)| *known == name);
            assert!(served || name == "index.html" || name == "openapi.json", "{name} is not served");
        }
        for (name, text) in FILES {
            for import in text.split(" from \"./").skip(1) {
                let import = import.split('"').next().unwrap();
                assert!(FILES.iter().any(|(known, _)| *known == import), "{name} imports {import}");
            }
        }
    }

    #[test]
    fn files_are_kept_by_browsers_until_they_change() {
        let path = format!("{VERSION:016x}/main.js");
        let first = asset(&path, &HeaderMap::new()).unwrap();
        let tag = first.headers()[header::ETAG].clone();
        assert!(first.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.clone())]);
        assert_eq!(asset(&path, &again).unwrap().status(), StatusCode::NOT_MODIFIED);
        assert_eq!(html(0, &again).status(), StatusCode::OK, "another tag");
        // A page of another build.
        let other = asset("0123/main.js", &HeaderMap::new()).unwrap();
        assert_eq!(other.headers()[header::CACHE_CONTROL], "no-cache");
        assert!(asset("main.js", &HeaderMap::new()).is_none());
        let page = html(1, &HeaderMap::new());
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, page.headers()[header::ETAG].clone())]);
        assert_eq!(html(1, &again).status(), StatusCode::NOT_MODIFIED);
    }
}
