//! Looks the last requests of the running balancer up in two tables: the one with the keys as they are, and the one with a change.
//! Sends none of them to an instance.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use pointsman_table::{Imagined, Protocol, Scheme, Service, Table, shown};
use serde::{Deserialize, Serialize};

use super::ask::{Answer, ask, page};
use crate::admin::source::SourceView;
use crate::admin::view::ExplainView;
use crate::settings::Settings;

/// Most groups; the rest is counted only.
const MOST_GROUPS: usize = 1000;

/// What would become of requests.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Rerouted {
    /// Those that were looked up.
    pub(super) asked: usize,
    /// Those that would get something else.
    pub(super) different: usize,
    /// Those of them that are served now, and would be refused.
    pub(super) refused: usize,
    /// Those that would get something else, the most frequent first.
    pub(super) groups: Vec<ReroutedGroup>,
}

/// Requests of one kind.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ReroutedGroup {
    pub(super) count: usize,
    /// `GET shop.test/cart`.
    pub(super) request: String,
    /// What they get now: `services/shop`, or `503: no service matches`.
    pub(super) was: String,
    /// What they would get.
    pub(super) would: String,
    /// The last status that one of them got.
    pub(super) status: Option<u16>,
}

/// A request that the balancer keeps: see `docs/logs.md`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeptRequest {
    kind: String,
    client: Option<IpAddr>,
    listener: Option<SocketAddr>,
    tls: Option<String>,
    method: String,
    host: String,
    path: String,
    query: String,
    service: Option<String>,
    status: Option<u16>,
    user_agent: Option<String>,
    referer: Option<String>,
}

/// `/api/requests`.
#[derive(Debug, Deserialize)]
struct KeptRequests {
    requests: Vec<KeptRequest>,
}

/// What a request gets: in words, and whether that is an answer of a service or a page of our own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Got {
    words: String,
    is_served: bool,
}

impl Got {
    fn served(words: impl Into<String>) -> Self {
        Self { words: words.into(), is_served: true }
    }

    fn refused(words: impl Into<String>) -> Self {
        Self { words: words.into(), is_served: false }
    }
}

/// Asks the balancer on `--admin` for its last requests, and looks each up in both tables. `None`, with a note: there are none.
///
/// # Errors
/// Something answers on `--admin` that is no balancer, or `note` is closed.
pub(super) async fn reroute(
    (settings, named): (&Settings, bool),
    tables: (&Table, &Table),
    note: &mut dyn Write,
) -> anyhow::Result<Option<Rerouted>> {
    let source = match ask::<ExplainView>(settings.admin, "/api/explain?url=%2F").await {
        Ok(Answer::Running(view)) => view.source,
        Ok(Answer::Nobody) => {
            writeln!(note, "no balancer answers on --admin, so the last requests are not known")?;
            return Ok(None);
        }
        Err(error) => {
            writeln!(note, "the last requests are not known: {}", shown(&format!("{error:#}")))?;
            return Ok(None);
        }
    };
    let asked = SourceView::new(&settings.store);
    if let Some(source) = source.filter(|source| named && !source.is_same(&asked)) {
        let source = shown(&source.to_string()).to_string();
        writeln!(note, "the balancer on --admin serves {source}, so its last requests are not looked at")?;
        return Ok(None);
    }
    let Answer::Running((status, body)) = page(settings.admin, "/api/requests?from=0").await? else { return Ok(None) };
    if status != StatusCode::OK {
        writeln!(note, "the last requests are not known: {}", shown(String::from_utf8_lossy(&body).trim()))?;
        return Ok(None);
    }
    let kept: KeptRequests = serde_json::from_slice(&body)?;
    Ok(Some(compare(&kept.requests, tables)))
}

fn compare(requests: &[KeptRequest], (before, after): (&Table, &Table)) -> Rerouted {
    let mut found = Rerouted::default();
    let mut groups = BTreeMap::<(String, Got, Got), (usize, Option<u16>)>::new();
    for request in requests {
        let (Some(was), Some(would)) = (got(before, request), got(after, request)) else { continue };
        found.asked += 1;
        if was == would {
            continue;
        }
        found.different += 1;
        found.refused += usize::from(was.is_served && !would.is_served);
        let group = groups.entry((request.words(), was, would)).or_default();
        *group = (group.0 + 1, request.status.or(group.1));
    }
    let group = |((request, was, would), (count, status)): ((String, Got, Got), (usize, Option<u16>))| ReroutedGroup {
        count,
        request,
        was: was.words,
        would: would.words,
        status,
    };
    found.groups = groups.into_iter().map(group).collect();
    found.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    found.groups.truncate(MOST_GROUPS);
    found
}

impl KeptRequest {
    /// `GET shop.test/cart`, without its query.
    fn words(&self) -> String {
        match self.kind.as_str() {
            "tcp" => format!("tcp port {}", self.listener.map_or(0, |listener| listener.port())),
            _ => format!("{} {}{}", self.method, self.host, self.path),
        }
    }

    fn target(&self) -> String {
        match self.query.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, self.query),
        }
    }

    fn imagined(&self) -> Imagined {
        let headers = [("User-Agent", &self.user_agent), ("Referer", &self.referer)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        Imagined { method: self.method.clone(), headers: headers.collect(), client: self.client }
    }
}

