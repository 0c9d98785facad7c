//! A scripted registry over an image layout: correct unless the test's hook answers in its place.

use crate::http::{Request, Response, Server};
use crate::image::{Written, blob};
use serde_json::Value;

/// Serves `image` as every repository and tag; `hook` may answer any request otherwise.
pub fn serve(image: &Written, hook: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) -> Server {
    let image = image.clone();
    Server::start(move |request| hook(request).unwrap_or_else(|| honest(&image, request)))
}

/// What a registry without malice answers.
pub fn honest(image: &Written, request: &Request) -> Response {
    if request.target == "/v2/" {
        return Response::ok("application/json", "{}");
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let Some((rest, last)) = path.rsplit_once('/') else { return Response::status(404) };
    if rest.ends_with("/manifests") {
        let digest = if last.starts_with("sha256:") { last } else { image.manifest.as_str() };
        return document(image, digest);
    }
    if rest.ends_with("/blobs") && last.starts_with("sha256:") {
        return match std::fs::read(blob(&image.layout, last)) {
            Ok(bytes) => part(request, bytes),
            Err(_) => Response::status(404),
        };
    }
    Response::status(404)
}

fn document(image: &Written, digest: &str) -> Response {
    let Ok(bytes) = std::fs::read(blob(&image.layout, digest)) else {
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return Response::status(404).with("content-type", "application/json").body(unknown);
    };
    let parsed: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let media_type = parsed["mediaType"].as_str().unwrap_or(crate::image::MANIFEST).to_owned();
    Response::ok(&media_type, bytes).with("docker-content-digest", digest)
}

/// The bytes from `Range: bytes=N-` on, or all of them.
fn part(request: &Request, bytes: Vec<u8>) -> Response {
    let range = request.header("range").and_then(|text| text.strip_prefix("bytes="));
    let Some((from, until)) = range.and_then(|text| text.split_once('-')) else {
        return Response::ok("application/octet-stream", bytes);
    };
    let total = bytes.len();
    let from: usize = from.parse().unwrap_or(0);
    let until: usize = until.parse().map_or(total, |last: usize| (last + 1).min(total));
    if from >= until {
        return Response::status(416);
    }
    Response::status(206)
        .with("content-range", &format!("bytes {from}-{}/{total}", until - 1))
        .with("content-type", "application/octet-stream")
        .body(&bytes[from..until])
}
