//! One HTTP/2 connection to one endpoint. Never reconnects, knows no messages.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::error::{StoreError, chain};

/// Deadline for TCP and TLS together: the maximum cost of a dead endpoint.
const CONNECT: Duration = Duration::from_secs(2);
/// etcd treats pings less than 5 s apart as abuse (`--grpc-keepalive-min-time`) and closes the connection.
const PING_EVERY: Duration = Duration::from_secs(6);
/// With [`PING_EVERY`]: a silent peer is noticed within 9 s.
const PING_ANSWER: Duration = Duration::from_secs(3);

/// The address of etcd, and how to connect to it.
#[derive(Clone)]
pub(super) struct Endpoint {
    origin: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// From a URL. Calls `tls` for the TLS configuration only if the scheme is `https`.
    pub(super) fn new(
        url: &str,
        tls: impl FnOnce() -> Result<Arc<rustls::ClientConfig>, StoreError>,
    ) -> Result<Self, StoreError> {
        let bad = || StoreError::BadSettings {
            what: format!(
                "--store {url}: an etcd URL looks like http://10.0.0.1:2379 or https://etcd.example.org:2379"
            ),
        };
        let origin: Uri = url.parse().map_err(|_| bad())?;
        let host = origin.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let tls = match origin.scheme_str() {
            Some("http") => None,
            Some("https") => Some((tls()?.into(), ServerName::try_from(host.clone()).map_err(|_| bad())?)),
            _ => return Err(bad()),
        };
        Ok(Self { port: origin.port_u16().unwrap_or(2379), origin, host, tls })
    }

    /// The URL without a trailing slash.
    pub(super) fn url(&self) -> String {
        self.origin.to_string().trim_end_matches('/').to_owned()
    }

    /// The URL as the origin of requests.
    pub(super) fn origin(&self) -> &Uri {
        &self.origin
    }

    /// Opens a new connection.
    pub(super) async fn dial(&self) -> Result<Transport, StoreError> {
        match timeout(CONNECT, self.connect()).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(why)) => Err(self.unreachable(why)),
            Err(_) => Err(self.unreachable(format!("no answer within {CONNECT:?}"))),
        }
    }

    async fn connect(&self) -> Result<Transport, String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| chain(&error))?;
        tcp.set_nodelay(true).map_err(|error| chain(&error))?;
        match &self.tls {
            None => Transport::open(tcp).await,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                Transport::open(tls.map_err(|error| format!("TLS: {}", chain(&error)))?).await
            }
        }
    }

    fn unreachable(&self, why: String) -> StoreError {
        StoreError::Unreachable { endpoint: self.url(), why }
    }
}

/// A connection for concurrent requests.
#[derive(Clone)]
pub(super) struct Transport {
    requests: SendRequest<Body>,
    _driver: Arc<Driver>,
}

/// The task that drives the connection. Ends with the last user, even if the peer has stopped reading.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Transport {
    async fn open<I>(io: I) -> Result<Self, String>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| chain(&error))?;
        // Its error also ends every request and stream on it, so it is not reported here.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, _driver: Arc::new(Driver(driver.abort_handle())) })
    }

    /// Whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

impl Service<http::Request<Body>> for Transport {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, want: Option<(&str, u16)>| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = || {
                let builder = rustls::ClientConfig::builder_with_provider(provider);
                let builder = builder.with_safe_default_protocol_versions().expect("the provider's own versions");
                let roots = rustls::RootCertStore::empty();
                Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
            };
            let endpoint = Endpoint::new(url, tls).ok();
            let got = endpoint.as_ref().map(|endpoint| (endpoint.host.as_str(), endpoint.port));
            assert_eq!(got, want, "{url}");
        };
        check("http://127.0.0.1:2379", Some(("127.0.0.1", 2379)));
        check("http://[::1]:4001/", Some(("::1", 4001)));
        check("http://etcd", Some(("etcd", 2379)));
        check("https://etcd.example.org:2379", Some(("etcd.example.org", 2379)));
        check("ftp://etcd:2379", None);
        check("etcd:2379", None);
        check("http:///x", None);
    }
}
