//! What the proxies that people use have to be told so that a stream passes: nginx, Apache httpd, Caddy, HAProxy and
//! Cloudflare, by fault.

/// What breaks a stream on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something gathers bytes before it passes them on.
    Buffering,
    /// Something packs the stream.
    Compression,
    /// Something ends connections that are silent.
    IdleTimeout,
    /// Something answers with HTTP/1.0.
    OldHttp,
    /// Something takes a header away.
    Headers,
}

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    Nginx,
    Apache,
    Caddy,
    Haproxy,
    Cloudflare,
    /// Something that says so in `Via` or `Server`, and is none of these.
    Other,
}

impl Proxy {
    /// Those whose cures are known.
    pub(super) const KNOWN: [Proxy; 5] =
        [Proxy::Nginx, Proxy::Apache, Proxy::Caddy, Proxy::Haproxy, Proxy::Cloudflare];

    pub(super) fn name(self) -> &'static str {
        match self {
            Proxy::Nginx => "nginx",
            Proxy::Apache => "Apache",
            Proxy::Caddy => "Caddy",
            Proxy::Haproxy => "HAProxy",
            Proxy::Cloudflare => "Cloudflare",
            Proxy::Other => "another proxy",
        }
    }

    /// The proxies that an answer's headers tell of.
    pub(super) fn of(headers: &[(String, String)]) -> Vec<Proxy> {
        let mut found = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.to_ascii_lowercase(), value.to_ascii_lowercase());
            let proxy = match name.as_str() {
                "cf-ray" => Some(Proxy::Cloudflare),
                "server" | "via" => Some(match value {
                    value if value.contains("nginx") || value.contains("openresty") => Proxy::Nginx,
                    value if value.contains("apache") => Proxy::Apache,
                    value if value.contains("caddy") => Proxy::Caddy,
                    value if value.contains("haproxy") => Proxy::Haproxy,
                    value if value.contains("cloudflare") => Proxy::Cloudflare,
                    _ => Proxy::Other,
                }),
                _ => None,
            };
            found.extend(proxy.filter(|proxy| !found.contains(proxy)));
        }
        found
    }
}

/// The lines that cure a fault; `None` where the proxy does not have it.
pub(super) fn cures(proxy: Proxy, fault: Fault) -> Option<&'static [&'static str]> {
    use Fault::{Buffering, Compression, Headers, IdleTimeout, OldHttp};
    Some(match (proxy, fault) {
        (Proxy::Nginx, Buffering) => &[
            "proxy_buffering off;                 # in the location of the stream",
            "# and remove any `proxy_ignore_headers X-Accel-Buffering`: weir's own header switches it off",
        ],
        (Proxy::Nginx, Compression) => &[
            "gzip off;                            # in the location of the stream,",
            "# or take text/event-stream out of gzip_types; a brotli module likewise: brotli off;",
        ],
        (Proxy::Nginx, IdleTimeout) => &[
            "proxy_read_timeout 1h;               # longer than `heartbeat.interval`, which is 15s by default",
            "proxy_send_timeout 1h;",
        ],
        (Proxy::Nginx, OldHttp) => &["proxy_http_version 1.1;", "proxy_set_header Connection \"\";"],
        (Proxy::Nginx, Headers) => &["# remove proxy_hide_header and add_header lines about Cache-Control"],
        (Proxy::Apache, Buffering) => &["ProxyPass \"/logs/\" \"http://127.0.0.1:8080/\" flushpackets=on"],
        (Proxy::Apache, Compression) => &["SetEnvIf Request_URI \"/stream$\" no-gzip=1 no-brotli=1"],
        (Proxy::Apache, IdleTimeout) => {
            &["ProxyPass \"/logs/\" \"http://127.0.0.1:8080/\" timeout=3600 flushpackets=on"]
        }
        (Proxy::Apache, OldHttp) => {
            &["# remove SetEnv force-proxy-request-1.0, downgrade-1.0 and force-response-1.0"]
        }
        (Proxy::Apache, Headers) => &["# remove Header lines about Cache-Control"],
        (Proxy::Caddy, Buffering) => &["reverse_proxy 127.0.0.1:8080 {", "    flush_interval -1", "}"],
        (Proxy::Caddy, Compression) => {
            &["@page not path */stream", "encode @page gzip zstd               # everything but the streams"]
        }
        (Proxy::Caddy, IdleTimeout) => &[
            "reverse_proxy 127.0.0.1:8080 {",
            "    stream_timeout 0",
            "    transport http {",
            "        read_timeout 0",
            "    }",
            "}",
        ],
        (Proxy::Haproxy, Buffering) => {
            &["# remove `option http-buffer-request` and any cache-use on the stream"]
        }
        (Proxy::Haproxy, Compression) => &["# in `compression type`, leave out text/event-stream"],
        (Proxy::Haproxy, IdleTimeout) => &["timeout server 1h", "timeout client 1h"],
        (Proxy::Haproxy, OldHttp) => {
            &["# remove `option httpclose` and `option http-use-htx off`; set `mode http`"]
        }
        (Proxy::Haproxy, Headers) => {
            &["# remove http-response del-header and replace-header lines about Cache-Control"]
        }
        (Proxy::Cloudflare, Buffering) => &[
            "# a Cache Rule: bypass cache for URI paths that end with /stream; no Workers that read the body",
        ],
        (Proxy::Cloudflare, Compression) => {
            &["# a Compression Rule: disable compression for URI paths that end with /stream"]
        }
        (Proxy::Cloudflare, IdleTimeout) => &[
            "# it ends what is silent for 100 s: keep heartbeat.interval at 15s, and look at what lies behind it",
        ],
        (Proxy::Cloudflare, Headers) => {
            &["# a Cache Rule: respect origin TTL, for URI paths that end with /stream"]
        }
        (Proxy::Caddy, OldHttp | Headers) | (Proxy::Cloudflare, OldHttp) | (Proxy::Other, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_their_headers() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (headers, expected) in [
            (vec![header("Server", "nginx/1.22.1")], vec![Proxy::Nginx]),
            (vec![header("Server", "cloudflare"), header("CF-RAY", "x")], vec![Proxy::Cloudflare]),
            (vec![header("Via", "1.1 Caddy"), header("server", "Apache")], vec![Proxy::Caddy, Proxy::Apache]),
            (vec![header("via", "1.1 varnish (Varnish/7.1)")], vec![Proxy::Other]),
            (vec![header("Date", "x")], vec![]),
        ] {
            assert_eq!(Proxy::of(&headers), expected);
        }
    }
}
