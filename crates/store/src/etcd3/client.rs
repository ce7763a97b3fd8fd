//! A connected, authenticated client of one endpoint: typed calls, and errors that name the party at fault. Renews its
//! token; never retries for any other reason.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{
    AuthenticateRequest, KEEP_ALIVE, KeepAliveRequest, KeepAliveResponse, Method, StatusRequest, StatusResponse, WATCH,
    WatchCreate, WatchRequest, WatchResponse,
};
use super::transport::{Endpoint, Transport};
use crate::error::{StoreError, chain};

/// Deadline for the first calls on a new connection, so that a frozen endpoint is left soon.
const HELLO: Duration = Duration::from_secs(3);
/// Deadline for any other call, including a page of a thousand keys.
const CALL: Duration = Duration::from_secs(10);
/// A server that answered this recently is not checked before the next call.
const FRESH: Duration = Duration::from_secs(1);
/// Deadline for that check.
const CHECK: Duration = Duration::from_secs(1);
/// Maximum response size: a page of 1,000 keys, or one event. Each may be 1.5 MiB by etcd's default but hardly ever is.
const LARGEST_ANSWER: usize = 256 << 20;

/// A client on one connection.
pub(super) struct Client {
    endpoint: String,
    /// The endpoint's number among those of the cluster.
    member: usize,
    grpc: Grpc<Transport>,
    transport: Transport,
    user: Option<(String, String)>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    version: String,
    /// When the server last answered a call.
    answered: Mutex<Instant>,
}

