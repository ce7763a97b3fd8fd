//! The tables and charts of docs/compare.md and of the README: what they look like, and where they go. Measures nothing.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;

use super::broken::Aftermath;
use super::chart::{Bars, number, svg};
use super::contestants::version;
use super::etcd::{EtcdFigures, KeyReader};
use super::requests::ProxyFigures;

/// The folder of the charts.
const CHARTS: &str = "docs/charts";

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Results {
    /// Whether the figures are rough.
    pub(super) quick: bool,
    /// The command's flags.
    pub(super) flags: String,
    /// Each product that takes part, with its version.
    pub(super) versions: Vec<String>,
    /// Who did not take part, and why.
    pub(super) skipped: Vec<String>,
    /// Of every proxy.
    pub(super) requests: Vec<ProxyFigures>,
    /// Pointsman and Traefik on etcd.
    pub(super) etcd: Vec<EtcdFigures>,
    /// One broken route.
    pub(super) broken: Vec<Aftermath>,
}

/// Writes every block and every chart. What was not measured stays as it was.
pub(super) fn write(results: &Results) -> io::Result<()> {
    let (mut compare, mut readme) = (fs::read_to_string("docs/compare.md")?, fs::read_to_string("README.md")?);
    fs::create_dir_all(CHARTS)?;
    if !results.requests.is_empty() {
        let text = format!("{}\n{}", requests_table(&results.requests), circumstances(results, &[])?);
        replace(&mut compare, "requests", &text)?;
        replace(&mut readme, "requests", &text)?;
        replace(&mut compare, "fields", &fields_table(&results.requests))?;
        draw_requests(&results.requests)?;
    }
    if !results.etcd.is_empty() {
        let etcd = format!("etcd {}", version(Path::new("etcd"), "--version")?);
        let text = format!("{}\n{}", etcd_table(&results.etcd), circumstances(results, &[etcd])?);
        replace(&mut compare, "etcd", &text)?;
        draw_etcd(&results.etcd)?;
    }
    if !results.broken.is_empty() {
        replace(&mut compare, "broken", &broken_table(&results.broken))?;
    }
    fs::write("docs/compare.md", compare)?;
    fs::write("README.md", readme)
}

/// Puts new text between the marks of that name.
fn replace(page: &mut String, name: &str, text: &str) -> io::Result<()> {
    let (open, close) = (format!("<!-- peers:{name} -->"), format!("<!-- /peers:{name} -->"));
    let range = page.find(&open).map(|at| at + open.len()).zip(page.find(&close)).filter(|(from, to)| from <= to);
    let (from, to) = range.ok_or_else(|| io::Error::other(format!("a page has no place for `{name}`")))?;
    page.replace_range(from..to, &format!("\n\n{text}\n"));
    Ok(())
}

/// The date, the machine, the versions of all contestants and of others, and how to repeat it.
fn circumstances(results: &Results, others: &[String]) -> io::Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let date = Command::new("date").args(["-u", "+%F"]).output()?.stdout;
    let date = String::from_utf8_lossy(&date);
    let mut versions = results.versions.clone();
    versions.extend_from_slice(others);
    let rough = if results.quick { "\n**A quick run: the figures are rough.**" } else { "" };
    let missing: String = results.skipped.iter().map(|skipped| format!("\nNot measured: {skipped}.")).collect();
    let text = format!(
        "{}, {model}, {cores} cores, Linux {kernel}.\n{}.{rough}{missing}\n\n\
         `cargo build --profile dist && cargo run --release -p pointsman-bench -- peers{}`\n",
        date.trim(),
        versions.join(", "),
        results.flags,
    );
    Ok(text)
}

fn requests_table(rows: &[ProxyFigures]) -> String {
    let mut text = String::from(
        "| | CPU per request, 64 connections | 1,000 connections | memory at the start | an idle connection |\n\
         |---|---|---|---|---|\n",
    );
    for row in rows {
        let [few, many, start, idle] = [row.few, row.many, row.start, row.idle].map(number);
        let _ = writeln!(text, "| {} | {few} µs | {many} µs | {start} MB | {idle} kB |", title(row));
    }
    text
}

/// Its name, with the setting as code.
fn title(row: &ProxyFigures) -> String {
    match row.name.split_once(", ") {
        Some((name, setting)) => format!("{name}, `{setting}`"),
        None => row.name.to_owned(),
    }
}

fn fields_table(rows: &[ProxyFigures]) -> String {
    let list = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let mut text = String::from("| | adds to a request | adds to a response |\n|---|---|---|\n");
    for row in rows {
        let _ = writeln!(text, "| {} | {} | {} |", title(row), list(&row.added.request), list(&row.added.response));
    }
    text
}

fn etcd_table(all: &[EtcdFigures]) -> String {
    let mut text = String::from(
        "| services | | start until serving | commit to traffic | CPU per change | CPU per request | memory |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for figures in all {
        let [start, follow, change] = [figures.start, figures.follow, figures.change].map(number);
        let [request, memory] = [figures.request, figures.memory].map(number);
        let (services, name) = (count(figures.services), figures.reader.name());
        let _ = writeln!(
            text,
            "| {services} | {name} | {start} ms | {follow} ms | {change} ms | {request} µs | {memory} MB |"
        );
    }
    text
}

fn broken_table(all: &[Aftermath]) -> String {
    let mut text = String::from(
        "| one route has | | the others are served | they follow changes | they are served after a restart |\n\
         |---|---|---|---|---|\n",
    );
    let answer = |yes| if yes { "yes" } else { "**no**" };
    for outcome in all {
        let [served, follows, restarts] = [outcome.served, outcome.follows, outcome.restarts].map(answer);
        let name = outcome.reader.name();
        let _ = writeln!(text, "| {} | {name} | {served} | {follows} | {restarts} |", outcome.what);
    }
    text
}

/// 10,000 rather than 10000.
fn count(services: usize) -> String {
    match (services / 1_000, services % 1_000) {
        (0, few) => few.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}

fn draw_requests(rows: &[ProxyFigures]) -> io::Result<()> {
    let bars = |values: fn(&ProxyFigures) -> Vec<f64>| -> Vec<Bars> {
        let bars = |row: &ProxyFigures| Bars {
            label: row.name.to_owned(),
            strong: row.name == "Pointsman",
            values: values(row),
        };
        rows.iter().map(bars).collect()
    };
    let series = ["64 connections", "1,000 connections"];
    let requests = svg("CPU per small request, µs", &series, &bars(|row| vec![row.few, row.many]));
    fs::write(format!("{CHARTS}/requests.svg"), requests)?;
    let memory = svg(
        "Memory with 1,000 idle connections, MB",
        &[""],
        &bars(|row| vec![row.start + row.idle * 1_000.0 / 1_024.0]),
    );
    fs::write(format!("{CHARTS}/memory.svg"), memory)
}

fn draw_etcd(all: &[EtcdFigures]) -> io::Result<()> {
    let draw = |name: &str, title: &str, value: fn(&EtcdFigures) -> f64| {
        let bars = |figures: &EtcdFigures| Bars {
            label: format!("{}, {} services", figures.reader.name(), count(figures.services)),
            strong: figures.reader == KeyReader::Pointsman,
            values: vec![value(figures)],
        };
        fs::write(format!("{CHARTS}/{name}.svg"), svg(title, &[""], &all.iter().map(bars).collect::<Vec<_>>()))
    };
    draw("follow", "From the commit of a change to traffic, ms", |figures| figures.follow)?;
    draw("many", "CPU per request by number of services, µs", |figures| figures.request)
}
