//! One frame: where what stands. A pure function of the model and of what is looked at.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::text::{Line, Span};

use super::detail::service;
use super::ink::{Ink, Tone, put, put_all};
use super::lists::{attention, certificates, changes, fleet};
use super::model::{Link, TopModel};
use super::services::overview;
use super::view::{Laid, TOP_PAGES, TopPage, TopView};
use super::words::{bars, ms, num, span};

/// From this height on, parts are set apart and the pages are named.
const TALL: u16 = 18;
/// From this width on, figures have room.
const WIDE: usize = 60;
/// From this height on, there are graphs.
const GRAPHS: u16 = 32;
/// Certificates that expire within so many seconds need somebody.
const SOON: i64 = 14 * 86_400;

/// Draws a frame, and says how it was laid out.
pub(super) fn render(model: &TopModel, view: &TopView, ink: Ink, buffer: &mut Buffer) -> Laid {
    let whole = buffer.area;
    let margin = u16::from(whole.width > 2);
    let area = Rect { x: whole.x + margin, width: whole.width - 2 * margin, ..whole };
    let head = head(model, view, ink, area);
    put_all(buffer, area, &head);
    let footer = u16::from(!view.is_still && area.height > 1);
    let used = u16::try_from(head.len()).unwrap_or(u16::MAX).min(area.height - footer);
    let body = Rect { y: area.y + used, height: area.height - used - footer, ..area };
    if footer > 0 {
        let last = Rect { y: area.y + area.height - 1, height: 1, ..area };
        buffer.set_style(last, ratatui_core::style::Style::reset());
        put(buffer, last, 0, &footing(model, view, ink, area.width.into()));
    }
    if view.is_help {
        put_all(buffer, body, &help(ink));
        return view.laid;
    }
    if model.heard == 0 {
        return view.laid;
    }
    if view.page == TopPage::Services && view.open.is_none() {
        return overview(model, view, ink, (buffer, body));
    }
    let lines = text(model, view, ink, body.width.into());
    let laid = view.laid.text(body.height.into(), lines.len());
    put_all(buffer, body, &lines[laid.first..]);
    laid
}

fn text(model: &TopModel, view: &TopView, ink: Ink, width: usize) -> Vec<Line<'static>> {
    match (&view.open, view.page) {
        (Some(key), _) => service(model, key, ink, width),
        (None, TopPage::Attention) => attention(model, ink, width),
        (None, TopPage::Changes) => changes(model, ink, width, None),
        (None, TopPage::Certificates) => certificates(model, ink, width),
        (None, TopPage::Fleet | TopPage::Services) => fleet(model, ink, width),
    }
}

/// The name, what makes the figures doubtful, the pages, the figures.
fn head(model: &TopModel, view: &TopView, ink: Ink, area: Rect) -> Vec<Line<'static>> {
    let (width, is_tall) = (usize::from(area.width), area.height >= TALL);
    let mut lines = vec![title(model, view, ink, width)];
    for (tone, text) in doubts(model) {
        // Without figures, or with room for them, nothing of it is cut.
        let parts = if model.heard == 0 || is_tall { wrapped(&text, width.saturating_sub(2)) } else { vec![text] };
        for (number, part) in parts.iter().enumerate() {
            let mark = if number == 0 { ink.mark(tone) } else { Span::raw("  ") };
            lines.push(Line::from(vec![mark, ink.text(tone, part)]));
        }
    }
    if model.heard == 0 {
        return lines;
    }
    if is_tall && !view.is_still {
        lines.push(pages(model, view, ink));
    }
    if is_tall {
        lines.push(Line::default());
    }
    lines.push(figures(model, ink, width));
    if area.height >= GRAPHS && view.page == TopPage::Services && view.open.is_none() && !model.past.is_empty() {
        lines.push(Line::default());
        lines.extend(graphs(model, ink, width));
    }
    if is_tall {
        lines.push(Line::default());
    }
    lines
}

fn title(model: &TopModel, view: &TopView, ink: Ink, width: usize) -> Line<'static> {
    let meta = &model.meta;
    let (tone, word) = match &model.link {
        _ if view.is_paused => (Tone::Warn, "paused"),
        Link::Connecting => (Tone::Muted, "connecting"),
        Link::Live => (Tone::Good, "live"),
        Link::Lost(_) => (Tone::Bad, "not connected"),
        Link::Refused(_) => (Tone::Warn, "too many pages"),
    };
    let mut right = vec![ink.mark(tone), ink.text(Tone::Plain, word)];
    if model.heard > 0 {
        let (tone, word) = match &*meta.state {
            "watching" => (Tone::Good, "store"),
            "lost" => (Tone::Bad, "store lost"),
            _ => (Tone::Warn, "no store yet"),
        };
        let revision = format!(" {}  ", meta.applied);
        right.splice(0..0, [ink.mark(tone), ink.text(Tone::Plain, word), ink.text(Tone::Muted, &revision)]);
    }
    let right = Line::from(right);
    let name = if meta.name.is_empty() { &*model.asked } else { &*meta.name };
    let mut left = vec![ink.text(Tone::Strong, name), Span::raw("  ")];
    left.push(ink.text(Tone::Muted, &meta.prefix));
    let left = Line::from(left);
    let room = width.saturating_sub(right.width() + 1);
    // On a narrow terminal the name alone, cut if it must be.
    let left = if left.width() <= room { left } else { Line::from(ink.left(Tone::Strong, name, room)) };
    let gap = " ".repeat(width.saturating_sub(left.width() + right.width()));
    let spans = left.spans.into_iter().chain([Span::raw(gap)]).chain(right.spans);
    Line::from(spans.collect::<Vec<_>>())
}

