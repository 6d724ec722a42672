//! Who may do what: decided from a request's head alone, before its body is read.
//!
//! Web pages that the user has open can send requests here, and a host name of theirs can come to point here (DNS rebinding). Other users
//! of the machine can connect. So the host must be ours, a page must come from here, and everything but the page itself needs a
//! token.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::routine::webhook_token::WebhookToken;

/// The sender of an allowed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Anyone: gets the page, or a script that ends a service worker, in which nothing is secret, or follows a link, which is secret
    /// itself.
    Anyone,
    /// The holder of this server's token: its page, or a program of the user. May do everything.
    Person,
    /// A program that may trigger the routine of this token.
    Webhook(WebhookToken),
}

/// Whose token one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Person,
    Webhook(WebhookToken),
    Nobody,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("wrong host: open the address that `moadim-mcp dashboard` printed")]
    Host,
    #[error("refused: pages of other origins may not send requests to the dashboard")]
    Preflight,
    #[error("refused: the request comes from another origin; open the address that `moadim-mcp dashboard` printed")]
    Origin,
    #[error("refused: the request comes from another site; open the address that `moadim-mcp dashboard` printed")]
    Site,
    #[error("no such path; GET /api/openapi.json lists the paths")]
    Path,
    /// With the methods that the path takes.
    #[error("this path takes only {0}")]
    Method(&'static str),
    #[error("a token is missing: send `Authorization: Bearer TOKEN`")]
    NoToken,
    #[error(
        "wrong token: the dashboard makes a new one at each start; copy it from the address that `moadim-mcp dashboard` prints"
    )]
    WrongToken,
    #[error("this token may only trigger its routine")]
    OtherUse,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Preflight | Self::Origin | Self::Site | Self::OtherUse => StatusCode::FORBIDDEN,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
        }
    }
}

/// What a request may have, as far as that can be said before its token is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Screened<'a> {
    /// It needs no token.
    Open,
    /// It depends on whose this token is, see [`authorize`].
    Token(&'a str),
}

/// Decides about a request to the server at `port`, before its token is looked up.
pub(super) fn screen(head: &Parts, port: u16) -> Result<Screened<'_>, Refusal> {
    let host = check_host(head, port)?;
    if head.method == Method::OPTIONS {
        return Err(Refusal::Preflight);
    }
    check_origin(&head.headers, host)?;
    let (method, path) = (&head.method, head.uri.path());
    if asks_for_service_worker(head) {
        return Ok(Screened::Open);
    }
    let is_page = path == "/";
    check_site(&head.headers, is_page && method == Method::GET)?;
    if is_page || path.starts_with("/open/") {
        // A link is used up when it is followed, so none is only looked at.
        let is_read = method == Method::GET || is_page && method == Method::HEAD;
        let allowed = if is_page { "GET, HEAD" } else { "GET" };
        return if is_read { Ok(Screened::Open) } else { Err(Refusal::Method(allowed)) };
    }
    // A path that is added elsewhere one day is not open by accident.
    if !path.starts_with("/api/") && path != "/metrics" {
        return Err(Refusal::Path);
    }
    bearer(&head.headers).map(Screened::Token)
}

/// Decides about a request that has passed [`screen`], by the owner of its token.
pub(super) fn authorize(head: &Parts, owner: Owner) -> Result<Caller, Refusal> {
    match owner {
        Owner::Person => Ok(Caller::Person),
        Owner::Webhook(token) => {
            let is_its_trigger = head.uri.path() == format!("/api/routines/{}/trigger", token.routine);
            let is_allowed = head.method == Method::POST && is_its_trigger;
            if is_allowed { Ok(Caller::Webhook(token)) } else { Err(Refusal::OtherUse) }
        }
        Owner::Nobody => Err(Refusal::WrongToken),
    }
}

