//! Health, metrics and the table over HTTP, for people and machines. Never on the data path, never changes anything.

pub mod acme;
mod figures;
pub mod held;
mod hosts;
mod instance;
mod listener;
pub mod live;
pub mod metrics;
mod page;
pub mod pick;
pub mod query;
mod reason;
pub(crate) mod seats;
pub mod source;
pub mod url;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use pointsman_table::{Protocol, shown};
use tokio::sync::watch;

pub use figures::{Figures, Survey};
pub use hosts::Hosts;
pub use listener::{bind, serve};
pub use metrics::MetricNames;

use crate::control::{Status, Timeline, TimelineEntry, epoch_millis};
use crate::logging::LostLines;
use crate::logging::access::RequestsView;
use acme::AcmeNameView;
use held::GuardView;
use live::{LiveHub, LiveInputs};
use query::ExplainQuery;
use seats::Seat;
use serde::{Deserialize, Serialize};
use source::{SnapshotView, SourceView};
use view::{ExplainView, ProblemView, ServiceView, TableView};

/// The data behind the pages.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The control side's state.
    pub status: watch::Receiver<Status>,
    /// The counters.
    pub figures: Figures,
    /// The HTTP listeners' addresses.
    pub http: Arc<[SocketAddr]>,
    /// The store and the prefix.
    pub source: SourceView,
    /// The names that requests may be for.
    pub hosts: Hosts,
    /// When the program started.
    pub started: SystemTime,
    /// The lines of the log that nobody read.
    pub log: LostLines,
    /// The last requests, and the counts of the access log.
    pub requests: RequestsView,
    /// Which services the metrics name.
    pub roster: MetricNames,
    /// The last changes.
    pub timeline: Timeline,
    /// The open pages.
    pub hub: LiveHub,
}

impl Pages {
    /// With what open pages are sent, the HTTP listeners' addresses, and what only some of them show.
    pub fn new(
        live: &LiveInputs,
        http: Arc<[SocketAddr]>,
        hosts: Hosts,
        (requests, roster, log): (RequestsView, MetricNames, LostLines),
    ) -> Self {
        Self {
            status: live.status.clone(),
            figures: live.figures.clone(),
            http,
            source: live.source.clone(),
            hosts,
            started: live.started,
            log,
            requests,
            roster,
            timeline: live.timeline.clone(),
            hub: LiveHub::new(live.figures.past_step()),
        }
    }
}

/// Every page: path and description. The index shows this list to programs.
const PAGES: &[(&str, &str)] = &[
    ("/healthz", "200 as long as the process runs"),
    ("/readyz", "200 once a table is served, else 503 and the reason"),
    ("/metrics", "Prometheus text format"),
    ("/api/table", "services, rules, instances and listeners in use, JSON"),
    ("/api/problems", "everything wrong with the keys, JSON"),
    ("/api/guard", "what was taken away at once and is served on, JSON"),
    ("/api/service?protocol=http&name=shop", "one service of /api/table, JSON"),
    ("/api/changes?from=0", "the last changes of the keys, JSON"),
    ("/api/history", "what all services did in the last hour and day, JSON"),
    ("/api/live", "what changes, once a second: server-sent events, JSON"),
    ("/api/requests?from=0", "the last requests, if they are kept, JSON"),
    ("/haproxy?stats;csv", "HAProxy's statistics, CSV; also ;json and ;typed"),
    ("/api/explain?url=http://shop.test/cart", "the service and instances for a URL, and the reason, JSON"),
];

/// The answer to a question for requests that nobody keeps.
const NONE_KEPT: &str =
    "no requests are kept; start the balancer with --recent-requests 10000, and the native engine\n";

