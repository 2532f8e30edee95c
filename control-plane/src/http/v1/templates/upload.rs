//! `PUT /v1/templates/{template}/file`

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use nemordp_api::TemplateFile;
use nemordp_types::{Bytes, Failure, TemplateDigest};

use crate::app::Upload;
use crate::http::Api;
use crate::http::auth::{Caller, Operate};
use crate::http::describe::UploadErrors;
use crate::http::error::HttpError;
use crate::http::request::Named;

/// Uploads a template's file under its digest, streamed to disk and verified; the same file again is no error. Register
/// it afterwards with `POST /v1/templates`.
#[utoipa::path(
    put, path = "/v1/templates/{template}/file", operation_id = "template_upload", tag = "catalogue",
    security(("api_key" = ["operate"])),
    params(
        ("template" = String, Path, description = "Digest of the file: `sha256:` and 64 hex digits"),
        ("Content-Length" = u64, Header, description = "Length of the file"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file is here, whole", body = TemplateFile), UploadErrors),
)]
pub(in crate::http) async fn upload(
    State(api): State<Api>,
    _caller: Caller<Operate>,
    Named(digest): Named<TemplateDigest>,
    request: Request,
) -> Result<Json<TemplateFile>, HttpError> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let size = length.map(Bytes).ok_or_else(|| Failure::field("Content-Length", "announce the file's length"))?;
    api.app.template_upload(Upload { digest, size }, request.into_body().into_data_stream()).await?;
    Ok(Json(TemplateFile { digest, file_size_bytes: size }))
}
