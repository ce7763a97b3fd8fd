//! Where spans are sent, and one request there. Never tries again.

use std::error::Error;
use std::fmt::{Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::otlp;

/// The path of spans (OTLP 1.x, OTLP/HTTP request).
const PATH: &str = "/v1/traces";
/// How long a request may take, with its answer.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is read, bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The URL that spans are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpUrl(Uri);

impl OtlpUrl {
    /// Parses a collector's URL, to which `/v1/traces` is added.
    ///
    /// # Errors
    /// It is no URL of http or https, or has a user, a query or a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a URL of a collector; write one such as http://127.0.0.1:4318");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let is_known =
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
        if !is_known || uri.query().is_some() || text.contains('#') {
            return Err(wrong());
        }
        if authority.contains('@') {
            return Err("a collector's URL holds no user; give the header Authorization with --otlp-header".to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix(PATH).unwrap_or(path);
        let scheme = uri.scheme_str().unwrap_or_default();
        format!("{scheme}://{authority}{path}{PATH}").parse().map(Self).map_err(|_| wrong())
    }
}

impl Display for OtlpUrl {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// Parses a header for a collector, `NAME=VALUE`.
///
/// # Errors
/// It is no header, or one that only we may write.
pub fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    // Its value may be a secret.
    let wrong = |what: &str| format!("{what}; write NAME=VALUE, such as X-Api-Key=SECRET");
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("a header without ="))?;
    let parsed = HeaderName::from_bytes(name.trim().as_bytes());
    let name = parsed.map_err(|_| wrong(&format!("{name:?} is not the name of a header")))?;
    if ["host", "content-type", "content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
        return Err(format!("the header {name} is not yours to set"));
    }
    let mut value =
        HeaderValue::from_str(value.trim()).map_err(|_| wrong(&format!("{name} has a value that is none")))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// What a collector made of spans.
#[derive(Debug)]
pub(super) enum Posted {
    /// It took them, except for so many, for this reason.
    Taken(Option<(usize, String)>),
    /// It may take them later, in so many seconds if it said so.
    Later(String, Option<Duration>),
    /// It will not take them.
    Refused(String),
}

/// A collector.
pub(super) struct Collector {
    pub(super) url: OtlpUrl,
    headers: HeaderMap,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Collector {
    /// # Errors
    /// The URL is one of https, and this machine has no authorities.
    pub(super) fn new(url: OtlpUrl, headers: &[(HeaderName, HeaderValue)]) -> anyhow::Result<Self> {
        let mut all: HeaderMap = headers.iter().cloned().collect();
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        all.insert(USER_AGENT, HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION"))));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let is_secure = url.0.scheme_str() == Some("https");
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(is_secure).with_context(|| format!("--otlp {url}"))?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
        Ok(Self { url, headers: all, client })
    }

    /// Sends the body of a request once.
    pub(super) async fn post(&self, body: Bytes) -> Posted {
        timeout(WITHIN, self.ask(body))
            .await
            .unwrap_or_else(|_| Posted::Later(format!("no answer within {} s", WITHIN.as_secs()), None))
    }

    async fn ask(&self, body: Bytes) -> Posted {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.0.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Posted::Later(chain(&error), None),
        };
        let (status, after) = (response.status().as_u16(), retry_after(response.headers()));
        let answer = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        match status {
            200..300 => Posted::Taken(answer.ok().and_then(|answer| otlp::rejected(&answer.to_bytes()))),
            429 | 502 | 503 | 504 => Posted::Later(format!("it answered {status}"), after),
            _ => Posted::Refused(format!("it answered {status}")),
        }
    }
}

/// How long a collector asks to be left alone, if it says so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// TLS with the machine's authorities; of those, a URL without TLS needs none.
fn tls(is_secure: bool) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if is_secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!("this system has no certificate authorities");
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// An error with what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, expected: Result<&str, &str>| match (OtlpUrl::parse(text), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.to_string(), expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        };
        check("http://127.0.0.1:4318", Ok("http://127.0.0.1:4318/v1/traces"));
        check("https://otel.test/", Ok("https://otel.test/v1/traces"));
        check("http://[::1]:4318/api/otlp/", Ok("http://[::1]:4318/api/otlp/v1/traces"));
        check("http://c.test/v1/traces", Ok("http://c.test/v1/traces"));
        for bad in
            ["", "c.test:4318", "ftp://c.test", "http://", "http://c.test/?a", "http://c.test/#a", "grpc://c.test:4317"]
        {
            check(bad, Err("is not a URL of a collector"));
        }
        check("http://me:secret@c.test", Err("--otlp-header"));
    }

    #[test]
    fn headers() {
        let (name, value) = parse_header("Authorization=Basic YTpi==").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Basic YTpi=="));
        assert!(!format!("{value:?}").contains("Basic"));
        for (bad, expected) in [
            ("Authorization", "without ="),
            ("a b=c", "is not the name"),
            ("Host=a", "not yours"),
            ("x-key=a\nb", "x-key has a value"),
        ] {
            let error = parse_header(bad).unwrap_err();
            assert!(error.contains(expected), "{bad:?}: {error}");
        }
    }
}
