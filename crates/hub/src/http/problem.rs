//! Errors over HTTP: one shape for all of them, `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use wire::message::{Code, Refusal};

/// Why a request was not done.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    /// The same as the response's.
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// The status in words.
    title: &'static str,
    /// What is wrong and what to do.
    detail: String,
    /// For programs: the code that the other transports give.
    code: &'static str,
    #[serde(skip)]
    retry_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { status, title, detail: detail.into(), code, retry_ms: None }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            Code::BadId | Code::Version | Code::Protocol => StatusCode::BAD_REQUEST,
            Code::NotProven => StatusCode::UNAUTHORIZED,
            Code::NotInvited | Code::Revoked | Code::NotAllowed => StatusCode::FORBIDDEN,
            Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Code::TakenOver => StatusCode::CONFLICT,
            Code::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Code::Stopping | Code::Full => StatusCode::SERVICE_UNAVAILABLE,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Limit => StatusCode::PAYLOAD_TOO_LARGE,
            Code::HubFailed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { retry_ms: refusal.retry_ms, ..Self::new(status, refusal.code.as_str(), refusal.text) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            let schemes = HeaderValue::from_static("Basic realm=\"lockstep\", Bearer realm=\"lockstep\"");
            headers.insert(header::WWW_AUTHENTICATE, schemes);
        }
        if let Some(ms) = self.retry_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
