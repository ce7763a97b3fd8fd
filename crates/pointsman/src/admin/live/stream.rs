//! The messages of one page, as server-sent events. Collects nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::hub::{LiveHub, MOST_PAGES};
use crate::admin::seats::Seat;

/// When a page that was refused may try again, in seconds.
const LATER: &str = "15";

/// `/api/live`, for the page at this connection.
pub(in crate::admin) fn messages(hub: &LiveHub, seat: Arc<Seat>) -> Response {
    let Some(messages) = hub.join(&seat) else {
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
