//! `/haproxy?stats` on `--admin`: `;csv`, `;json`, `;typed` for tools, and people go to the page. Renders nothing itself.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::unfold;

use super::dump::{Dump, DumpOf, StatFilter};
use super::form::StatForm;
use super::inputs::{NOT_READ, Stats};
use super::proxies::Proxies;

/// The pages.
pub fn router(stats: Stats) -> Router {
    Router::new().route("/haproxy", get(page)).with_state(stats)
}

async fn page(State(stats): State<Stats>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let words = || query.split([';', '&']);
    let form = words().find_map(|word| if word == "csv" { Some(StatForm::Csv) } else { StatForm::named(word) });
    let Some(form) = form else {
        // A bookmark of HAProxy's page.
        return (StatusCode::FOUND, [(header::LOCATION, "/")]).into_response();
    };
    let Some(table) = stats.table() else { return (StatusCode::SERVICE_UNAVAILABLE, NOT_READ).into_response() };
    let proxies = Arc::new(Proxies::of(table, &stats.about));
    let has = |word: &str| words().any(|one| one == word);
    let filter = StatFilter { up: has("up"), no_maint: has("no-maint"), ..StatFilter::default() };
    let dump = Dump::new(stats, proxies, DumpOf::Rows(filter, form));
    let pieces = unfold(dump, |mut dump| async { Some((Ok::<_, Infallible>(dump.piece().await?), dump)) });
    let kind = if form == StatForm::Json { "application/json" } else { "text/plain" };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], Body::from_stream(pieces)).into_response()
}
