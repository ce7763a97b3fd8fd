//! The page of one service: its instances and why they are as they are, its problems, changes and settings.

use ratatui_core::text::{Line, Span};

use super::ink::{Ink, Tone};
use super::lists::{change_lines, problem_lines};
use super::model::{Severity, TopModel, TopRow};
use super::services::tone;
use super::words::{bytes, ms, num, span};
use crate::admin::view::{InstanceView, RuleView, ServiceView};

/// Most changes of the service that are listed.
const MOST_CHANGES: usize = 20;

/// The page of the service `http/shop`.
pub(super) fn service(model: &TopModel, key: &str, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let name = key.split_once('/').map_or(key, |(_, name)| name);
    let told = model.open.answers.back().map(|told| &told.service);
    let Some(row) = model.row(key).filter(|_| !model.open.is_gone) else {
        let words = "There is no such service, or no longer.";
        let mut lines = vec![ink.heading(name, "", width), Line::from(ink.text(Tone::Warn, words)), Line::default()];
        lines.extend(changes(model, key, ink, width));
        return lines;
    };
    let mut lines = head(row, told, ink, width);
    let Some(service) = told else {
        lines.push(Line::from(ink.text(Tone::Muted, "Reading…")));
        return lines;
    };
    if !service.problems.is_empty() {
        lines.push(ink.heading("Problems", "", width));
        lines.extend(service.problems.iter().flat_map(|problem| problem_lines(problem, ink, width)));
        lines.push(Line::default());
    }
    lines.extend(instances(model, service, ink, width));
    lines.push(Line::default());
    lines.extend(changes(model, key, ink, width));
    lines.extend(settings(service, ink, width));
    lines
}

fn head(row: &TopRow, told: Option<&ServiceView>, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let severity = row.severity();
    let state = match severity {
        Severity::Well => "well",
        Severity::Problem => "has a problem",
        Severity::Hurt => "works in part",
        Severity::Down => "down",
    };
    let protocol = if row.is_tcp() { "  tcp  " } else { "  " };
    let title = vec![
        ink.text(Tone::Strong, row.name()),
        ink.text(Tone::Muted, protocol),
        ink.mark(tone(severity)),
        ink.text(tone(severity), state),
    ];
    let rule = told.map_or_else(|| row.rule.clone(), |service| rule(&service.rule));
    let [rate, e4, e5] = row.figures.3.map(f64::from);
    let (active, queue) = (row.figures.6, row.figures.7);
    let up = format!("{}/{}", row.figures.1, row.instances);
    let loud = |is_loud: bool, tone: Tone| if is_loud { tone } else { Tone::Strong };
    let mut items = vec![
        ("", num(rate), " req/s", Tone::Strong),
        ("5xx ", num(e5), "/s", loud(e5 > 0.0, Tone::Bad)),
        ("p99 ", ms(row.figures.5), "", Tone::Strong),
        ("up ", up, "", loud(row.figures.2 > 0 || row.figures.1 == 0, Tone::Bad)),
        ("queue ", num(queue as f64), "", loud(queue > 0, Tone::Warn)),
        ("open ", num(active as f64), "", Tone::Strong),
        ("4xx ", num(e4), "/s", Tone::Strong),
        ("p50 ", ms(row.figures.4), "", Tone::Strong),
    ];
    if let Some(service) = told {
        if service.shed > 0 {
            items.push(("refused, full ", num(service.shed as f64), "", Tone::Warn));
        }
        let retried = service.retried.iter().map(|(reason, count)| format!("{reason} {count}"));
        let retried = retried.collect::<Vec<_>>().join(" ");
        if !retried.is_empty() {
            items.push(("sent again ", retried, "", Tone::Plain));
        }
    }
    let mut lines = vec![Line::from(title), Line::from(ink.text(Tone::Muted, &rule))];
    let mut line = Line::default();
    for (lead, value, end, tone) in items {
        let item = [ink.text(Tone::Muted, lead), ink.text(tone, &value), ink.text(Tone::Muted, end), Span::raw("   ")];
        if line.width() + Line::from(item.to_vec()).width() > width + 3 {
            lines.push(std::mem::take(&mut line));
        }
        line.spans.extend(item);
    }
    lines.extend([line, Line::default()]);
    lines
}

