//! The sections before any frontend: global, error pages, resolvers, defaults. Knows no service.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_table::{Config, Problem, ProblemKind, Service, Table, TlsVersion};
use pointsman_wire::Answer;

use super::backend::{CHECK_TIMEOUT, RESOLVERS};
use super::confine;
use super::model::{FOLDER, Owner, Part, SOCKET};
use super::names::PAGES;
use super::shape::Shape;
use super::tickets;
use super::words::time;

/// Bytes of a buffer that HAProxy reserves for what it adds to a head.
const REWRITE: usize = 1024;
/// The same for a client's certificate, in base64.
const CERTIFICATE: usize = 8 * 1024;
/// What HTTP/2 needs besides (RFC 9113 §4.2: a frame may have 16 KiB).
const HTTP2_FRAME: usize = 16 * 1024;
/// Least limit of headers: our own error pages need it.
const LEAST_HEADERS: usize = 16;
/// Limit of `maxconn`: HAProxy allocates for all of them at its start.
const MOST_CONNECTIONS: u32 = 1_000_000;
/// Most descriptors that HAProxy sizes itself for if the machine sets no limit.
const MOST_DESCRIPTORS: u32 = 1 << 20;

/// Statuses of HAProxy's own answers that every version from 2.4 on has a page for.
const STATUSES: &[u16] = &[400, 401, 403, 404, 405, 407, 408, 410, 425, 429, 500, 501, 502, 503, 504];
/// Those of them that get our own page if the keys have none.
const OURS: &[u16] = &[400, 403, 405, 408, 500, 501, 502, 503, 504];
/// The page for connections that no instance accepts.
const REFUSED: &str = "errors/refused.http";
/// The page for malformed requests: 400, and the connection ends.
pub const MALFORMED: &str = "errors/malformed.http";

/// The file that hands the states of servers to the next worker.
pub const STATES: &str = "servers.state";

/// The sections, and the files that they name.
pub struct Frame {
    /// `global`.
    pub global: Vec<Part>,
    /// `http-errors`, `resolvers` if needed, `defaults`.
    pub defaults: Vec<Part>,
    /// Error pages by name.
    pub files: BTreeMap<Box<str>, Arc<[u8]>>,
    /// Settings that could not be used.
    pub problems: Vec<Problem>,
}

/// Makes the sections for these services. `has_https`: HTTP services are served over TLS.
pub fn frame(table: &Table, services: &[Arc<Service>], shape: &Shape, has_https: bool) -> Frame {
    let config = table.config();
    let mut problems = Vec::new();
    let buffer = Buffer::new(config, services, has_https);
    let mut global =
        with_raw(global(config, shape, &buffer), "haproxy-global-settings", &shape.global_settings, &mut problems);
    // Behind the section's own lines: an operator's line goes last, and has the last word.
    global.splice(1..1, ciphers(shape));
    let pages = pages(table, buffer.bytes - buffer.spare, &mut problems);
    let mut defaults = vec![Part::ours(&http_errors(&pages))];
    if services.iter().any(|service| service.dns.is_some()) {
        defaults.push(Part::ours(&format!("resolvers {RESOLVERS}\n    parse-resolv-conf\n\n")));
    }
    let section = self::defaults(config, shape);
    defaults.extend(with_raw(section, "haproxy-custom-settings", &shape.custom_settings, &mut problems));
    Frame { global, defaults, files: pages.files, problems }
}

/// The file of a status's error page.
pub fn page(status: u16) -> String {
    format!("errors/{status}.http")
}

/// The path of a file below the folder.
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// A section and the operator's lines behind it.
fn with_raw(section: String, setting: &'static str, text: &Option<Box<str>>, problems: &mut Vec<Problem>) -> Vec<Part> {
    let mut parts = vec![Part::ours(&section)];
    match confine::lines(text.as_deref().unwrap_or_default()) {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => {
            let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
            let text = format!("    # --{setting}\n{lines}");
            parts.push(Part { text: text.into(), owner: Some(Owner::Setting(setting)) });
        }
        Err(bad) => {
            let advice = format!("{}; HAProxy runs without all of it", bad.join("; "));
            problems.push(Problem::of_setting(ProblemKind::Rejected, setting, advice));
        }
    }
    parts.push(Part::ours("\n"));
    parts
}

/// The cipher suites, if there are any and this HAProxy has TLS.
fn ciphers(shape: &Shape) -> Option<Part> {
    let list = shape.ciphers.as_deref().filter(|_| shape.version.tls)?;
    let text = format!("    ssl-default-bind-ciphers {list}\n");
    Some(Part { text: text.into(), owner: Some(Owner::Setting("haproxy-ciphers")) })
}

