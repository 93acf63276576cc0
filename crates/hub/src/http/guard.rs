//! What every request meets before anything answers it, and every answer before it goes.
//!
//! A hub on loopback answers only to the names of this machine: a page from elsewhere whose name was made to point here
//! (DNS rebinding) is sent away. No page of another origin reads anything unless a `--cors` names that origin: browsers see to
//! that for requests, and not for WebSocket, so there it is seen to here. No answer
//! is a page that runs scripts, can be framed, or is guessed to be of another type than it says: a value may be HTML that
//! somebody put.

use super::problem::Problem;
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, UPGRADE, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// For answers that set none themselves: nothing is loaded, run, submitted or framed.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The origin of a browser's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// An origin as browsers name it: scheme, host and perhaps a port, in small letters and nothing behind.
    pub fn parse(text: &str) -> Option<Origin> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
        (!host.is_empty() && host.bytes().all(plain)).then(|| HeaderValue::from_str(text).ok().map(Origin))?
    }
}

/// The origins whose pages may read, which can change.
#[derive(Clone, Debug, Default)]
pub(crate) struct CorsOrigins(Arc<RwLock<Vec<Origin>>>);

impl CorsOrigins {
    pub(crate) fn new(origins: Vec<Origin>) -> CorsOrigins {
        CorsOrigins(Arc::new(RwLock::new(origins)))
    }

    /// From the next request on.
    pub(crate) fn set(&self, origins: Vec<Origin>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = origins;
    }

    fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn has(&self, origin: &HeaderValue) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|Origin(allowed)| allowed == origin)
    }
}

/// The rules of one listener.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The names it answers to; `None`: to any.
    hosts: Option<BTreeSet<String>>,
    /// The origins whose pages may read it.
    cors: CorsOrigins,
}

impl Guard {
    pub(crate) fn new(address: SocketAddr, advertise: Option<&str>, cors: CorsOrigins) -> Guard {
        let own = address.ip().to_string();
        let names = ["localhost", "127.0.0.1", "::1", &own].into_iter().chain(advertise);
        let hosts = address.ip().is_loopback().then(|| names.map(str::to_ascii_lowercase).collect());
        Guard { hosts, cors }
    }

