//! The balancer on `--admin`, if one runs: whether it serves, which keys, and since when not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;

use super::observation::Observation;
use crate::admin::source::SourceView;
use crate::admin::view::{ProblemView, ServiceView, TableView};
use crate::commands::ask::{Answer, ask, page};
use crate::settings::Settings;
use crate::takeover::listener_of;

const SUBJECT: &str = "balancer";

/// What a running balancer told.
pub(super) struct RunningBalancer {
    /// The ports that it listens on.
    pub(super) ports: BTreeSet<u16>,
    pub(super) services: Vec<ServiceView>,
    pub(super) problems: Vec<ProblemView>,
}

pub(super) async fn look(settings: &Settings, within: Duration) -> (Option<RunningBalancer>, Vec<Observation>) {
    let Some(admin) = settings.admin else {
        let note = Observation::note(SUBJECT, "--admin is off, so a running balancer cannot be asked", "set --admin");
        return (None, vec![note]);
    };
    if let Ok(told) = timeout(within, Box::pin(asked(admin, settings))).await {
        return told;
    }
    let who = match &settings.state {
        Some(state) => timeout(within, listener_of(state)).await.ok().flatten(),
        None => None,
    };
    let told = match who {
        Some(who) => hung(&who, admin, within),
        None => stranger(admin, &format!("no answer within {within:?}")),
    };
    (None, vec![told])
}

async fn asked(admin: SocketAddr, settings: &Settings) -> (Option<RunningBalancer>, Vec<Observation>) {
    let (status, text) = match page(Some(admin), "/readyz").await {
        Ok(Answer::Running((status, body))) => (status, String::from_utf8_lossy(&body).into_owned()),
        Ok(Answer::Nobody) => {
            let what = format!("none answers on {admin}; this is what one would find at its start");
            return (None, vec![Observation::ok(SUBJECT, what)]);
        }
        Err(error) => return (None, vec![stranger(admin, &format!("{error:#}"))]),
    };
    let mut all = vec![readiness(admin, status, &text)];
    let is_ready = status == StatusCode::OK && text.starts_with("ready\n");
    if !is_ready && status != StatusCode::SERVICE_UNAVAILABLE {
        return (None, all);
    }
    let own = settings.http.iter().chain(&settings.https).map(SocketAddr::port).chain([admin.port()]);
    let mut running = RunningBalancer { ports: own.collect(), services: Vec::new(), problems: Vec::new() };
    if let Ok(Answer::Running(problems)) = ask(Some(admin), "/api/problems").await {
        running.problems = problems;
    }
    // One that has not read its keys yet has none.
    let Ok(Answer::Running(table)) = ask::<TableView>(Some(admin), "/api/table").await else {
        return (Some(running), all);
    };
    let asked = SourceView::new(&settings.store);
    if let Some(other) = table.source.as_ref().filter(|source| !source.is_same(&asked)) {
        all.push(Observation::note(
            SUBJECT,
            format!("the one on {admin} serves {other}; the rest of this is about {asked}"),
            "give doctor the balancer's own --store, --id and --admin",
        ));
    }
    let listeners = table.listeners.iter().filter_map(|listener| listener.address.parse::<SocketAddr>().ok());
    running.ports = listeners.map(|address| address.port()).chain([admin.port()]).collect();
    running.services = table.services;
    (Some(running), all)
}

fn readiness(admin: SocketAddr, status: StatusCode, text: &str) -> Observation {
    let mut lines = text.lines();
    let (first, rest) = (lines.next().unwrap_or_default(), lines.collect::<Vec<_>>().join("; "));
    match status {
        StatusCode::OK if first != "ready" => stranger(admin, "/readyz answers something else"),
        StatusCode::OK if rest.is_empty() => Observation::ok(SUBJECT, format!("the one on {admin} serves")),
        StatusCode::OK => {
            Observation::wrong(SUBJECT, format!("the one on {admin} serves, but {rest}"), "see store below")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let what = format!("the one on {admin} serves nothing yet: {first} {rest}");
            Observation::wrong(SUBJECT, what.trim_end(), "see store below; its log says more")
        }
        _ => stranger(admin, &format!("/readyz answers {status}")),
    }
}

fn hung(who: &str, admin: SocketAddr, within: Duration) -> Observation {
    let what = format!("{who} runs on --state and hangs: no answer on --admin {admin} within {within:?}");
    let remedy = "its log says why; if it is stopped, kill -CONT it, else end it and start it again";
    Observation::wrong(SUBJECT, what, remedy)
}

fn stranger(admin: SocketAddr, why: &str) -> Observation {
    let remedy = format!("ss -ltnp 'sport = :{}' names it; stop it, or give another --admin", admin.port());
    Observation::wrong(SUBJECT, format!("what answers on --admin {admin} is no balancer: {why}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    #[test]
    fn readiness_is_told() {
        let of = |status, text| readiness(([127, 0, 0, 1], 8404).into(), status, text);
        for (status, text, expected) in [
            (StatusCode::OK, "ready\n", "ok: the one on 127.0.0.1:8404 serves"),
            (
                StatusCode::OK,
                "ready\nthe store is away\n",
                "wrong: the one on 127.0.0.1:8404 serves, but the store is away",
            ),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "no table\nthe store: x\n",
                "wrong: the one on 127.0.0.1:8404 serves nothing yet: no table the store: x |",
            ),
            (StatusCode::OK, "hello", "wrong: what answers on --admin 127.0.0.1:8404 is no balancer"),
            (StatusCode::NOT_FOUND, "", "wrong: what answers on --admin 127.0.0.1:8404 is no balancer"),
        ] {
            check(&[of(status, text)], &[expected]);
        }
    }
}