/// Lines of at most this width, but for longer words.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What makes the figures below doubtful.
fn doubts(model: &TopModel) -> Vec<(Tone, String)> {
    let (meta, mut doubts) = (&model.meta, Vec::new());
    let old = match model.heard {
        0 => String::new(),
        heard => format!(" Figures of {} ago.", span(model.ago(heard))),
    };
    match &model.link {
        Link::Lost(said) => {
            doubts.push((Tone::Bad, format!("{} does not answer: {said}.{old} Trying again.", model.asked)))
        }
        Link::Refused(said) => doubts.push((Tone::Warn, format!("{said}.{old} Trying again."))),
        Link::Connecting if model.heard == 0 => doubts.push((Tone::Muted, format!("Connecting to {}", model.asked))),
        Link::Connecting | Link::Live => {}
    }
    let error = meta.error.as_deref().unwrap_or_default();
    match &*meta.state {
        "lost" => {
            let (since, revision) = (span(model.ago(meta.since)), meta.applied);
            doubts.push((Tone::Bad, format!("Store lost {since} ago, revision {revision} is served on: {error}")));
        }
        "connecting" => doubts.push((Tone::Warn, format!("The store was not reached yet. {error}"))),
        _ => doubts.extend(meta.unready.as_ref().map(|why| (Tone::Warn, format!("Not ready: {why}")))),
    }
    doubts
}

fn pages(model: &TopModel, view: &TopView, ink: Ink) -> Line<'static> {
    let now = i64::try_from(model.now / 1000).unwrap_or(i64::MAX);
    let soon = model.certificates.iter().filter(|one| one.expires - now < SOON).count();
    let members = &model.fleet.members;
    let apart =
        members.iter().filter(|one| one.stage != "serving" || one.store.is_some() || model.is_behind(one.revision));
    let mut spans = Vec::new();
    for (number, page) in (1..).zip(TOP_PAGES) {
        let (name, count, is_bad) = match page {
            TopPage::Services => ("Services", model.rows.len(), false),
            TopPage::Attention => ("Attention", model.down.len() + model.problems.count, true),
            TopPage::Changes => ("Changes", model.changes.len(), false),
            TopPage::Certificates => ("Certificates", soon, true),
            TopPage::Fleet => ("Fleet", apart.clone().count(), true),
        };
        let is_here = view.page == page;
        spans.push(ink.text(Tone::Muted, &format!("{number} ")));
        spans.push(ink.text(if is_here { Tone::Accent } else { Tone::Plain }, name));
        let tone = if is_bad { Tone::Warn } else { Tone::Muted };
        let count = if count > 0 { format!(" {count}") } else { String::new() };
        spans.extend([ink.text(tone, &count), Span::raw("  ")]);
    }
    let underlined = ratatui_core::style::Modifier::UNDERLINED;
    let here = TOP_PAGES.iter().position(|page| *page == view.page).unwrap_or(0);
    spans[here * 4 + 1].style = spans[here * 4 + 1].style.add_modifier(underlined);
    Line::from(spans)
}

/// The figures of all services, the most telling first: what does not fit is left out whole.
fn figures(model: &TopModel, ink: Ink, width: usize) -> Line<'static> {
    let Some(super::message::NowTold(rates, p50, p99, active, open, [up, all, down])) = &model.figures else {
        return Line::default();
    };
    let [requests, connections, e4, e5, ..] = rates.map(f64::from);
    let is_wide = width >= WIDE;
    let share = || format!(" ({} %)", num((e5 / requests * 100.0).min(100.0)));
    let share = if is_wide && requests > 0.0 && e5 > 0.0 { share() } else { String::new() };
    let tone = |is_bad: bool, tone: Tone| if is_bad { tone } else { Tone::Strong };
    let items = [
        ("", num(requests), " req/s".to_owned(), Tone::Strong),
        ("5xx ", num(e5), format!("/s{share}"), tone(e5 > 0.0, Tone::Bad)),
        ("p99 ", ms(*p99), String::new(), Tone::Strong),
        ("up ", format!("{up}/{all}"), String::new(), tone(*down > 0, Tone::Bad)),
        ("4xx ", num(e4), "/s".to_owned(), Tone::Strong),
        ("p50 ", ms(*p50), String::new(), Tone::Strong),
        ("open ", num(*active as f64), String::new(), Tone::Strong),
        ("clients ", num(*open as f64), String::new(), Tone::Strong),
        ("tcp ", num(connections), "/s".to_owned(), Tone::Strong),
    ];
    let mut line = Line::default();
    for (lead, value, end, tone) in items {
        if lead == "tcp " && connections <= 0.0 {
            continue;
        }
        let gap = match line.spans.is_empty() {
            true => "",
            false if is_wide => "   ",
            false => "  ",
        };
        let item = Line::from(vec![
            Span::raw(gap),
            ink.text(Tone::Muted, lead),
            ink.text(tone, &value),
            ink.text(Tone::Muted, &end),
        ]);
        if line.width() + item.width() > width {
            break;
        }
        line.spans.extend(item.spans);
    }
    line
}

