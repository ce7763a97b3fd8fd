//! HTTPS to the authority: requests with a deadline, answers with a limit, and the last `Retry-After`. Never tries again.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

/// How long a request may take, with its answer.
const WITHIN: Duration = Duration::from_secs(20);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is read, bytes. A chain of certificates has a few thousand.
const LONGEST_ANSWER: usize = 256 * 1024;

/// The longest time that an authority may want us to wait, seconds.
const LONGEST_WAIT: i64 = 7 * 24 * 3600;
/// How long it may have us wait between two questions when to renew (RFC 9773 §4.3.2), and what counts if it does not say,
/// seconds.
const CONSULTED: (i64, i64) = (60, 24 * 3600);
const CONSULTED_USUALLY: i64 = 6 * 3600;

/// What the authority said last about when to come again, seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct ComeAgain(Arc<Mutex<Option<i64>>>);

impl ComeAgain {
    /// Takes it, so that it holds for one failure.
    pub(super) fn take(&self) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, seconds: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seconds;
    }
}

/// Connections to one authority.
#[derive(Clone)]
pub(super) struct AuthorityClient {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    come_again: ComeAgain,
}

impl AuthorityClient {
    /// `ca`: who vouches for the authority's own certificate besides the system's authorities.
    ///
    /// # Errors
    /// The file cannot be read, or there is no authority at all.
    pub(super) fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let roots = roots(ca)?;
        if roots.is_empty() {
            bail!("this system has no certificate authorities; set --acme-ca FILE to that of the ACME server");
        }
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls(roots)?);
        let connector = tls.https_only().enable_http1().wrap_connector(tcp());
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, come_again: ComeAgain::default() })
    }

    /// What the authority says about when to come again.
    pub(super) fn come_again(&self) -> ComeAgain {
        self.come_again.clone()
    }
}

/// The authorities of this machine, and those of the file.
fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let wrong = || format!("--acme-ca {}: expected certificates of authorities in PEM form", path.display());
        let certificates: Vec<_> =
            CertificateDer::pem_file_iter(path).with_context(wrong)?.collect::<Result<_, _>>().with_context(wrong)?;
        if certificates.is_empty() {
            bail!(wrong());
        }
        certificates.into_iter().try_for_each(|certificate| roots.add(certificate)).with_context(wrong)?;
    }
    Ok(roots)
}

fn tls(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp
}

/// Connections to the operator's own server, over HTTP or HTTPS.
pub(super) type PlainClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Makes such connections. `ca`: who vouches for the server besides the system's authorities.
///
/// # Errors
/// The file cannot be read.
pub(super) fn plain_client(ca: Option<&Path>) -> anyhow::Result<PlainClient> {
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls(roots(ca)?)?);
    let connector = tls.https_or_http().enable_http1().wrap_connector(tcp());
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        // Only the directory and the time to renew are asked for in this way.
        let is_get = request.method() == Method::GET;
        let (asked, come_again) = (self.client.request(request), self.come_again.clone());
        Box::pin(async move {
            let answer = async {
                let response = asked.await.map_err(other)?;
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(Error::Other)?.to_bytes();
                Ok::<_, Error>(Response::from_parts(parts, Full::new(body)))
            };
            let mut response = timeout(WITHIN, answer)
                .await
                .map_err(|_| Error::Other(format!("no answer within {} s", WITHIN.as_secs()).into()))??;
            let is_crowded = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
            if is_crowded.contains(&response.status()) {
                come_again.note(retry_after(&response));
            }
            if is_get {
                // The library takes any number, and wants one.
                let wait = retry_after(&response).unwrap_or(CONSULTED_USUALLY).clamp(CONSULTED.0, CONSULTED.1);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
            }
            Ok(BytesResponse::from(response))
        })
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

/// In seconds, or until a date (RFC 9110 §10.2.3).
fn retry_after<B>(response: &Response<B>) -> Option<i64> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let date = || httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok();
    let seconds = value.parse().ok().or_else(|| date()?.as_secs().try_into().ok()).filter(|seconds| *seconds >= 0);
    seconds.map(|seconds: i64| seconds.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_authority_has_us_wait_for_ever() {
        for (value, expected) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("1000000000000", Some(LONGEST_WAIT)),
            ("9223372036854775808", None),
            ("-1", None),
            ("soon", None),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
            ("Tue, 31 Dec 2999 23:59:59 GMT", Some(LONGEST_WAIT)),
        ] {
            let response = Response::builder().header(RETRY_AFTER, value).body(()).unwrap();
            assert_eq!(retry_after(&response), expected, "{value}");
        }
    }
}
