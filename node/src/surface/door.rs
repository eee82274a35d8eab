//! The guard of the local door: invariant I17.
//!
//! No request over TCP without the token, an allowed `Host` and an absent or allowed `Origin`
//! changes or reveals anything, not even on the loopback address: any web page can make its
//! visitor's browser send requests there, under a name of its own choosing (DNS rebinding). Hence
//! also: JSON only, since a browser sends no JSON across origins without asking first, and nobody
//! here answers that question. (A model is sent by PUT as `application/octet-stream`, of which the same
//! holds, and may be of any size.) `GET /healthz` alone needs no token; it says `ok`.
//!
//! Over the Unix socket the kernel has said who is calling before the first byte is read (`listen`);
//! what remains is to hold bodies to JSON and to their size.
//!
//! The attack: T25 and T26 of the threat list; Jackson et al., "Protecting Browsers from DNS
//! Rebinding Attacks", CCS 2007.

use super::problem::{BODY_BYTES_MAX, Refusal, too_large};
use crate::api::Problem;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Browsers tell with it where a request comes from; no page can forge it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which door a request came through.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// The Unix socket, whose caller the kernel has vouched for.
    Socket,
    /// The TCP listener.
    Tcp {
        /// The address it is bound to.
        bound: SocketAddr,
        /// BLAKE3 of the token that every request bears; compared in constant time.
        token: Arc<blake3::Hash>,
    },
}

impl Door {
    /// The door at `bound`, whose key is `token`.
    pub(crate) fn tcp(bound: SocketAddr, token: &str) -> Self {
        Self::Tcp {
            bound,
            token: Arc::new(blake3::hash(token.as_bytes())),
        }
    }
}

/// Lets a request through to the router, or answers 401, 403, 413 or 415.
pub(crate) async fn guard(State(door): State<Door>, request: Request, next: Next) -> Response {
    match admit(&door, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            tracing::warn!(code = problem.code, method = %request.method(), "request refused");
            Refusal(problem).into_response()
        }
    }
}

fn admit(door: &Door, request: &Request) -> Result<(), Problem> {
    if let Door::Tcp { bound, token } = door {
        check_host(*bound, request)?;
        check_origin(*bound, request.headers())?;
        let free = request.method() == Method::GET && request.uri().path() == "/healthz";
        if !free {
            check_token(token, request.headers())?;
        }
    }
    check_body(request)
}

fn check_host(bound: SocketAddr, request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(forbidden(
            "bad_host",
            "the request needs exactly one Host header",
        ));
    };
    // An absolute request target names a host too, and it is the one that RFC 9112 heeds.
    let target = request.uri().authority().map(Authority::as_str);
    let own = |name: &str| is_own(bound, name);
    if host.to_str().is_ok_and(own) && target.is_none_or(own) {
        return Ok(());
    }
    Err(forbidden(
        "bad_host",
        "the Host header does not name this door",
    ))
}

fn check_origin(bound: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
    let own = |value: &str| {
        value
            .strip_prefix("http://")
            .is_some_and(|host| is_own(bound, host))
    };
    let from_here = headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(own));
    let same_site = headers
        .get_all(&SEC_FETCH_SITE)
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    if from_here && same_site {
        return Ok(());
    }
    Err(forbidden(
        "bad_origin",
        "requests from web pages of other origins are refused",
    ))
}

/// Whether `name`, a host with its port, is this door and cannot be another's DNS name.
///
/// On the loopback address these are the three names of it. A door that was opened to the network
/// with `--insecure` is also reached by any literal address, which no DNS answer can rebind.
fn is_own(bound: SocketAddr, name: &str) -> bool {
    let port = bound.port();
    let loopback = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ];
    if loopback.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return true;
    }
    let literal = name.parse::<SocketAddr>();
    !bound.ip().is_loopback() && literal.is_ok_and(|at| at.port() == port && is_address(at.ip()))
}

/// `0.0.0.0` and `::` are spellings of the loopback that only an attacker uses in a request.
fn is_address(ip: IpAddr) -> bool {
    !ip.is_unspecified()
}

fn check_token(token: &blake3::Hash, headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let given = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        }),
        _ => None,
    };
    // `blake3::Hash` compares in constant time.
    if given.is_some_and(|given| blake3::hash(given.as_bytes()) == *token) {
        return Ok(());
    }
    Err(Problem::new(
        "unauthorized",
        5,
        "the request bears no valid token",
        "send `Authorization: Bearer TOKEN`; the token is in api.token in the node's home",
    ))
}

fn check_body(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if is_model(request) {
        return Ok(());
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if length
        .and_then(|length| length.parse::<usize>().ok())
        .unwrap_or(0)
        > BODY_BYTES_MAX
    {
        return Err(too_large());
    }
    let method = request.method();
    let bears = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let fine = match (types.next(), types.next()) {
        (None, _) => !bears,
        (Some(one), None) => one.to_str().is_ok_and(is_json),
        (Some(_), Some(_)) => false,
    };
    if fine {
        return Ok(());
    }
    let message = "the body must be JSON";
    Err(Problem::new(
        "not_json",
        2,
        message,
        "send `Content-Type: application/json`",
    ))
}

/// Whether it brings a model: bytes of any number, which are written as they arrive. A browser does
/// not send that kind across origins without asking first either, nor does it a PUT.
fn is_model(request: &Request) -> bool {
    let mut kinds = request.headers().get_all(CONTENT_TYPE).iter();
    let kind = (kinds.next(), kinds.next());
    request.method() == Method::PUT
        && request.uri().path().starts_with("/v1/models/")
        && matches!(kind, (Some(one), None) if one == "application/octet-stream")
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn forbidden(code: &str, message: &str) -> Problem {
    Problem::new(
        code,
        5,
        message,
        "only programs on this machine may ask, by its loopback name",
    )
}

#[cfg(test)]
mod matrix;