fn global(config: &Config, shape: &Shape, buffer: &Buffer) -> String {
    let mut lines = vec![format!("nbthread {}", shape.threads), format!("hard-stop-after {}", time(shape.hard_stop))];
    if let Some(most) = config.max_connections {
        lines.push(format!("maxconn {}", most.get().min(MOST_CONNECTIONS)));
        // Fewer connections than asked for are better than none.
        lines.push("no strict-limits".to_owned());
    }
    if shape.version.at_least(2, 6) {
        lines.push(format!("fd-hard-limit {MOST_DESCRIPTORS}"));
    }
    if shape.socket.is_some() {
        lines.push(format!("stats socket {SOCKET} mode 600 level admin expose-fd listeners"));
        lines.push(format!("server-state-file {}", path(STATES)));
    }
    lines.push(format!("tune.bufsize {}", buffer.bytes));
    lines.push(format!("tune.maxrewrite {}", buffer.spare));
    // HAProxy counts the end of the head as one more header.
    lines.push(format!("tune.h2.max-concurrent-streams {}", config.streams));
    lines.push(format!("tune.http.maxhdr {}", (config.headers + 1).max(LEAST_HEADERS)));
    if shape.version.tls {
        let least = match config.tls_min_version {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        };
        lines.push(format!("ssl-default-bind-options ssl-min-ver {least}"));
        if shape.tickets.is_some() {
            lines.push(format!("tune.ssl.lifetime {}", tickets::LIFETIME));
        }
        if buffer.asks {
            lines.push("# a session would resume at names that ask for another certificate".to_owned());
            lines.push("tune.ssl.cachesize 0".to_owned());
        }
    }
    section("global", &lines)
}

/// The buffer of a request or response.
struct Buffer {
    bytes: usize,
    /// Bytes of it for what is added to a head.
    spare: usize,
    /// Some service asks for clients' certificates.
    asks: bool,
}

impl Buffer {
    /// It must hold a whole head, the additions to it, and eight bytes of bookkeeping for each header.
    fn new(config: &Config, services: &[Arc<Service>], has_https: bool) -> Self {
        let asks = services.iter().any(|service| service.client_auth().is_some());
        let spare = if asks { REWRITE + CERTIFICATE } else { REWRITE };
        let least = if has_https { HTTP2_FRAME + spare } else { 0 };
        Self { bytes: (config.head_bytes + spare + 8 * config.headers).max(least), spare, asks }
    }
}

fn defaults(config: &Config, shape: &Shape) -> String {
    let waits = config.timeouts;
    let mut lines = vec![
        "mode http".to_owned(),
        format!("timeout connect {}", time(waits.connect)),
        format!("timeout queue {}", time(waits.connect)),
        format!("timeout check {}", time(CHECK_TIMEOUT)),
        format!("timeout client {}", time(waits.client)),
        format!("timeout server {}", time(waits.server)),
        format!("timeout tunnel {}", time(waits.tunnel)),
        format!("timeout http-request {}", time(waits.head)),
        format!("timeout http-keep-alive {}", time(waits.keep_alive)),
        "retries 3".to_owned(),
        "retry-on conn-failure empty-response".to_owned(),
        "option redispatch 1".to_owned(),
        "option allbackups".to_owned(),
        "# a client that closes, or sends no more, ends its request".to_owned(),
        "option abortonclose".to_owned(),
        format!("errorfiles {PAGES}"),
        "# HAProxy's own 503 here means that no instance accepted the connection".to_owned(),
        format!("errorfile 503 {}", path(REFUSED)),
    ];
    if shape.socket.is_some() {
        lines.push("load-server-state-from-file global".to_owned());
    }
    section("defaults", &lines)
}

fn section(name: &str, lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!("{name}\n{lines}")
}

/// Our own error pages.
struct Pages {
    statuses: Vec<u16>,
    files: BTreeMap<Box<str>, Arc<[u8]>>,
}

fn http_errors(pages: &Pages) -> String {
    let lines: Vec<_> =
        pages.statuses.iter().map(|&status| format!("errorfile {status} {}", path(&page(status)))).collect();
    section(&format!("http-errors {PAGES}"), &lines) + "\n"
}

fn pages(table: &Table, room: usize, problems: &mut Vec<Problem>) -> Pages {
    let config = table.config();
    let mut bodies: BTreeMap<u16, Option<&str>> = OURS.iter().map(|&status| (status, None)).collect();
    for (status, page) in &config.errors {
        let refusal = match written(*status, Some(&page.body), true).len() {
            _ if !STATUSES.contains(status) => Some("HAProxy never answers with this status by itself".to_owned()),
            length if length > room => Some(format!("HAProxy takes no page longer than {room} bytes, head included")),
            _ => None,
        };
        match refusal {
            None => drop(bodies.insert(*status, Some(&page.body))),
            Some(why) => {
                let advice = format!("{why}; the page is not used");
                let key = format!("config/errors/{status}");
                problems.push(table.tree_problem(ProblemKind::Unsupported, &key, advice));
            }
        }
    }
    let again = |status, keep_alive| written(status, bodies.get(&status).copied().flatten(), keep_alive).into();
    let more = [(REFUSED.into(), again(502, true)), (MALFORMED.into(), again(400, false))];
    let files = bodies.iter().map(|(&status, &body)| (page(status).into(), written(status, body, true).into()));
    Pages { statuses: bodies.keys().copied().collect(), files: files.chain(more).collect() }
}

fn written(status: u16, body: Option<&str>, keep_alive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let answer = Answer {
        status,
        body,
        location: None,
        retry_after: None,
        more: &[],
        keep_alive,
        head_request: false,
        edits: None,
    };
    answer.write(&mut out);
    out
}
