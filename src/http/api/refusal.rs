//! Answers to requests that are refused or fail.

use std::fmt::Display;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why something was not done: a status, and words.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Body,
}

#[serde_with::skip_serializing_none]
#[derive(Debug, Serialize)]
struct Body {
    error: String,
    /// What to ask a person.
    question: Option<String>,
    /// What the repeated request sends as `Moadim-Agreement`.
    agreement: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Display) -> Self {
        Self { status, body: Body { error: error.to_string(), question: None, agreement: None } }
    }

    pub(super) fn not_found(error: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn method(error: impl Display) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error)
    }

    pub(super) fn forbidden(error: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    /// A person has to agree to what `question` says.
    pub(super) fn ask(question: String, agreement: String) -> Self {
        let error = "a person must agree first: ask them the question; if they say yes, repeat the request within 10 minutes with \
                     the header `Moadim-Agreement: AGREEMENT`";
        let refusal = Self::new(StatusCode::CONFLICT, error);
        Self { body: Body { question: Some(question), agreement: Some(agreement), ..refusal.body }, ..refusal }
    }

    /// The body is not JSON.
    pub(super) fn media_type(error: impl Display) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
    }

    /// The arguments do not fit, or the tool refuses.
    pub(super) fn of_tool(error: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(super) fn too_many() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too many calls are in progress; try again in a second")
    }

    pub(super) fn too_many_waits() -> Self {
        let error = "too many calls are waiting for runs; try again in a second, or look at the run with get_run";
        Self::new(StatusCode::TOO_MANY_REQUESTS, error)
    }

    pub(super) fn failed(error: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    pub(super) fn unavailable(error: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

#[cfg(test)]
impl Refusal {
    /// Returns its status and its body.
    pub(super) fn in_brief(self) -> (u16, serde_json::Value) {
        (self.status.as_u16(), serde_json::to_value(self.body).unwrap())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
