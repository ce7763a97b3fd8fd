//! HTTP to one etcd member: requests with deadlines, size-limited responses. Never chooses a member, never retries.

use std::time::{Duration, SystemTime};

use base64::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use crate::error::{StoreError, chain};
use crate::model::StoreSettings;
use crate::tls;

/// Deadline for connecting.
const CONNECT: Duration = Duration::from_secs(2);
/// Deadline for the response head. etcd sends the head of a long poll at once.
const HEAD: Duration = Duration::from_secs(5);
/// Deadline between two pieces of a body.
const PIECE: Duration = Duration::from_secs(5);
/// Deadline for a whole body, however steadily it trickles in.
const WHOLE: Duration = Duration::from_secs(60);
/// The kernel gives up on unacknowledged bytes after this time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);
/// The maximum size of a list: half a million keys, far beyond what etcd v2 is used for.
const LIST: usize = 128 << 20;
/// The maximum size of any other answer: a value of 1.5 MiB (etcd's limit), escaped, and the value before it.
const ONE: usize = 32 << 20;

/// A client for all members.
#[derive(Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) endpoint: String,
    pub(super) status: StatusCode,
    pub(super) about: About,
    pub(super) body: Vec<u8>,
}

/// The store's state from the response headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// `X-Etcd-Index`.
    pub(super) index: Option<u64>,
    /// `X-Etcd-Cluster-Id`.
    pub(super) cluster: Option<Box<str>>,
}

/// The reason that there is no response.
#[derive(Debug)]
pub(super) enum Fault {
    /// The request was not sent, so even a write may go to another member.
    Unsent(StoreError),
    /// The request may have been sent.
    Unknown(StoreError),
}

/// The bounds of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Deadline for the head.
    head: Duration,
    /// Maximum size of the body.
    size: usize,
}

impl Bounds {
    /// For an answer about one key, or none.
    pub(super) fn one() -> Self {
        Self { head: HEAD, size: ONE }
    }

    /// For a list of keys.
    pub(super) fn list() -> Self {
        Self { head: HEAD, size: LIST }
    }

    /// The same, with an earlier deadline for the head.
    pub(super) fn within(self, head: Duration) -> Self {
        Self { head: head.min(HEAD), ..self }
    }
}

/// An open long poll: its head comes at once and tells the store's state, its body comes with the event.
pub(super) struct Poll {
    pub(super) about: About,
    endpoint: String,
    response: Response<Incoming>,
}

impl Poll {
    /// Waits for the event, without a deadline.
    pub(super) async fn answer(self) -> Result<Answer, Fault> {
        let Self { about, endpoint, response } = self;
        let status = response.status();
        let body = read(response, None, ONE).await.map_err(|why| unknown(&endpoint, &why))?;
        Ok(Answer { endpoint, status, about, body })
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsent(error) | Fault::Unknown(error) => error,
        }
    }
}

impl Http {
    pub(super) fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(Duration::from_secs(4)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(2)));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(settings)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2).build(connector);
        Ok(Self { client, authorization: authorization(settings)? })
    }

    /// Sends a request and reads the whole response.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        form: Option<&str>,
        bounds: Bounds,
    ) -> Result<Answer, Fault> {
        let response = self.send(method, url, form, bounds.head).await?;
        let (status, about) = (response.status(), About::of(response.headers()));
        let read = timeout(WHOLE, read(response, Some(PIECE), bounds.size)).await;
        let body = read.unwrap_or_else(|_| Err("the response does not end".to_owned()));
        Ok(Answer { endpoint: endpoint_of(url), status, about, body: body.map_err(|why| unknown(url, &why))? })
    }

    /// The time of a member's clock, as its answer to `/version` says (RFC 9110 §6.6.1): in whole seconds.
    pub(super) async fn clock(&self, endpoint: &str, within: Duration) -> Option<SystemTime> {
        let response = self.send(Method::GET, &format!("{endpoint}/version"), None, within).await.ok()?;
        httpdate::parse_http_date(response.headers().get(DATE)?.to_str().ok()?).ok()
    }

    /// A long poll: the head has a deadline, the body has none.
    pub(super) async fn poll(&self, url: &str) -> Result<Poll, Fault> {
        let response = self.send(Method::GET, url, None, HEAD).await?;
        Ok(Poll { about: About::of(response.headers()), endpoint: endpoint_of(url), response })
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        form: Option<&str>,
        within: Duration,
    ) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = Full::new(Bytes::from(form.unwrap_or_default().to_owned()));
        let request = request.body(body).map_err(|error| {
            Fault::Unsent(StoreError::BadSettings { what: format!("--store: {url} is not a URL: {error}") })
        })?;
        match timeout(within, self.client.request(request)).await {
            Err(_) => Err(unknown(url, "no answer in time")),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(Fault::Unsent(unreachable(url, &chain(&error)))),
            Ok(Err(error)) => Err(unknown(url, &chain(&error))),
        }
    }
}

impl About {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            index: text("x-etcd-index").and_then(|value| value.parse().ok()),
            cluster: text("x-etcd-cluster-id").map(Box::from),
        }
    }
}

async fn read(response: Response<Incoming>, piece: Option<Duration>, most: usize) -> Result<Vec<u8>, String> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    loop {
        let next = match piece {
            Some(limit) => timeout(limit, body.frame()).await.map_err(|_| "the response stopped halfway")?,
            None => body.frame().await,
        };
        match next {
            None => return Ok(bytes),
            Some(Err(error)) => return Err(chain(&error)),
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
        }
        if bytes.len() > most {
            return Err(format!("the response is larger than {} MiB", most >> 20));
        }
    }
}

fn authorization(settings: &StoreSettings) -> Result<Option<HeaderValue>, StoreError> {
    let Some((user, password)) = &settings.user else {
        return Ok(None);
    };
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {token}"))
        .map_err(|error| StoreError::BadSettings { what: format!("--etcd-user: {error}") })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn unknown(url: &str, why: &str) -> Fault {
    Fault::Unknown(unreachable(url, why))
}

fn unreachable(url: &str, why: &str) -> StoreError {
    StoreError::Unreachable { endpoint: endpoint_of(url), why: why.to_owned() }
}

/// The endpoint at the start of a request's URL.
pub(super) fn endpoint_of(url: &str) -> String {
    url.split("/v2/").next().unwrap_or(url).to_owned()
}
