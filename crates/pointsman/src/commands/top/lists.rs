//! The pages that are text: what needs attention, changes, certificates, the fleet. Each line is made whole; the frame cuts.

use ratatui_core::text::{Line, Span};

use super::ink::{Ink, Tone, wrapped};
use super::message::{ChangeTold, DownTold, KeyTold};
use super::model::TopModel;
use super::words::{day, ms, plural, span};
use crate::admin::view::ProblemView;

/// Certificates that expire within so many seconds need somebody.
const SOON: i64 = 14 * 86_400;
/// Width of an age: "120 min ago".
const AGE: usize = 12;

/// `2 instances down, 1 problem`; `None`: all is well.
pub(super) fn summary(model: &TopModel) -> Option<String> {
    let down = model.figures.as_ref().map_or(model.down.len(), |now| now.5[2] as usize);
    let down = (down > 0).then(|| format!("{} down", plural(down, "instance")));
    let problems = (model.problems.count > 0).then(|| plural(model.problems.count, "problem"));
    let all: Vec<_> = down.into_iter().chain(problems).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A heading and an empty line; then every instance that is down, and every problem with what would be right.
pub(super) fn attention(model: &TopModel, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let words = summary(model).unwrap_or_else(|| "nothing".to_owned());
    let mut lines = vec![ink.heading("Needs attention", &words, width), Line::default()];
    lines.extend(model.down.iter().flat_map(|down| down_lines(model, down, ink)));
    lines.extend(model.problems.list.iter().flat_map(|problem| problem_lines(problem, ink, width)));
    let more = model.problems.count - model.problems.list.len().min(model.problems.count);
    if more > 0 {
        let words = format!("{} at /api/problems", plural(more, "more problem"));
        lines.push(Line::from(ink.text(Tone::Muted, &words)));
    }
    lines
}

fn down_lines(model: &TopModel, down: &DownTold, ink: Ink) -> [Line<'static>; 1] {
    let since = down.since.map(|since| format!(" for {}", span(model.ago(since * 1000)))).unwrap_or_default();
    let service = down.service.split_once('/').map_or(&*down.service, |(_, name)| name);
    let why = down.why.as_deref().or(down.error.as_deref()).unwrap_or_default();
    let spans = vec![
        ink.mark(Tone::Bad),
        ink.text(Tone::Strong, &format!("{service}/{}", down.name)),
        ink.text(Tone::Muted, &format!("  {}  ", down.target)),
        ink.text(Tone::Bad, &format!("{}{since}  ", down.state)),
        ink.text(Tone::Plain, why),
    ];
    [Line::from(spans)]
}

/// The key, its value, and below what would be right.
pub(super) fn problem_lines(problem: &ProblemView, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let value = problem.value.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
    let kind = format!("  {}", problem.kind.replace('_', " "));
    let first = [
        ink.mark(Tone::Warn),
        ink.text(Tone::Strong, &problem.key),
        ink.text(Tone::Plain, &value),
        ink.text(Tone::Muted, &kind),
    ];
    let advice = wrapped(&problem.advice, width.saturating_sub(4));
    let advice = advice.iter().map(|line| Line::from(ink.text(Tone::Plain, &format!("  {line}"))));
    [Line::from(first.to_vec())].into_iter().chain(advice).collect()
}

/// A heading; then the changes, newest first; at most so many lines of them.
pub(super) fn changes(model: &TopModel, ink: Ink, width: usize, most: Option<usize>) -> Vec<Line<'static>> {
    let words = format!("the last {}", model.changes.len());
    let heading = match most {
        Some(_) => ink.heading("What changed", "", width),
        None => ink.heading("What changed", &words, width),
    };
    let gap = most.is_none().then(Line::default);
    let lines = model.changes.iter().flat_map(|change| change_lines(model, change, &change.keys, ink));
    [heading].into_iter().chain(gap).chain(lines.take(most.unwrap_or(usize::MAX))).collect()
}

/// One line for each of these keys of a change.
pub(super) fn change_lines<'k>(
    model: &TopModel,
    change: &ChangeTold,
    keys: impl IntoIterator<Item = &'k KeyTold>,
    ink: Ink,
) -> Vec<Line<'static>> {
    let age = format!("{} ago", span(model.ago(change.at)));
    let lead = |is_first: bool| {
        let (age, revision) = if is_first { (age.clone(), change.revision.to_string()) } else { Default::default() };
        [ink.left(Tone::Muted, &age, AGE), ink.left(Tone::Muted, &revision, revision.len().max(6) + 2)]
    };
    let mut lines = Vec::new();
    if change.first {
        let words = format!("started with {}", plural(change.places, "service"));
        lines.push(Line::from(lead(true).into_iter().chain([ink.text(Tone::Muted, &words)]).collect::<Vec<_>>()));
    }
    for key in keys {
        let lead = lead(lines.is_empty());
        lines.push(Line::from(lead.into_iter().chain(key_spans(key, ink)).collect::<Vec<_>>()));
    }
    if change.more > 0 {
        let words = plural(change.more, "more key");
        lines.push(Line::from(
            lead(lines.is_empty()).into_iter().chain([ink.text(Tone::Muted, &words)]).collect::<Vec<_>>(),
        ));
    }
    let served = match change.served {
        Some(served) => {
            ink.text(Tone::Muted, &format!("  served after {}", ms(Some(served.saturating_sub(change.at) as f32))))
        }
        None => ink.text(Tone::Warn, "  not served yet"),
    };
    if let Some(first) = lines.first_mut() {
        first.spans.push(served);
    }
    lines
}

