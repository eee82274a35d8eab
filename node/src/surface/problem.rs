//! A [`Problem`] as HTTP answers it: RFC 9457 `application/problem+json`.
//!
//! `type` is `urn:aquifer:problem:CODE`; `code`, `hint` and `exit` are extension members, so that
//! nothing of a [`Problem`] is lost on the way and a client can put it together again. The status
//! follows from the code where the code means one thing in HTTP, else from the exit code.

use crate::api::Problem;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest body of a request, in bytes: 4 MiB.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The body of an RFC 9457 answer.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProblemDetails {
    /// `urn:aquifer:problem:CODE`.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened.
    detail: String,
    /// A stable name; scripts may rely on it.
    code: String,
    /// What to do next; empty if there is nothing.
    hint: String,
    /// The exit code that the command line ends with.
    exit: u8,
}

/// A [`Problem`] on its way out of a handler.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = status_of(&problem);
        let details = ProblemDetails {
            kind: format!("urn:aquifer:problem:{}", problem.code),
            title: problem.code.replace('_', " "),
            status: status.as_u16(),
            detail: problem.message,
            code: problem.code,
            hint: problem.hint,
            exit: problem.exit,
        };
        let body = serde_json::to_vec(&details).expect("a struct of strings and numbers is JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn status_of(problem: &Problem) -> StatusCode {
    match problem.code.as_str() {
        "unauthorized" => return StatusCode::UNAUTHORIZED,
        "no_such_route" => return StatusCode::NOT_FOUND,
        "method_not_allowed" => return StatusCode::METHOD_NOT_ALLOWED,
        "not_json" => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "upgrade_required" => return StatusCode::UPGRADE_REQUIRED,
        "busy" => return StatusCode::TOO_MANY_REQUESTS,
        code if code.ends_with("too_large") || code == "oversize" => {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        _ => {}
    }
    match problem.exit {
        2 => StatusCode::BAD_REQUEST,
        3 => StatusCode::NOT_FOUND,
        4 | 7 => StatusCode::SERVICE_UNAVAILABLE,
        5 | 6 => StatusCode::FORBIDDEN,
        124 => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Puts the [`Problem`] together that a daemon answered with `body`; `status` when it is none.
pub(crate) fn problem_of(status: u16, body: &[u8]) -> Problem {
    match serde_json::from_slice::<ProblemDetails>(body) {
        Ok(details) => Problem {
            code: details.code,
            exit: details.exit,
            message: details.detail,
            hint: details.hint,
        },
        Err(_) => Problem::new(
            "daemon_answered_badly",
            1,
            format!("the daemon answered with HTTP status {status} and no problem"),
            "is this the socket of an aquifer of the same version?",
        ),
    }
}

/// The JSON body of a request, whose faults are [`Problem`]s that name the field.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|fault| match fault {
                BytesRejection::FailedToBufferBody(fault)
                    if fault.status() == StatusCode::PAYLOAD_TOO_LARGE =>
                {
                    too_large()
                }
                fault => Problem::new("bad_request", 2, fault.body_text(), ""),
            })?;
        // An absent body is the request with every field at its default.
        let text = if bytes.is_empty() {
            b"{}".as_slice()
        } else {
            bytes.as_ref()
        };
        serde_json::from_slice(text).map(Self).map_err(|fault| {
            let hint = "see /openapi.json for the fields of this request";
            Refusal(Problem::new(
                "bad_request",
                2,
                format!("the body: {fault}"),
                hint,
            ))
        })
    }
}

/// A body over [`BODY_BYTES_MAX`].
pub(crate) fn too_large() -> Problem {
    Problem::new(
        "body_too_large",
        2,
        format!("the body is over {BODY_BYTES_MAX} bytes"),
        "send fewer memories at once",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_survives_the_way_through_http() {
        for (code, exit, status) in [
            ("not_found", 3, 404),
            ("policy_refused", 6, 403),
            ("oversize", 2, 413),
            ("unauthorized", 5, 401),
            ("timeout", 124, 504),
            ("store_failed", 1, 500),
        ] {
            let sent = Problem::new(code, exit, "what happened", "what to do");
            let response = Refusal(sent.clone()).into_response();
            assert_eq!(response.status().as_u16(), status, "{code}");
            assert_eq!(
                response.headers()["content-type"],
                "application/problem+json"
            );
            let body = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX)
                .await
                .expect("a body in memory");
            assert_eq!(problem_of(status, &body), sent);
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_becomes_one_that_says_so() {
        assert_eq!(problem_of(502, b"<html>").code, "daemon_answered_badly");
    }
}