/// The pages, and more of other makers. All are GET only.
pub fn router(pages: Pages, more: Router) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/page/{name}", get(page::asset))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/api/table", get(table))
        .route("/api/problems", get(problems))
        .route("/api/guard", get(guard))
        .route("/api/service", get(one_service))
        .route("/api/changes", get(changes))
        .route("/api/history", get(history))
        .route("/api/live", get(live_messages))
        .route("/api/requests", get(requests))
        .route("/api/explain", get(explain))
        .with_state(pages.clone())
        .merge(more)
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; / lists them\n") })
        .layer(from_fn_with_state(pages.hosts, hosts::guard))
}

/// The page for people; the list of pages for programs, which do not ask for HTML.
async fn index(headers: HeaderMap) -> Response {
    let wanted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if wanted.into_iter().any(|wanted| wanted.contains("text/html")) {
        return page::document();
    }
    let line = |(path, what): &(&str, &str)| format!("{path:<40} {what}\n");
    let text = format!("pointsman {}\n\n{}", env!("CARGO_PKG_VERSION"), PAGES.iter().map(line).collect::<String>());
    ([(header::VARY, "Accept")], text).into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let status = pages.status.borrow();
    match (status.unready(), status.store_lost(), status.condition.outage()) {
        (None, None, _) => "ready\n".into_response(),
        (None, Some(lost), _) => {
            let age = status.snapshot.map(|from| format!("the snapshot is {:?} old\n", from.age())).unwrap_or_default();
            format!("ready\n{}\n{age}", shown(&lost)).into_response()
        }
        (Some(why), _, None) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", shown(why))).into_response(),
        (Some(why), _, Some(outage)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\nthe store: {}\n", shown(why), shown(&outage.to_string())))
                .into_response()
        }
    }
}

async fn show_metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let snapshot = pages.figures.snapshot().await;
    let lost = metrics::Lost::of(pages.log.count(), &pages.requests);
    let (process, haproxy) = (metrics::Process::read(pages.started, lost, pages.hub.pages()), pages.figures.haproxy());
    let status = pages.status.borrow();
    let named = pages.roster.choose(snapshot, status.table.as_deref(), Instant::now());
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    let wants_open = accepted.any(|accept| metrics::wants_open(accept.as_bytes()));
    let exemplars = pages.requests.exemplars.as_deref().filter(|_| wants_open);
    let kind = if exemplars.is_some() { metrics::OPEN_TYPE } else { "text/plain; version=0.0.4; charset=utf-8" };
    let text = metrics::render((&status, &named), &process, haproxy.as_ref(), exemplars);
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn table(State(pages): State<Pages>) -> Response {
    let snapshot = pages.figures.snapshot().await;
    let status = pages.status.borrow();
    let view = match &status.table {
        Some(table) => TableView::new(table, &pages.http).with_counters(&snapshot).with_problems(status.problems()),
        None => return not_read_yet(),
    };
    let (source, from) = (Some(pages.source.clone()), status.snapshot.map(SnapshotView::from));
    let acme = status.around.acme.names.iter().map(AcmeNameView::from).collect();
    let view = TableView { source, snapshot: from, acme, ..view.with_held(status.held.as_deref()) };
    axum::Json(view).into_response()
}

async fn guard(State(pages): State<Pages>) -> Response {
    axum::Json(GuardView::new(pages.status.borrow().held.as_deref())).into_response()
}

async fn problems(State(pages): State<Pages>) -> Response {
    let status = pages.status.borrow();
    axum::Json(status.problems().map(ProblemView::from).collect::<Vec<_>>()).into_response()
}

/// `/api/changes`.
#[derive(Serialize)]
struct ChangesView {
    /// The number to ask from next time.
    next: u64,
    changes: Vec<TimelineEntry>,
}

async fn changes(State(pages): State<Pages>, asked: Result<Query<AskedFrom>, QueryRejection>) -> Response {
    let Ok(Query(AskedFrom { from })) = asked else {
        return (StatusCode::BAD_REQUEST, "from is a number; request /api/changes?from=0\n").into_response();
    };
    let (changes, next) = pages.timeline.since(from);
    axum::Json(ChangesView { next, changes }).into_response()
}

async fn live_messages(State(pages): State<Pages>, Extension(seat): Extension<Arc<Seat>>) -> Response {
    live::messages(&pages.hub, seat)
}