/// The last minutes of all services.
fn graphs(model: &TopModel, ink: Ink, width: usize) -> Vec<Line<'static>> {
    const LABEL: usize = 10;
    const PEAK: usize = 14;
    let room = width.saturating_sub(LABEL + PEAK).min(model.past.len().max(24));
    let points = || model.past.iter();
    let line = |name: &str, tone: Tone, bars: String, most: String| {
        let most = ink.text(Tone::Muted, &format!(" most {most}"));
        Line::from(vec![ink.left(Tone::Muted, name, LABEL), ink.text(tone, &bars), most])
    };
    let most = |of: fn(&super::message::PointTold) -> f32| points().rev().take(room).map(of).fold(0.0, f32::max);
    let (rate, e5, p99) = (most(|point| point.1[0]), most(|point| point.1[3]), most(|point| point.3.unwrap_or(0.0)));
    let values = |of: fn(&super::message::PointTold) -> f32| bars(points().map(of), room);
    let minutes = room as u64 * 5 / 60;
    vec![
        ink.heading("Traffic", &format!("the last {minutes} min"), width),
        line("requests", Tone::Accent, values(|point| point.1[0]), format!("{}/s", num(rate.into()))),
        line("5xx", Tone::Bad, values(|point| point.1[3]), format!("{}/s", num(e5.into()))),
        line("p99", Tone::Accent, values(|point| point.3.unwrap_or(0.0)), ms(Some(p99))),
    ]
}

/// The last line: the filter while it is typed, else the keys.
fn footing(model: &TopModel, view: &TopView, ink: Ink, width: usize) -> Line<'static> {
    if view.is_typing {
        let found = format!("   {} of {}", view.order.len(), model.rows.len());
        let typed = ink.text(Tone::Strong, &view.filter);
        let rest = ink.text(Tone::Muted, &format!("{found}   Enter keeps it, Esc clears it"));
        return Line::from(vec![ink.text(Tone::Accent, "/"), typed, ink.text(Tone::Accent, "▏"), rest]);
    }
    let items: &[(&str, &str)] = match (view.open.is_some(), view.page) {
        _ if view.is_help => &[("any key", "back"), ("q", "quit")],
        (true, _) => &[("Esc", "back"), ("↑↓", "scroll"), ("p", "pause"), ("?", "help"), ("q", "quit")],
        (false, TopPage::Services) => &[
            ("?", "help"),
            ("q", "quit"),
            ("/", "filter"),
            ("Enter", "open"),
            ("s", "sort"),
            ("Tab", "page"),
            ("p", "pause"),
        ],
        (false, _) => {
            &[("Esc", "back"), ("↑↓", "scroll"), ("Tab", "page"), ("p", "pause"), ("?", "help"), ("q", "quit")]
        }
    };
    let mut line = Line::default();
    for (key, what) in items {
        let item = Line::from(vec![ink.text(Tone::Accent, key), ink.text(Tone::Muted, &format!(" {what}  "))]);
        if line.width() + item.width() > width + 2 {
            break;
        }
        line.spans.extend(item.spans);
    }
    line
}

/// The keys, for help here and nowhere else.
const KEYS: &[(&str, &str)] = &[
    ("↑ ↓ j k", "next and previous service; scroll"),
    ("PgUp PgDn", "a screen up, down; Home and End"),
    ("Enter", "open the service"),
    ("Esc", "back; clear the filter"),
    ("/", "filter: words in name, rule, instance"),
    ("s S r", "next, previous order; reverse it"),
    ("Tab 1-5", "the pages"),
    ("p", "pause: the figures stand still"),
    ("Ctrl-Z", "to the shell; fg comes back"),
    ("q Ctrl-C", "quit"),
];

fn help(ink: Ink) -> Vec<Line<'static>> {
    let row =
        |(keys, what): &(&str, &str)| Line::from(vec![ink.left(Tone::Accent, keys, 11), ink.text(Tone::Plain, what)]);
    KEYS.iter().map(row).collect()
}
