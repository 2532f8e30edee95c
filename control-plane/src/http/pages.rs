//! Pages for people: the rendered API reference, the reasons explained, and the page behind a credentials link.
//!
//! Each is one file of our own without anything from elsewhere, under a policy that allows exactly its own script.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use nemordp_types::{Failure, Reason};
use sha2::{Digest as _, Sha256};

use super::Api;
use super::error::{HttpError, PROBLEMS, status, title};

const DOCS: &str = include_str!("pages/docs.html");
const CREDENTIALS: &str = include_str!("pages/credentials.html");

/// `GET /docs`
pub(super) async fn docs() -> Response {
    page(DOCS.to_owned(), DOCS)
}

/// `GET /c`: reveals nothing; the token never reaches the server before the button is pressed.
pub(super) async fn credentials() -> Response {
    let mut response = page(CREDENTIALS.to_owned(), CREDENTIALS);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `GET /openapi.json`
pub(super) async fn openapi(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi.clone()).into_response()
}

/// `GET /problems`: every reason in a table.
pub(super) async fn problems() -> Response {
    let mut body = String::from("<h1>Reasons</h1><table><tr><th>reason<th>status<th>meaning</tr>");
    for reason in Reason::ALL.iter().copied() {
        body.push_str(&row(reason));
    }
    body.push_str("</table>");
    plain("Reasons", &body)
}

/// `GET /problems/{reason}`: where a problem's `type` leads.
pub(super) async fn problem(Path(word): Path<String>) -> Result<Response, HttpError> {
    let reason = Reason::from_word(&word)
        .ok_or_else(|| Failure::new(Reason::NotFound, "there is no such reason: see /problems"))?;
    let body = format!("<h1>{word}</h1><table>{}</table><p><a href=\"/problems\">all reasons</a>", row(reason));
    Ok(plain(reason.word(), &body))
}

fn row(reason: Reason) -> String {
    let (word, status, title) = (reason.word(), status(reason).as_u16(), title(reason));
    format!("<tr><td><a href=\"{PROBLEMS}{word}\">{word}</a><td>{status}<td>{title}</tr>")
}

fn plain(name: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title><style>{STYLE}</style><body>{body}"
    );
    page(html, "")
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
                     td,th{text-align:left;padding:.2rem 1rem .2rem 0}";

/// A page under a policy that allows the inline scripts of `scripted`, by their hash, and requests to ourselves.
fn page(html: String, scripted: &str) -> Response {
    let hashes: Vec<String> = scripted
        .split("<script>")
        .skip(1)
        .filter_map(|rest| rest.split("</script>").next())
        .map(|script| {
            let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script.as_bytes()));
            format!("'sha256-{hash}'")
        })
        .collect();
    let scripts = if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") };
    let policy = format!(
        "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = Html(html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