/// Whether a browser looks for the script of a service worker, at whatever path. No page can send this header by itself.
pub(super) fn asks_for_service_worker(head: &Parts) -> bool {
    head.method == Method::GET && head.headers.get(SERVICE_WORKER).is_some_and(|kind| kind == "script")
}

/// Returns the host that the request is for: the one in its head, and in its target if that names one too.
fn check_host(head: &Parts, port: u16) -> Result<&str, Refusal> {
    let host = only(&head.headers, &HOST).map_err(|()| Refusal::Host)?.ok_or(Refusal::Host)?;
    let of_target = head.uri.authority().map(Authority::as_str);
    let is_ours = |host: &str| is_our_host(host, port);
    if is_ours(host) && of_target.is_none_or(is_ours) { Ok(host) } else { Err(Refusal::Host) }
}

fn is_our_host(host: &str, port: u16) -> bool {
    let name = match host.strip_suffix(&format!(":{port}")) {
        Some(name) => name,
        // The port that HTTP leaves out.
        None if port == 80 => host,
        None => return false,
    };
    name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost")
}

/// A browser names the page's origin with every request but a plain GET of its own site. `null` is no origin.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
    match only(headers, &ORIGIN).map_err(|()| Refusal::Origin)? {
        None => Ok(()),
        Some(origin) if origin.eq_ignore_ascii_case(&format!("http://{host}")) => Ok(()),
        Some(_) => Err(Refusal::Origin),
    }
}

const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Browsers say for whom they fetch. A link to the page may be anywhere, as in a terminal that is itself a web page.
fn check_site(headers: &HeaderMap, may_be_linked: bool) -> Result<(), Refusal> {
    let site = only(headers, &SEC_FETCH_SITE).map_err(|()| Refusal::Site)?;
    let is = |name, value| headers.get(name).is_some_and(|found| found == value);
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if may_be_linked && is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document") => Ok(()),
        Some(_) => Err(Refusal::Site),
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = only(headers, &AUTHORIZATION).map_err(|()| Refusal::WrongToken)?.ok_or(Refusal::NoToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refusal::WrongToken)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Refusal::WrongToken) }
}