fn key_spans(key: &KeyTold, ink: Ink) -> Vec<Span<'static>> {
    let (before, after) = (key.before.as_deref().unwrap_or_default(), key.after.as_deref().unwrap_or_default());
    let value = match (&*key.fate, key.secret) {
        (_, true) => "hidden".to_owned(),
        ("added", _) => after.to_owned(),
        ("removed", _) => before.to_owned(),
        _ => format!("{before} → {after}"),
    };
    let (sign, tone) = match &*key.fate {
        "added" => ("+ ", Tone::Good),
        "removed" => ("- ", Tone::Bad),
        _ => ("~ ", Tone::Accent),
    };
    vec![ink.text(tone, sign), ink.text(Tone::Plain, &key.key), ink.text(Tone::Muted, &format!("  {value}"))]
}

/// The certificates, the first to expire on top.
pub(super) fn certificates(model: &TopModel, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let count = plural(model.certificates.len(), "certificate");
    let mut lines = vec![ink.heading("Certificates", &count, width), Line::default()];
    let now = i64::try_from(model.now / 1000).unwrap_or(i64::MAX);
    let left = |seconds: i64| span(seconds.unsigned_abs());
    let named = (width / 3).clamp(12, 36);
    for one in &model.certificates {
        let (tone, words) = match () {
            () if one.valid > now => (Tone::Warn, format!("valid in {}", left(one.valid - now))),
            () if one.expires < now => (Tone::Bad, format!("expired {} ago", left(now - one.expires))),
            () if one.expires - now < SOON => (Tone::Warn, format!("{} left", left(one.expires - now))),
            () => (Tone::Good, format!("{} left", left(one.expires - now))),
        };
        let spans = vec![
            ink.mark(tone),
            ink.left(Tone::Strong, &one.name, named),
            ink.left(tone, &format!(" {words}"), 20),
            ink.left(Tone::Muted, &day(one.expires), 12),
            ink.text(Tone::Muted, &one.names.join(", ")),
        ];
        lines.push(Line::from(spans));
    }
    if model.certificates.is_empty() {
        lines.push(Line::from(ink.text(Tone::Muted, "This balancer has no certificates.")));
    }
    lines
}

/// The balancers of the prefix, and the store.
pub(super) fn fleet(model: &TopModel, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let (fleet, meta) = (&model.fleet, &model.meta);
    let read = match fleet.at {
        0 => "not read yet".to_owned(),
        at => {
            format!("{} of {}, read {} ago", plural(fleet.members.len(), "balancer"), meta.prefix, span(model.ago(at)))
        }
    };
    let mut lines = vec![ink.heading("Fleet", &read, width), Line::default()];
    if let Some(error) = &fleet.error {
        lines.push(Line::from(ink.text(Tone::Bad, &format!("cannot be read: {error}"))));
    }
    let named = fleet.members.iter().map(|member| member.name.chars().count() + 2).max().unwrap_or(0).clamp(12, 30);
    let head = [("", 2), ("balancer", named), ("state", 12), ("revision", 10), ("down", 6), ("problems", 10)];
    let head = head.map(|(title, wide)| ink.left(Tone::Muted, title, wide)).into_iter();
    lines.push(Line::from(head.chain([ink.text(Tone::Muted, "engine, addresses")]).collect::<Vec<_>>()));
    for one in &fleet.members {
        let (tone, state) = match (&one.store, &*one.stage) {
            (Some(_), _) => (Tone::Bad, "store lost"),
            (None, "serving") => (Tone::Good, "serving"),
            (None, stage) => (Tone::Warn, stage),
        };
        let count = |count: usize, tone: Tone, wide: usize| {
            ink.left(if count > 0 { tone } else { Tone::Muted }, &count.to_string(), wide)
        };
        let is_behind = model.is_behind(one.revision);
        let own = if one.name == meta.name { " (this one)" } else { "" };
        let last_good =
            if one.last_good > 0 { format!(", {} with last good settings", one.last_good) } else { String::new() };
        let admin = one.admin.as_ref().map(|admin| format!(", admin {admin}")).unwrap_or_default();
        let rest = format!("{} {}{own}  {}{admin}{last_good}", one.engine, one.version, one.listens.join(", "));
        let spans = vec![
            ink.mark(tone),
            ink.left(Tone::Strong, &one.name, named),
            ink.left(tone, state, 12),
            ink.left(if is_behind { Tone::Warn } else { Tone::Plain }, &one.revision.to_string(), 10),
            count(one.down, Tone::Bad, 6),
            count(one.problems, Tone::Warn, 10),
            ink.text(Tone::Muted, &rest),
        ];
        lines.push(Line::from(spans));
    }
    lines.push(Line::default());
    let store = meta.via.clone().unwrap_or_else(|| meta.store.join(", "));
    let kept = if meta.kept { "kept" } else { "not kept" };
    for (name, value) in [
        ("store", store),
        ("revision read", meta.revision.to_string()),
        ("revision served", meta.applied.to_string()),
        ("engine", format!("{} {}", meta.engine, meta.version)),
        ("status in store", kept.to_owned()),
    ] {
        lines.push(Line::from(vec![ink.left(Tone::Muted, name, 18), ink.text(Tone::Plain, &value)]));
    }
    lines
}