    /// The answer to a request that goes no further.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response> {
        if let Err(problem) = self.check_host(request).and_then(|()| self.check_origin(request)) {
            return Some(problem.into_response());
        }
        let preflight =
            request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        (preflight && !self.cors.is_empty()).then(|| StatusCode::NO_CONTENT.into_response())
    }

    fn check_host<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let mut given = request.headers().get_all(HOST).iter();
        let host = given.next().map(|host| host.to_str().unwrap_or_default());
        let bad = |text: &str| Err(Problem::new(StatusCode::BAD_REQUEST, "bad_host", text));
        if given.next().is_some() {
            return bad("a request has one Host header");
        }
        // A target that names its host outweighs the header (RFC 9112).
        let Some(host) = request.uri().authority().map(axum::http::uri::Authority::as_str).or(host) else {
            // No browser speaks HTTP/1.0; probes do.
            return if request.version() == Version::HTTP_11 { bad("a request has a Host header") } else { Ok(()) };
        };
        match &self.hosts {
            Some(hosts) if !hosts.contains(&name_of(host)) => {
                let text = "this hub answers on this machine to its own names only: use localhost, or start it with --advertise HOST";
                Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "bad_host", text))
            }
            _ => Ok(()),
        }
    }

    /// A page of another origin gets no connection of its own. Programs that are no browsers need not say where they are from.
    fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let headers = request.headers();
        let Some(origin) = headers.get(ORIGIN).filter(|_| headers.contains_key(UPGRADE)) else { return Ok(()) };
        if self.cors.has(origin) {
            return Ok(());
        }
        let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match (from, host) {
            (Some(from), Some(host)) if from.eq_ignore_ascii_case(host) => Ok(()),
            _ => {
                let text =
                    "a page of another origin does not connect here, unless the hub was started with --cors ORIGIN";
                Err(Problem::new(StatusCode::FORBIDDEN, "bad_origin", text))
            }
        }
    }

    /// Puts on an answer what every one has.
    pub(super) fn adorn(&self, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        let mut unless_set = |name: HeaderName, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        unless_set(CONTENT_SECURITY_POLICY, POLICY);
        unless_set(X_CONTENT_TYPE_OPTIONS, "nosniff");
        unless_set(X_FRAME_OPTIONS, "DENY");
        unless_set(REFERRER_POLICY, "no-referrer");
        unless_set(CACHE_CONTROL, "no-store");
        if self.cors.is_empty() {
            unless_set(CROSS_ORIGIN_RESOURCE_POLICY, "same-origin");
            return;
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(allowed) = origin.filter(|origin| self.cors.has(origin)) else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT, DELETE, POST"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match, if-none-match, last-event-id"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "etag, retry-after"),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// Where a request's page is from.
pub(super) fn origin<B>(request: &Request<B>) -> Option<HeaderValue> {
    request.headers().get(ORIGIN).cloned()
}

/// A host without its port, in small letters.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, host: Option<&str>, target: &str) -> Option<u16> {
        let mut request = Request::builder().uri(target);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        guard.answer(&request.body(()).unwrap()).map(|response| response.status().as_u16())
    }

    #[test]
    fn a_hub_on_loopback_answers_to_names_of_this_machine_only() {
        let guard = Guard::new("127.0.0.1:7118".parse().unwrap(), Some("Box.example"), CorsOrigins::default());
        for host in ["localhost", "LOCALHOST:7118", "127.0.0.1:1", "[::1]:7118", "box.example.", "box.example:7118"] {
            assert_eq!(status(&guard, Some(host), "/"), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:7118", "", ":7118", "127.0.0.2", "[::2]", "0.0.0.0"] {
            assert_eq!(status(&guard, Some(host), "/"), Some(421), "{host}");
        }
        // The target's own host is what counts.
        assert_eq!(status(&guard, Some("localhost"), "http://evil.example/"), Some(421));
        assert_eq!(status(&guard, None, "/"), Some(400));
        let open = Guard::new("192.0.2.1:7118".parse().unwrap(), None, CorsOrigins::default());
        assert_eq!(status(&open, Some("any.example"), "/"), None);
        assert_eq!(status(&open, None, "/"), Some(400));
    }

    #[test]
    fn only_the_origins_that_were_named_may_read() {
        let allowed = HeaderValue::from_static("https://app.example");
        let parse = |origin| Origin::parse(origin).unwrap();
        let cors = CorsOrigins::new(vec![parse("https://other.example"), parse("https://app.example")]);
        let guard = Guard::new("127.0.0.1:7118".parse().unwrap(), None, cors.clone());
        let of = |guard: &Guard, origin: Option<&HeaderValue>| {
            let mut response = StatusCode::OK.into_response();
            guard.adorn(origin, &mut response);
            response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(of(&guard, Some(&allowed)), Some(allowed.clone()));
        assert_eq!(of(&guard, Some(&HeaderValue::from_static("https://evil.example"))), None);
        assert_eq!(of(&Guard::default(), Some(&allowed)), None);
        cors.set(vec![parse("https://other.example")]);
        assert_eq!(of(&guard, Some(&allowed)), None, "not any more");
        cors.set(vec![parse("https://app.example")]);
        assert_eq!(of(&guard, Some(&allowed)), Some(allowed.clone()));
        // Over WebSocket browsers ask nobody.
        let connects = |guard: &Guard, origin: &'static str| {
            let request = Request::builder().header(HOST, "localhost:7118").header(ORIGIN, origin);
            guard.answer(&request.header(UPGRADE, "websocket").body(()).unwrap()).map(|r| r.status().as_u16())
        };
        let here = Guard::new("127.0.0.1:7118".parse().unwrap(), None, CorsOrigins::default());
        for own in ["http://localhost:7118", "https://LOCALHOST:7118"] {
            assert_eq!(connects(&here, own), None, "{own}");
        }
        for other in ["https://app.example", "http://localhost:8000", "http://localhost", "null", ""] {
            assert_eq!(connects(&here, other), Some(403), "{other}");
        }
        assert_eq!(connects(&guard, "https://app.example"), None);
        assert_eq!(connects(&guard, "https://evil.example"), Some(403));
        for bad in ["app.example", "*", "https://", "https://app.example/", "https://App.example", "null", "ftp://a"] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }
}
