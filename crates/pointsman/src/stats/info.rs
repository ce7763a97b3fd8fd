//! `show info`: the process, with HAProxy's names and places of fields. What is not counted is left out.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use pointsman_engine::Phase;
use tokio::runtime::Handle;

use super::form::{StatForm, TAKES_ALL, json_field, typed_value};
use super::inputs::Stats;
use super::look::StatsLook;
use super::proxies::Proxies;
use super::row::{StatValue, gauge};
use super::rows::most_connections;
use crate::sys;

/// A field: its place, its name, its origin, nature and scope.
type InfoField = (usize, &'static str, &'static str);

/// The answer, in this form; [`StatForm::Csv`] is lines of name and value.
pub(super) fn show(stats: &Stats, proxies: &Proxies, look: &StatsLook, form: StatForm) -> String {
    let fields = fields(stats, proxies, look);
    let mut out = String::from(if form == StatForm::Json { "[" } else { "" });
    for (at, ((place, name, tags), value)) in fields.iter().enumerate() {
        match form {
            StatForm::Csv => {
                let value = match value {
                    StatValue::Empty => String::new(),
                    StatValue::Unsigned32(number) => number.to_string(),
                    StatValue::Unsigned64(number) => number.to_string(),
                    StatValue::Text(text) => text.replace(char::is_control, " "),
                };
                writeln!(out, "{name}: {value}").expect(TAKES_ALL);
            }
            StatForm::Typed => {
                write!(out, "{place}.{name}.1:{tags}:").expect(TAKES_ALL);
                typed_value(value, &mut out);
            }
            StatForm::Json => {
                out.push_str(if at > 0 { ",{" } else { "{" });
                json_field((*place, name), tags, value, &mut out);
            }
        }
    }
    out.push_str(if form == StatForm::Json { "]\n" } else { "" });
    out
}

fn fields(stats: &Stats, proxies: &Proxies, look: &StatsLook) -> Vec<(InfoField, StatValue<'static>)> {
    let about = &stats.about;
    let uptime = about.started.elapsed().unwrap_or_default().as_secs();
    let (days, hours, minutes, seconds) = (uptime / 86_400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
    let [http, tcp] = look.sums.map(|sums| sums.totals);
    let files = gauge(sys::open_files_limit());
    let most = most_connections(&proxies.table);
    let metrics = Handle::current().metrics();
    let count = |number: usize| gauge(number as u64);
    let listeners = about.http + about.https + proxies.table.https().count() + proxies.table.tcp().len();
    let is_stopping = stats.status.borrow().phase != Phase::Serve;
    let dropped: u64 = about.requests.log.dropped().iter().sum();
    let started = about.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let handshakes: u64 = look.snapshot.handshakes.iter().map(|(.., count)| count).sum();
    vec![
        ((0, "Name", "POS"), "Pointsman".into()),
        ((1, "Version", "POS"), env!("CARGO_PKG_VERSION").into()),
        // hatop insists on the line; no date is part of the program.
        ((2, "Release_date", "POS"), "unknown".into()),
        ((3, "Nbthread", "CGS"), count(about.workers).into()),
        ((4, "Nbproc", "CGS"), 1_u32.into()),
        ((5, "Process_num", "KGP"), 1_u32.into()),
        ((6, "Pid", "SGP"), std::process::id().into()),
        ((7, "Uptime", "MDP"), format!("{days}d {hours}h{minutes:02}m{seconds:02}s").into()),
        ((8, "Uptime_sec", "MDP"), gauge(uptime).into()),
        ((13, "Ulimit-n", "CLP"), files.into()),
        ((14, "Maxsock", "CLP"), files.into()),
        ((15, "Maxconn", "CLP"), most.into()),
        ((16, "Hard_maxconn", "CLP"), most.into()),
        ((17, "CurrConns", "MGP"), gauge(look.snapshot.connections_open).into()),
        ((18, "CumConns", "MCP"), gauge(look.snapshot.connections_total).into()),
        ((19, "CumReq", "MCP"), gauge(http.requests + tcp.requests).into()),
        ((22, "CumSslConns", "MCP"), gauge(handshakes).into()),
        // There are none.
        ((23, "Maxpipes", "CLP"), 0_u32.into()),
        ((24, "PipesUsed", "MGP"), 0_u32.into()),
        ((25, "PipesFree", "MGP"), 0_u32.into()),
        ((26, "ConnRate", "MRP"), look.connections.into()),
        // Of the thread that answers this.
        ((47, "Tasks", "MGP"), count(metrics.num_alive_tasks()).into()),
        ((48, "Run_queue", "MGP"), count(metrics.global_queue_depth()).into()),
        ((50, "node", "COS"), about.name.clone().into()),
        ((52, "Stopping", "MGP"), u32::from(is_stopping).into()),
        ((55, "Listeners", "MGP"), count(listeners).into()),
        ((58, "DroppedLogs", "MGP"), gauge(dropped).into()),
        ((61, "TotalBytesOut", "MGP"), (http.bytes_out + tcp.bytes_out).into()),
        ((70, "Start_time_sec", "MDP"), gauge(started).into()),
    ]
    .into_iter()
    .filter(|(_, value)| *value != StatValue::Empty)
    .collect()
}