/// Returns the value of a header; an error if there are several, as another program may have read another one, or if it is no text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use proptest::prelude::*;

    const PORT: u16 = 4321;

    fn webhook() -> WebhookToken {
        WebhookToken::example("news", false)
    }

    fn owner_of(token: &str) -> Owner {
        match token {
            "person" => Owner::Person,
            "webhook" => Owner::Webhook(webhook()),
            _ => Owner::Nobody,
        }
    }

    fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(target);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn decide(head: &Parts, port: u16, owner_of: impl FnOnce(&str) -> Owner) -> Result<Caller, Refusal> {
        match screen(head, port)? {
            Screened::Open => Ok(Caller::Anyone),
            Screened::Token(token) => authorize(head, owner_of(token)),
        }
    }

    fn decided(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Caller, Refusal> {
        decide(&head(method, target, headers), PORT, owner_of)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:4321");
    const PERSON: (&str, &str) = ("authorization", "Bearer person");
    const WEBHOOK: (&str, &str) = ("authorization", "Bearer webhook");

    #[test]
    fn the_page_needs_no_token_and_all_else_does() {
        assert_eq!(decided("GET", "/", &[HOST]), Ok(Caller::Anyone));
        assert_eq!(decided("HEAD", "/", &[HOST]), Ok(Caller::Anyone));
        assert_eq!(decided("GET", "/?x", &[HOST]), Ok(Caller::Anyone));
        assert_eq!(decided("POST", "/", &[HOST, PERSON]), Err(Refusal::Method("GET, HEAD")));
        assert_eq!(decided("GET", "/open/x", &[HOST]), Ok(Caller::Anyone));
        assert_eq!(decided("HEAD", "/open/x", &[HOST]), Err(Refusal::Method("GET")));
        for path in ["/api/health", "/api/", "/metrics", "/api/../", "/api/tools/stop_run"] {
            assert_eq!(decided("GET", path, &[HOST]), Err(Refusal::NoToken), "{path}");
            assert_eq!(decided("GET", path, &[HOST, PERSON]), Ok(Caller::Person), "{path}");
        }
        for path in ["/x", "/api", "//api/health", "/API/health", "/../etc/passwd", "/%2e%2e/", "/metrics/", "/.git"] {
            assert_eq!(decided("GET", path, &[HOST, PERSON]), Err(Refusal::Path), "{path}");
        }
    }

    #[test]
    fn only_our_own_host_is_served() {
        for host in ["127.0.0.1:4321", "[::1]:4321", "localhost:4321", "LocalHost:4321"] {
            assert_eq!(decided("GET", "/", &[("host", host)]), Ok(Caller::Anyone), "{host}");
        }
        let others = [
            "",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:43210",
            "127.0.0.2:4321",
            "0.0.0.0:4321",
            "evil.example:4321",
            "localhost.evil.example:4321",
            "evil.localhost:4321",
            "localhost.:4321",
            "127.0.0.1:4321, evil.example",
            "evil.example@127.0.0.1:4321",
            "[::]:4321",
            "[::ffff:127.0.0.1]:4321",
            "2130706433:4321",
        ];
        for host in others {
            for path in ["/", "/api/health"] {
                assert_eq!(decided("GET", path, &[("host", host), PERSON]), Err(Refusal::Host), "{host}");
            }
        }
        assert_eq!(decided("GET", "/", &[]), Err(Refusal::Host));
        assert_eq!(decided("GET", "/", &[HOST, HOST]), Err(Refusal::Host), "two of them");
        assert_eq!(decided("GET", "http://evil.example:4321/", &[HOST]), Err(Refusal::Host));
        assert_eq!(decided("GET", "http://127.0.0.1:4321/", &[HOST]), Ok(Caller::Anyone));
        assert!(is_our_host("localhost", 80) && is_our_host("127.0.0.1:80", 80) && !is_our_host("localhost", 81));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_knows() {
        let health =
            |headers: &[(&str, &str)]| decided("POST", "/api/tools/health", &[&[HOST, PERSON], headers].concat());
        assert_eq!(health(&[("origin", "http://127.0.0.1:4321")]), Ok(Caller::Person));
        let others = [
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:80",
            "https://127.0.0.1:4321",
            "http://localhost:4321",
            "http://evil.example",
            "http://127.0.0.1:4321.evil.example",
            "file://",
        ];
        for origin in others {
            assert_eq!(health(&[("origin", origin)]), Err(Refusal::Origin), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "x"] {
            assert_eq!(health(&[("sec-fetch-site", site)]), Err(Refusal::Site), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(health(&[("sec-fetch-site", site)]), Ok(Caller::Person), "{site}");
        }
        assert_eq!(decided("OPTIONS", "/api/tools/health", &[HOST, PERSON]), Err(Refusal::Preflight));
        assert_eq!(decided("OPTIONS", "/", &[HOST]), Err(Refusal::Preflight));
    }

    #[test]
    fn the_page_may_be_linked_from_elsewhere_and_not_be_fetched() {
        let (site, dest) = (("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document"));
        let (navigate, fetch) = (("sec-fetch-mode", "navigate"), ("sec-fetch-mode", "no-cors"));
        assert_eq!(decided("GET", "/", &[HOST, site, navigate, dest]), Ok(Caller::Anyone));
        assert_eq!(decided("GET", "/", &[HOST, site, fetch, dest]), Err(Refusal::Site));
        assert_eq!(decided("GET", "/", &[HOST, site, navigate, ("sec-fetch-dest", "iframe")]), Err(Refusal::Site));
        assert_eq!(decided("POST", "/", &[HOST, site, navigate, dest]), Err(Refusal::Site));
        assert_eq!(decided("GET", "/open/x", &[HOST, site, navigate, dest]), Err(Refusal::Site));
        assert_eq!(decided("GET", "/api/health", &[HOST, PERSON, site, navigate, dest]), Err(Refusal::Site));
    }

    #[test]
    fn a_browser_gets_the_script_of_a_service_worker_for_our_host_alone() {
        let worker = ("service-worker", "script");
        for path in ["/sw.js", "/", "/api/health"] {
            assert_eq!(decided("GET", path, &[HOST, worker]), Ok(Caller::Anyone), "{path}");
            assert_eq!(decided("GET", path, &[("host", "evil.example:4321"), worker]), Err(Refusal::Host));
            let origin = ("origin", "http://evil.example");
            assert_eq!(decided("GET", path, &[HOST, origin, worker]), Err(Refusal::Origin));
            assert_ne!(decided("POST", path, &[HOST, worker]), Ok(Caller::Anyone), "{path}");
        }
    }

    #[test]
    fn a_token_is_sent_as_bearer_and_in_no_other_way() {
        let health = |value: &str| decided("GET", "/api/health", &[HOST, ("authorization", value)]);
        assert_eq!(health("bearer person"), Ok(Caller::Person));
        for wrong in ["", "person", "Bearer", "Bearer ", "Basic person", "Bearer Person", "Bearer person,x", "Bearer x"]
        {
            assert_eq!(health(wrong), Err(Refusal::WrongToken), "{wrong}");
        }
        assert_eq!(decided("GET", "/api/health", &[HOST, PERSON, PERSON]), Err(Refusal::WrongToken));
        for other in ["/api/health?token=person", "/api/health?access_token=person"] {
            assert_eq!(decided("GET", other, &[HOST]), Err(Refusal::NoToken));
        }
        assert_eq!(decided("GET", "/api/health", &[HOST, ("cookie", "token=person")]), Err(Refusal::NoToken));
    }

    #[test]
    fn a_webhook_triggers_its_routine_and_does_nothing_else() {
        let sent = |method, path| decided(method, path, &[HOST, WEBHOOK]);
        assert_eq!(sent("POST", "/api/routines/news/trigger"), Ok(Caller::Webhook(webhook())));
        assert_eq!(sent("GET", "/"), Ok(Caller::Anyone));
        let others = [
            ("GET", "/api/routines/news/trigger"),
            ("POST", "/api/routines/other/trigger"),
            ("POST", "/api/routines/news/trigger/"),
            ("POST", "/api/routines/other/../news/trigger"),
            ("POST", "/api/routines/%6eews/trigger"),
            ("POST", "/api/tools/trigger_routine"),
            ("GET", "/api/health"),
            ("GET", "/api/events"),
            ("GET", "/metrics"),
        ];
        for (method, path) in others {
            assert_eq!(sent(method, path), Err(Refusal::OtherUse), "{method} {path}");
        }
    }

    proptest! {
        /// Whatever a request looks like: without a good token it gets the page at most, and only from our own host.
        #[test]
        fn without_a_token_the_page_is_all_there_is(
            method in "[A-Z]{1,8}",
            path in "/[a-z/.%0-9]{0,20}",
            headers in prop::collection::vec(("(host|origin|authorization|sec-fetch-site|cookie)", "[ -~]{0,30}"), 0..5),
            is_ours in any::<bool>(),
        ) {
            let mut request = Request::builder().method(method.as_str()).uri(path.as_str());
            for (name, value) in headers.iter().filter(|(name, _)| !is_ours || name != "host") {
                request = request.header(name, value);
            }
            if is_ours {
                request = request.header("host", HOST.1);
            }
            let Ok(request) = request.body(()) else { return Ok(()) };
            let head = request.into_parts().0;
            if let Ok(caller) = decide(&head, PORT, |_| Owner::Nobody) {
                prop_assert_eq!(caller, Caller::Anyone);
                prop_assert!(path == "/" || path.starts_with("/open/"));
                prop_assert!(is_ours, "no host of ours is made of random letters");
            }
        }
    }
}