/// `shop.test /cart`, `0.0.0.0:5432`.
fn rule(rule: &RuleView) -> String {
    let path = |path: &String| path.split_once('=').map_or_else(|| path.clone(), |(_, path)| path.to_owned());
    let paths: Vec<_> = rule.paths.iter().map(path).collect();
    let rest = if rule.default { "everything else" } else { "" };
    let parts = [&*rule.listen.join(", "), &*rule.hosts.join(", "), &*paths.join(", "), &*rule.conditions, rest];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// Titles and widths of the columns of figures.
const FIGURES: [(&str, usize); 6] = [("req/s", 8), ("5xx/s", 8), ("open", 8), ("weight", 10), ("total", 9), ("out", 9)];

fn instances(model: &TopModel, service: &ServiceView, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let longest = |of: fn(&InstanceView) -> usize| service.instances.iter().map(of).max().unwrap_or(0);
    let named = (longest(|one| one.name.chars().count()) + 2).clamp(10, (width / 4).max(10));
    let placed = (longest(|one| one.target.chars().count()) + 2).clamp(8, (width / 3).max(8));
    let mut room = width.saturating_sub(2 + named + placed + 16);
    let columns = FIGURES.iter().take_while(|(_, wide)| {
        let fits = room >= *wide;
        room = room.saturating_sub(*wide);
        fits
    });
    let columns: Vec<_> = columns.collect();
    let head = ink.left(Tone::Strong, "Instances", 2 + named + placed + 16);
    let titles = columns.iter().map(|(title, wide)| ink.right(Tone::Muted, title, *wide));
    let mut lines = vec![Line::from([head].into_iter().chain(titles).collect::<Vec<_>>())];
    for one in &service.instances {
        let tone = match &*one.state {
            "up" => Tone::Good,
            "backup" => Tone::Muted,
            "down" => Tone::Bad,
            _ => Tone::Warn,
        };
        let since = one.since.map(|since| format!(" {}", span(model.ago(since * 1000)))).unwrap_or_default();
        let lead = [
            ink.mark(tone),
            ink.left(Tone::Strong, &one.name, named),
            ink.left(Tone::Muted, &one.target, placed),
            ink.left(tone, &format!("{}{since}", one.state), 16),
        ];
        let figures = figures(model, one);
        let cells = columns.iter().zip(&figures).map(|((_, wide), (text, tone))| ink.right(*tone, text, *wide));
        lines.push(Line::from(lead.into_iter().chain(cells).collect::<Vec<_>>()));
        lines.extend(whys(model, one, ink));
    }
    if service.instances.is_empty() {
        lines.push(Line::from(ink.text(Tone::Warn, "none")));
    }
    lines
}

/// In the order of [`FIGURES`].
fn figures(model: &TopModel, one: &InstanceView) -> [(String, Tone); 6] {
    let quiet = |is_zero: bool, tone: Tone| if is_zero { Tone::Muted } else { tone };
    let weight = match one.weight_now {
        Some(now) => format!("{} of {}", num(now), one.weight),
        None => one.weight.to_string(),
    };
    let [rate, e5] = model.open.rates(one).unwrap_or_default();
    let open = match one.max_connections {
        Some(most) => format!("{} of {most}", one.active),
        None => one.active.to_string(),
    };
    [
        (num(rate), quiet(rate <= 0.0, Tone::Plain)),
        (num(e5), quiet(e5 <= 0.0, Tone::Bad)),
        (open, quiet(one.active == 0, Tone::Plain)),
        (weight, Tone::Plain),
        (num(one.requests as f64), Tone::Muted),
        (bytes(one.bytes_out), Tone::Muted),
    ]
}

/// Why it is as it is, its last error, its last check.
fn whys(model: &TopModel, one: &InstanceView, ink: Ink) -> Vec<Line<'static>> {
    let line = |tone: Tone, text: &str| Line::from(ink.text(tone, &format!("    {text}")));
    let ago = |at: Option<u64>| at.map(|at| format!(", {} ago", span(model.ago(at * 1000)))).unwrap_or_default();
    let why = one.why.as_ref().map(|why| line(Tone::Warn, why));
    let panic = one.in_panic.then(|| line(Tone::Warn, "it gets work all the same: too few instances are healthy"));
    let error = one.last_error.as_ref();
    let error = error.map(|error| line(Tone::Plain, &format!("last error: {error}{}", ago(one.last_error_at))));
    let took = one.check_ms.map(|took| format!(", {took} ms")).unwrap_or_default();
    let check = one.check.as_ref().map(|check| line(Tone::Muted, &format!("check: {check}{took}{}", ago(one.checked))));
    [why, panic, error, check].into_iter().flatten().collect()
}

fn changes(model: &TopModel, key: &str, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let tree = key.replacen("http/", "services/", 1).replacen("tcp/", "tcp-services/", 1);
    let is_own =
        |changed: &str| changed.strip_prefix(&*tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let each = model.changes.iter().take(MOST_CHANGES);
    let lines = each.flat_map(|change| {
        let keys: Vec<_> = change.keys.iter().filter(|changed| is_own(&changed.key)).collect();
        let is_any = !keys.is_empty();
        change_lines(model, change, keys, ink).into_iter().filter(move |_| is_any)
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    [ink.heading("What changed", "", width)].into_iter().chain(lines).chain([Line::default()]).collect()
}

fn settings(service: &ServiceView, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let some = [
        ("balance", Some(service.balance.clone())),
        ("bounded", service.bounded.clone()),
        ("slow_start", service.slow_start.clone()),
        ("eject", service.eject.clone()),
        ("panic", service.panic.clone()),
        ("http_version", service.http_version.clone()),
        ("dns", service.dns.clone()),
        ("client_verify", service.client_verify.clone()),
    ];
    let own = some.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let all = own.chain(service.bounds.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut lines = vec![ink.heading("Settings", "", width)];
    lines.extend(
        all.map(|(name, value)| Line::from(vec![ink.left(Tone::Muted, &name, 24), ink.text(Tone::Plain, &value)])),
    );
    lines
}
