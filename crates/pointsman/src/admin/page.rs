//! The page for people: a few files in the program, and what browsers may do with them. Shows what `/api` answers; has no
//! figures of its own. `page/vendor` holds preact with htm, and uPlot, as they were published, with their licences.

use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Only our own files, nothing in line, and nobody may put the page into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const DOCUMENT: &[u8] = include_bytes!("page/index.html");

/// The files below `/page/`: name, type and content.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("app.js", SCRIPT, include_bytes!("page/app.js")),
    ("charts.js", SCRIPT, include_bytes!("page/charts.js")),
    ("format.js", SCRIPT, include_bytes!("page/format.js")),
    ("list.js", SCRIPT, include_bytes!("page/list.js")),
    ("live.js", SCRIPT, include_bytes!("page/live.js")),
    ("parts.js", SCRIPT, include_bytes!("page/parts.js")),
    ("service.js", SCRIPT, include_bytes!("page/service.js")),
    ("style.css", STYLE, include_bytes!("page/style.css")),
    ("icon.svg", PICTURE, include_bytes!("page/icon.svg")),
    ("htm-preact.js", SCRIPT, include_bytes!("page/vendor/htm-preact.js")),
    ("uplot.js", SCRIPT, include_bytes!("page/vendor/uplot.js")),
    ("uplot.css", STYLE, include_bytes!("page/vendor/uplot.css")),
];

/// The document that loads the rest.
pub(super) fn document() -> Response {
    answer(HTML, DOCUMENT)
}

/// `/page/NAME`.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(own, ..)| *own == name) {
        Some((_, kind, content)) => answer(kind, content),
        None => (StatusCode::NOT_FOUND, "no such page; / lists them\n").into_response(),
    }
}

fn answer(kind: &'static str, content: &'static [u8]) -> Response {
    let head = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (head, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of the whole page.
    const MOST_BYTES: usize = 150_000;

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|(_, _, content)| content.len()).sum();
        let bytes = bytes + DOCUMENT.len();
        assert!(bytes < MOST_BYTES, "{bytes}");
    }

    #[test]
    fn every_file_is_used_and_none_is_missing() {
        let text = |content: &[u8]| String::from_utf8(content.to_vec()).unwrap();
        let all: String = ASSETS.iter().map(|(_, _, content)| text(content)).chain([text(DOCUMENT)]).collect();
        for (name, ..) in ASSETS {
            assert!(all.contains(&format!("/page/{name}\"")), "{name} is loaded by nothing");
        }
        let named = all.split("\"/page/").skip(1).filter_map(|rest| rest.split('"').next());
        let missing: Vec<_> = named.filter(|name| !ASSETS.iter().any(|(own, ..)| own == name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
