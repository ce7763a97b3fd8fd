//! The answers that pages ask for: the stream of messages, the graphs' points, one service. Collects nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::MOST_PAGES;
use crate::admin::seats::Seat;
use crate::admin::view::{ServiceView, protocol_of};
use crate::admin::{Pages, not_read_yet};
use crate::control::epoch_millis;

/// When a page that was refused may try again, in seconds.
const LATER: &str = "15";

/// `/api/live`.
pub(in crate::admin) async fn live(State(pages): State<Pages>, Extension(seat): Extension<Arc<Seat>>) -> Response {
    let Some(messages) = pages.hub.join(&seat) else {
        let text = format!(
            "{MOST_PAGES} pages of this balancer are open, the most there may be; close one, or wait until one closes\n"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, LATER)], text).into_response();
    };
    seat.begin_stream();
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (head, Body::from_stream(PageMessages { messages, seat })).into_response()
}

/// The messages of one page. One that reads keeps its connection.
struct PageMessages {
    messages: mpsc::Receiver<Bytes>,
    seat: Arc<Seat>,
}

impl Stream for PageMessages {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = self.messages.poll_recv(context);
        if matches!(message, Poll::Ready(Some(_))) {
            self.seat.renew();
        }
        message.map(|message| message.map(Ok))
    }
}

impl Drop for PageMessages {
    fn drop(&mut self) {
        self.seat.end_stream();
    }
}

/// `/api/history`.
pub(in crate::admin) async fn history(State(pages): State<Pages>) -> Response {
    axum::Json(pages.hub.past.view()).into_response()
}

#[derive(Deserialize)]
pub(in crate::admin) struct AskedService {
    #[serde(default = "http")]
    protocol: String,
    name: String,
}

fn http() -> String {
    "http".to_owned()
}

/// `/api/service`.
#[derive(Serialize)]
struct OneService {
    /// Milliseconds since the epoch.
    at: u64,
    service: ServiceView,
}

/// `/api/service`: one service of `/api/table`.
pub(in crate::admin) async fn one_service(
    State(pages): State<Pages>,
    asked: Result<Query<AskedService>, QueryRejection>,
) -> Response {
    let Ok(Query(AskedService { protocol, name })) = asked else {
        let advice = "name the service: request /api/service?protocol=http&name=shop\n";
        return (StatusCode::BAD_REQUEST, advice).into_response();
    };
    let latest = pages.hub.latest();
    let fresh = if latest.is_none() { Some(pages.figures.snapshot().await) } else { None };
    let status = pages.status.borrow();
    let Some(table) = &status.table else { return not_read_yet() };
    let protocol = protocol_of(&protocol);
    let found = table.services().iter().find(|service| service.protocol == protocol && service.name.as_str() == name);
    let snapshot = latest.as_deref().map(|look| &look.snapshot).or(fresh.as_ref());
    match (found, snapshot) {
        (Some(service), Some(snapshot)) => {
            let view = ServiceView::of(service, table, snapshot, status.problems());
            axum::Json(OneService { at: epoch_millis(std::time::SystemTime::now()), service: view }).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "no such service; /api/table lists them\n").into_response(),
    }
}