impl Client {
    /// Connects to this member, authenticates, and checks that it speaks this API and has a leader.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        member: usize,
        user: Option<(String, String)>,
    ) -> Result<Self, StoreError> {
        let transport = endpoint.dial().await?;
        let grpc = Grpc::with_origin(transport.clone(), endpoint.origin().clone());
        let mut client = Self {
            endpoint: endpoint.url(),
            member,
            grpc: grpc.max_decoding_message_size(LARGEST_ANSWER),
            transport,
            user,
            token: Mutex::new(None),
            version: String::new(),
            answered: Mutex::new(Instant::now()),
        };
        client.version = client.greet().await?;
        client.authenticate().await?;
        Ok(client)
    }

    /// URL of the endpoint.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The endpoint's number among those of the cluster.
    pub(super) fn member(&self) -> usize {
        self.member
    }

    /// The server's version, or `unknown` if it does not report one.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.transport.is_closed()
    }

    /// Whether the server answered a moment ago, or answers now and has a leader. Does not look for another server.
    pub(super) async fn is_well(&self) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return false;
        }
        answered.elapsed() < FRESH || timeout(CHECK, self.greet()).await.is_ok_and(|greeted| greeted.is_ok())
    }

    /// Calls a method; gets a new token if the old one is no longer valid.
    pub(super) async fn call<M: Method + Clone>(&self, message: M) -> Result<M::Reply, StoreError> {
        self.call_within(message, CALL).await
    }

    /// The same with this deadline.
    pub(super) async fn call_within<M: Method + Clone>(
        &self,
        message: M,
        within: Duration,
    ) -> Result<M::Reply, StoreError> {
        self.signed(|| self.attempt(message.clone(), within.min(CALL))).await
    }

    /// Renews a lease. Returns its remaining seconds; 0 if no lease has this id.
    pub(super) async fn keep_alive(&self, id: i64, within: Duration) -> Result<i64, StoreError> {
        let renew = || async { timeout(within, self.keep_alive_once(id)).await.unwrap_or_else(|_| Err(late(within))) };
        Ok(self.signed(renew).await?.ttl)
    }

    /// One request on its own stream: a long-lived stream could break unnoticed.
    async fn keep_alive_once(&self, id: i64) -> Result<KeepAliveResponse, Status> {
        let mut request = Request::new(stream::iter([KeepAliveRequest { id }]));
        self.sign(request.metadata_mut());
        let path = PathAndQuery::from_static(KEEP_ALIVE);
        let answer = self.ready().await?.streaming(request, path, ProstCodec::default()).await?;
        let answer = answer.into_inner().message().await?;
        answer.ok_or_else(|| Status::unavailable("it did not renew the lease"))
    }

    /// Runs `call`, and once more with a new token if the old one is no longer valid.
    async fn signed<T, F: Future<Output = Result<T, Status>>>(&self, call: impl Fn() -> F) -> Result<T, StoreError> {
        match call().await {
            Err(status) if self.user.is_some() && token_is_stale(&status) => {
                self.authenticate().await?;
                call().await.map_err(|status| self.fault(&status))
            }
            other => other.map_err(|status| self.fault(&status)),
        }
    }

    /// Opens a watch and waits for its first response.
    pub(super) async fn watch(&self, create: WatchCreate) -> Result<(WatchResponse, Watch), StoreError> {
        let open = async {
            let mut watch = self.open(create).await.map_err(|status| self.fault(&status))?;
            Ok((self.next(&mut watch).await?, watch))
        };
        timeout(CALL, open).await.unwrap_or_else(|_| Err(self.fault(&late(CALL))))
    }

    async fn open(&self, create: WatchCreate) -> Result<Watch, Status> {
        // Ending the request stream asks etcd to end the watch, so the stream must end exactly when the watch is
        // dropped. A request stream without end would keep the watch and the connection open forever, with etcd sending
        // and nobody reading.
        let (open, closed) = oneshot::channel::<Infallible>();
        let requests = stream::iter([WatchRequest { create: Some(create) }]).chain(stream::pending());
        let mut request = Request::new(requests.take_until(closed));
        self.sign(request.metadata_mut());
        let path = PathAndQuery::from_static(WATCH);
        let answer = self.ready().await?.streaming(request, path, ProstCodec::default()).await?;
        Ok(Watch { responses: answer.into_inner(), _open: open })
    }

    /// The next response of a watch.
    pub(super) async fn next(&self, watch: &mut Watch) -> Result<WatchResponse, StoreError> {
        let response = watch.responses.message().await.map_err(|status| self.fault(&status))?;
        response.ok_or_else(|| self.failed("it ended the watch".to_owned()))
    }

    /// An error of this endpoint that is neither a network error nor a refusal.
    pub(super) fn failed(&self, why: String) -> StoreError {
        StoreError::Failed { endpoint: self.endpoint.clone(), why }
    }

    /// A response of this endpoint that violates the protocol.
    pub(super) fn nonsense(&self, why: &str) -> StoreError {
        StoreError::BadAnswer { endpoint: self.endpoint.clone(), why: why.to_owned() }
    }

    /// What a member says of itself. Needs no token.
    pub(super) async fn status(endpoint: &Endpoint) -> Result<StatusResponse, StoreError> {
        let transport = endpoint.dial().await?;
        let client = Self {
            endpoint: endpoint.url(),
            member: 0,
            grpc: Grpc::with_origin(transport.clone(), endpoint.origin().clone()),
            transport,
            user: None,
            token: Mutex::new(None),
            version: String::new(),
            answered: Mutex::new(Instant::now()),
        };
        client.attempt(StatusRequest {}, HELLO).await.map_err(|status| match status.code() {
            Code::Unimplemented => client.not_supported(&status),
            _ => client.fault(&status),
        })
    }

    async fn greet(&self) -> Result<String, StoreError> {
        match self.attempt(StatusRequest {}, HELLO).await {
            Ok(StatusResponse { leader: 0, .. }) => Err(self.failed("its cluster has no leader".to_owned())),
            Ok(StatusResponse { version, .. }) => Ok(version),
            Err(status) if speaks_grpc(&status) => match status.code() {
                Code::Unimplemented => Err(self.not_supported(&status)),
                Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => Ok("unknown".to_owned()),
                _ => Err(self.fault(&status)),
            },
            Err(status) if cause::<h2::Error>(&status).is_some_and(|error| error.reason().is_some()) => {
                Err(self.not_supported(&status))
            }
            Err(status) if cause::<hyper::Error>(&status).is_some() => Err(self.hung_up(&status)),
            Err(status) => Err(self.fault(&status)),
        }
    }

    /// Gets a token, if we have a user and the server requires authentication.
    async fn authenticate(&self) -> Result<(), StoreError> {
        let Some((name, password)) = self.user.clone() else {
            return Ok(());
        };
        // Without the old token: etcd rejects even this call if it carries a stale one.
        let token = match self.send(Request::new(AuthenticateRequest { name, password }), HELLO).await {
            Ok(reply) => Some(reply.token.parse().map_err(|_| self.nonsense("its token is not plain text"))?),
            Err(status) if status.message().contains("authentication is not enabled") => None,
            Err(status) if status.code() == Code::InvalidArgument => {
                return Err(self.refused(&status));
            }
            Err(status) => return Err(self.fault(&status)),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(())
    }

    async fn attempt<M: Method>(&self, message: M, within: Duration) -> Result<M::Reply, Status> {
        let mut request = Request::new(message);
        self.sign(request.metadata_mut());
        self.send(request, within).await
    }

    async fn send<M: Method>(&self, request: Request<M>, within: Duration) -> Result<M::Reply, Status> {
        let path = PathAndQuery::from_static(M::PATH);
        let call = async { self.ready().await?.unary(request, path, ProstCodec::default()).await };
        let reply = timeout(within, call).await.unwrap_or_else(|_| Err(late(within)))?;
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(reply.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<Transport>, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        Ok(grpc)
    }

    /// Adds our token, and the flag that makes etcd report a lost leader instead of waiting for one.
    fn sign(&self, metadata: &mut MetadataMap) {
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            metadata.insert("token", token.clone());
        }
    }

    /// Maps a failed call to the party at fault.
    fn fault(&self, status: &Status) -> StoreError {
        let endpoint = self.endpoint.clone();
        let why = said(status);
        match status.code() {
            Code::OutOfRange if why.contains("compacted") => StoreError::Compacted { endpoint },
            Code::NotFound if why.contains("lease not found") => StoreError::LeaseEnded { endpoint },
            Code::Unauthenticated | Code::PermissionDenied => StoreError::Refused { endpoint, why },
            Code::InvalidArgument if why.contains("user name is empty") => StoreError::Refused { endpoint, why },
            _ if speaks_grpc(status) => StoreError::Failed { endpoint, why },
            _ => StoreError::Unreachable { endpoint, why },
        }
    }

    fn refused(&self, status: &Status) -> StoreError {
        StoreError::Refused { endpoint: self.endpoint.clone(), why: said(status) }
    }

    /// A server's last message before closing, such as a TLS alert, is often lost in the reset; so suggest a cause.
    fn hung_up(&self, status: &Status) -> StoreError {
        let guess = match self.endpoint.starts_with("https:") {
            true => "does it require a client certificate (--etcd-cert, --etcd-key)?",
            false => "is this its client port, and without TLS (else use https://)?",
        };
        let why = format!("it closed the connection at once ({}); {guess}", said(status));
        StoreError::Unreachable { endpoint: self.endpoint.clone(), why }
    }

    fn not_supported(&self, status: &Status) -> StoreError {
        StoreError::NotSupported {
            endpoint: self.endpoint.clone(),
            api: "v3",
            why: said(status),
            hint: "try --etcd-api 2, another port, or https:// if etcd serves TLS",
        }
    }
}

/// An open watch.
pub(super) struct Watch {
    responses: Streaming<WatchResponse>,
    /// Ends the request stream when dropped.
    _open: oneshot::Sender<Infallible>,
}

/// A token ends with the server, with idleness (5 min for simple tokens) and with any change of users or roles.
fn token_is_stale(status: &Status) -> bool {
    const SIGNS: [&str; 3] = ["invalid auth token", "revision of auth store is old", "user name is empty"];
    status.code() == Code::Unauthenticated || SIGNS.iter().any(|sign| status.message().contains(sign))
}

/// Whether the status came from etcd itself; tonic's own status for a broken connection has a cause.
fn speaks_grpc(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
}

/// The error of type `E` among a status's causes.
fn cause<E: std::error::Error + 'static>(status: &Status) -> Option<&E> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn late(limit: Duration) -> Status {
    Status::from_error(format!("no answer within {limit:?}").into())
}

fn said(status: &Status) -> String {
    let said = status.message().trim_start_matches("etcdserver: ");
    match std::error::Error::source(status) {
        Some(cause) => chain(cause),
        None => said.to_owned(),
    }
}
