//! Follows a balancer: its messages, and one service that is looked at. Never gives up, and says why nothing comes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::super::ask::{Answer, ask, encoded, page, reachable};
use super::message::{HistoryTold, LiveMessage, PointTold, ServiceTold};

/// Time limit to connect, and for the head of the answer.
const CONNECT: Duration = Duration::from_secs(3);
/// A balancer sends a message each second: one that is silent for so long is away.
const SILENT: Duration = Duration::from_secs(6);
/// The shortest wait before the next try, doubled up to the longest.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);
/// When to try again where too many pages are open.
const FULL: Duration = Duration::from_secs(15);
/// Between two questions about a service.
const PACE: Duration = Duration::from_secs(1);
/// Longest message, bytes: some 100,000 services.
const LONGEST: usize = 256 * 1024 * 1024;
/// Longest text of an error.
const LONGEST_ERROR: usize = 4096;

/// News of the balancer.
#[derive(Debug)]
pub(super) enum News {
    Message(Box<LiveMessage>),
    /// Points of the time before.
    Past(Vec<PointTold>),
    /// An answer about this service; `None`: there is no such service.
    Service(String, Option<Box<ServiceTold>>),
    /// Nothing comes; it is tried again.
    Lost(String),
    /// The balancer has too many pages open; it is asked again.
    Refused(String),
}

/// Why messages ended.
enum StreamEnd {
    Refused(String),
    /// Nobody listens to the news.
    Unheard,
}

/// Sends the messages of the balancer at `admin` until nobody listens.
pub(super) async fn follow(admin: SocketAddr, news: mpsc::Sender<News>) {
    let mut wait = SOON;
    loop {
        let mut has_heard = false;
        let (told, pause) = match listen(admin, &news, &mut has_heard).await {
            Ok(StreamEnd::Unheard) => return,
            Ok(StreamEnd::Refused(said)) => (News::Refused(said), FULL),
            Err(error) => {
                wait = if has_heard { SOON } else { wait };
                (News::Lost(format!("{error:#}")), wait)
            }
        };
        if news.send(told).await.is_err() {
            return;
        }
        sleep(pause).await;
        wait = (wait * 2).min(LATE);
    }
}

/// One connection, from its first message to its last.
async fn listen(admin: SocketAddr, news: &mpsc::Sender<News>, has_heard: &mut bool) -> anyhow::Result<StreamEnd> {
    let connected = timeout(CONNECT, TcpStream::connect(reachable(admin))).await;
    let stream = connected.context("no connection in time")?.context("connecting")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let _closed = Closed(connection);
    let request = http::Request::get("/api/live").header("Host", "localhost").body(Empty::<Bytes>::new())?;
    let response = timeout(SILENT, sender.send_request(request)).await.context("no answer in time")??;
    let status = response.status();
    if status != StatusCode::OK {
        let text = Limited::new(response.into_body(), LONGEST_ERROR).collect().await;
        let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).trim().to_owned()).unwrap_or_default();
        return match status {
            StatusCode::SERVICE_UNAVAILABLE => Ok(StreamEnd::Refused(text)),
            _ => bail!("it answered {status}: {text}"),
        };
    }
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind.as_bytes() != b"text/event-stream") {
        bail!("it answers without messages: it is not a balancer, or an older one");
    }
    let mut messages = Messages { body: response.into_body(), text: Vec::new() };
    loop {
        let message = messages.next().await?;
        let is_full = message.full;
        *has_heard = true;
        if news.send(News::Message(Box::new(message))).await.is_err() {
            return Ok(StreamEnd::Unheard);
        }
        if is_full && let Ok(Answer::Running(HistoryTold { fine })) = ask(Some(admin), "/api/history").await {
            // That nobody listens is seen at the next message.
            let _ = news.send(News::Past(fine)).await;
        }
    }
}

/// A connection that ends with us.
struct Closed<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Closed<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Server-sent events of one `data` line each (HTML Standard, Server-sent events).
struct Messages {
    body: Incoming,
    /// What came of the next event.
    text: Vec<u8>,
}

impl Messages {
    async fn next(&mut self) -> anyhow::Result<LiveMessage> {
        let mut searched = 0;
        loop {
            let end = self.text[searched..].windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = end.map(|end| searched + end) {
                let event: Vec<_> = self.text.drain(..end + 2).collect();
                let data = event.strip_prefix(b"data: ").context("its answer is no message")?;
                return serde_json::from_slice(data).context("its messages are of another version than this program");
            }
            searched = self.text.len().saturating_sub(1);
            let frame = timeout(SILENT, self.body.frame()).await.context("no message came in time")?;
            let frame = frame.context("it closed the connection")??;
            self.text.extend(frame.data_ref().map_or(&[][..], |data| data));
            if self.text.len() > LONGEST {
                bail!("its message is longer than {LONGEST} bytes");
            }
        }
    }
}

/// Asks for the service that `open` names (`http/shop`), once a second while it does.
pub(super) async fn inspect(admin: SocketAddr, mut open: watch::Receiver<Option<String>>, news: mpsc::Sender<News>) {
    loop {
        let Some(key) = open.borrow_and_update().clone() else {
            match open.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let (protocol, name) = key.split_once('/').unwrap_or(("http", &key));
        let path = format!("/api/service?protocol={protocol}&name={}", encoded(name));
        let answer = match page(Some(admin), &path).await {
            Ok(Answer::Running((StatusCode::OK, body))) => serde_json::from_slice(&body).ok().map(Some),
            Ok(Answer::Running((StatusCode::NOT_FOUND, _))) => Some(None),
            // The messages say that the balancer is away.
            _ => None,
        };
        if let Some(answer) = answer
            && news.send(News::Service(key, answer.map(Box::new))).await.is_err()
        {
            return;
        }
        // Another service is asked for at once.
        if let Ok(Err(_)) = timeout(PACE, open.changed()).await {
            return;
        }
    }
}