async fn history(State(pages): State<Pages>) -> Response {
    axum::Json(pages.hub.past.view()).into_response()
}

#[derive(Deserialize)]
struct AskedService {
    #[serde(default)]
    protocol: AskedProtocol,
    name: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AskedProtocol {
    #[default]
    Http,
    Tcp,
}

impl From<AskedProtocol> for Protocol {
    fn from(asked: AskedProtocol) -> Self {
        match asked {
            AskedProtocol::Http => Self::Http,
            AskedProtocol::Tcp => Self::Tcp,
        }
    }
}

/// `/api/service`.
#[derive(Serialize)]
struct OneService {
    /// Milliseconds since the epoch.
    at: u64,
    service: ServiceView,
}

/// `/api/service`: one service of `/api/table`.
async fn one_service(State(pages): State<Pages>, asked: Result<Query<AskedService>, QueryRejection>) -> Response {
    let Ok(Query(AskedService { protocol, name })) = asked else {
        let advice = "name the service, and protocol=http or protocol=tcp: request \
                      /api/service?protocol=http&name=shop\n";
        return (StatusCode::BAD_REQUEST, advice).into_response();
    };
    let latest = pages.hub.latest();
    let fresh = if latest.is_none() { Some(pages.figures.snapshot().await) } else { None };
    let status = pages.status.borrow();
    let Some(table) = &status.table else { return not_read_yet() };
    let protocol = protocol.into();
    let found = table.services().iter().find(|service| service.protocol == protocol && service.name.as_str() == name);
    let snapshot = latest.as_deref().map(|look| &look.snapshot).or(fresh.as_ref());
    match (found, snapshot) {
        (Some(service), Some(snapshot)) => {
            let view = ServiceView::of(service, table, snapshot, status.problems());
            axum::Json(OneService { at: epoch_millis(SystemTime::now()), service: view }).into_response()
        }
        _ => match ServiceView::unserved(protocol, &name, status.problems().cloned()) {
            Some(service) => axum::Json(OneService { at: epoch_millis(SystemTime::now()), service }).into_response(),
            None => (StatusCode::NOT_FOUND, "no such service; /api/table lists them\n").into_response(),
        },
    }
}

#[derive(Deserialize)]
struct AskedFrom {
    #[serde(default)]
    from: u64,
}

async fn requests(State(pages): State<Pages>, asked: Result<Query<AskedFrom>, QueryRejection>) -> Response {
    let Ok(Query(AskedFrom { from })) = asked else {
        return (StatusCode::BAD_REQUEST, "from is a number; request /api/requests?from=0\n").into_response();
    };
    match pages.requests.recent.is_on() {
        true => ([(header::CONTENT_TYPE, "application/json")], pages.requests.recent.page(from)).into_response(),
        false => (StatusCode::NOT_FOUND, NONE_KEPT).into_response(),
    }
}

/// The names and values of a query, in their order: a name may come again.
type Pairs = Vec<(String, String)>;

async fn explain(State(pages): State<Pages>, asked: Result<Query<Pairs>, QueryRejection>) -> Response {
    let asked = asked.map_err(|error| error.to_string()).and_then(|Query(pairs)| ExplainQuery::read(&pairs));
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let snapshot = pages.figures.snapshot().await;
    let status = pages.status.borrow();
    let request = asked.request.clone();
    match &status.table {
        Some(table) => {
            let view = ExplainView::new(table, &snapshot, status.problems(), asked);
            let is_own_engine = pages.figures.haproxy().is_none();
            let view = if is_own_engine { view.with_pick(table, &snapshot, &request) } else { view };
            let view = view.with_held(status.held.as_deref());
            axum::Json(ExplainView { source: Some(pages.source.clone()), ..view }).into_response()
        }
        None => not_read_yet(),
    }
}

fn not_read_yet() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the store was not read yet\n").into_response()
}

#[cfg(test)]
mod tests;