/// What a table does with a request. `None`: too little of it is known.
fn got(table: &Table, request: &KeptRequest) -> Option<Got> {
    if request.kind == "tcp" {
        return got_tcp(table, request);
    }
    if request.method.is_empty() || !(request.path.starts_with('/') || request.path == "*") {
        return None;
    }
    if table.config().health_uri.as_deref() == Some(&*request.path) {
        return Some(Got::served("200: config/health_uri"));
    }
    let Ok(route) = table.find(&request.host, &request.target(), &request.imagined()) else {
        return Some(Got::refused("414: too many expressions would have to be searched for in it"));
    };
    let service = route.and_then(|route| table.services().get(route.service as usize));
    Some(service.map_or_else(|| Got::refused("503: no service matches"), |service| by_service(service, request)))
}

/// In the order in which a service's keys are heeded.
fn by_service(service: &Service, request: &KeptRequest) -> Got {
    let name = format!("{}/{}", service.protocol, service.name);
    let policy = service.policy.as_deref();
    if service.scheme() == Scheme::Https && request.tls.is_none() {
        return Got::served(format!("301 to HTTPS: {name}/scheme"));
    }
    let access = policy.and_then(|policy| policy.access.as_ref());
    if access.zip(request.client).is_some_and(|(access, client)| !access.admits(client)) {
        return Got::refused(format!("403: {name}/allow or deny"));
    }
    if policy.is_some_and(|policy| policy.redirect.is_some()) {
        return Got::served(format!("redirect: {name}/redirect"));
    }
    if policy.is_some_and(|policy| policy.maintenance.is_some()) {
        return Got::refused(format!("503: {name}/maintenance"));
    }
    match service.instances.is_empty() && service.dns.is_none() {
        true => Got::refused(format!("503: {name} has no instance")),
        false => Got::served(name),
    }
}

/// The service of a connection stays, or another one takes its port, or nobody: the server name it asked for is not kept.
fn got_tcp(table: &Table, request: &KeptRequest) -> Option<Got> {
    let (port, own) = (request.listener?.port(), request.service.as_deref()?);
    let service = |index: u32| table.services().get(index as usize);
    let binds = table.tcp().iter().filter(|(bind, _)| bind.port == port);
    let takes =
        binds.flat_map(|(bind, index)| [*index].into_iter().chain(table.sni(*bind).iter().map(|(_, index)| *index)));
    let takes: Vec<_> = takes.filter_map(service).collect();
    let its_own = takes.iter().find(|service| service.name.as_str() == own);
    Some(match its_own.or(takes.first()) {
        None => Got::refused("closed: no service has this port"),
        Some(service) if service.instances.is_empty() && service.dns.is_none() => {
            Got::refused(format!("closed: {}/{} has no instance", Protocol::Tcp, service.name))
        }
        Some(service) => Got::served(format!("{}/{}", Protocol::Tcp, service.name)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_table::{Capabilities, KeySet, Limits, compile};

    use super::*;

    fn table(lines: &str) -> Arc<Table> {
        let mut keys = KeySet::default();
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (key.into(), value.as_bytes().into()));
        keys.reset(1, lines.split(';').filter_map(entry));
        compile(&keys, None, &Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() }).table
    }

    fn request(host: &str, path: &str) -> KeptRequest {
        let text = |text: &str| text.to_owned();
        let client = "192.0.2.1".parse().ok();
        KeptRequest {
            kind: text("http"),
            method: text("GET"),
            host: text(host),
            path: text(path),
            client,
            ..KeptRequest::default()
        }
    }

    #[test]
    fn requests_are_looked_up_in_both() {
        let before = table(
            "services/a/domain a.test;services/a/1 h:1;services/b/domain b.test;services/b/1 h:1;services/c/domain \
             c.test;services/c/1 h:1;tcp-services/t/port 5000;tcp-services/t/1 h:1",
        );
        let after = table(
            "services/a/domain x.test;services/a/1 h:1;services/b/domain b.test;services/b/1 h:1;services/b/deny \
             192.0.2.0/24;services/c/domain c.test;services/d/domain c.test;services/d/path /d;services/d/1 h:1",
        );
        let tcp = KeptRequest {
            kind: "tcp".to_owned(),
            listener: "127.0.0.1:5000".parse().ok(),
            service: Some("t".to_owned()),
            ..KeptRequest::default()
        };
        let unknown = KeptRequest { kind: "http".to_owned(), ..KeptRequest::default() };
        let requests = [
            request("a.test", "/"),
            request("a.test", "/"),
            request("b.test", "/"),
            request("c.test", "/"),
            request("c.test", "/d"),
            request("nobody.test", "/"),
            tcp,
            unknown,
        ];
        let found = compare(&requests, (&before, &after));
        assert_eq!((found.asked, found.different, found.refused), (7, 6, 5));
        let lines = found
            .groups
            .iter()
            .map(|group| format!("{} {}: {} -> {}", group.count, group.request, group.was, group.would));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "2 GET a.test/: services/a -> 503: no service matches",
                "1 GET b.test/: services/b -> 403: services/b/allow or deny",
                "1 GET c.test/: services/c -> 503: services/c has no instance",
                "1 GET c.test/d: services/c -> services/d",
                "1 tcp port 5000: tcp-services/t -> closed: no service has this port",
            ]
        );
    }
}
