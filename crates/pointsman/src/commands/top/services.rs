//! The page of all services: what needs attention, the list, the last changes. Draws only the rows that are seen.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::text::{Line, Span};

use super::ink::{Ink, Tone, pick, put, put_all};
use super::lists::{attention, changes, summary};
use super::message::FiguresTold;
use super::model::{Severity, TopModel, TopRow};
use super::order::Sort;
use super::view::{Laid, TopView};
use super::words::{bars, ms, num, plural};

/// From this height of the page on, attention and changes have places of their own.
const ROOMY: u16 = 14;
/// Narrowest name with its rule; it gets two fifths of a wider page. And the widest name before the rule begins.
const NAME: usize = 16;
const WIDEST: usize = 32;
/// Width of the small graph of a service.
const TRAIL: usize = 14;

/// A column of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Figure(Sort),
    Trail,
}

/// The columns, the most telling first: the last are left out where there is no room.
const BY_WORTH: [Column; 9] = [
    Column::Figure(Sort::Up),
    Column::Figure(Sort::E5),
    Column::Figure(Sort::Rate),
    Column::Figure(Sort::P99),
    Column::Figure(Sort::Queue),
    Column::Figure(Sort::Open),
    Column::Figure(Sort::E4),
    Column::Figure(Sort::P50),
    Column::Trail,
];
/// The columns from left to right.
const IN_PLACE: [Column; 9] = [
    Column::Figure(Sort::Up),
    Column::Trail,
    Column::Figure(Sort::Rate),
    Column::Figure(Sort::E4),
    Column::Figure(Sort::E5),
    Column::Figure(Sort::P50),
    Column::Figure(Sort::P99),
    Column::Figure(Sort::Open),
    Column::Figure(Sort::Queue),
];

impl Column {
    fn width(self) -> usize {
        match self {
            Self::Trail => TRAIL + 2,
            Self::Figure(Sort::Up | Sort::Open | Sort::Queue | Sort::E4 | Sort::E5) => 7,
            Self::Figure(_) => 8,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Trail => "",
            Self::Figure(Sort::Up) => "up",
            Self::Figure(Sort::Rate) => "req/s",
            Self::Figure(Sort::E4) => "4xx/s",
            Self::Figure(Sort::E5) => "5xx/s",
            Self::Figure(Sort::P50) => "p50",
            Self::Figure(Sort::P99) => "p99",
            Self::Figure(Sort::Open) => "open",
            Self::Figure(Sort::Queue) => "queue",
            Self::Figure(Sort::Hurts | Sort::Name) => "service",
        }
    }

    fn cell(self, row: &TopRow, ink: Ink) -> Span<'static> {
        let FiguresTold(_, up, down, [rate, e4, e5], p50, p99, active, queue, ..) = row.figures;
        let quiet = |is_zero: bool, tone: Tone| if is_zero { Tone::Muted } else { tone };
        let (text, tone) = match self {
            Self::Trail => (format!("  {}", bars(row.trail.iter().copied(), TRAIL)), Tone::Accent),
            Self::Figure(Sort::Rate) => (num(rate.into()), quiet(rate <= 0.0, Tone::Plain)),
            Self::Figure(Sort::E4) => (num(e4.into()), quiet(e4 <= 0.0, Tone::Plain)),
            Self::Figure(Sort::E5) => (num(e5.into()), quiet(e5 <= 0.0, Tone::Bad)),
            Self::Figure(Sort::P50) => (ms(p50), quiet(p50.is_none(), Tone::Plain)),
            Self::Figure(Sort::P99) => (ms(p99), quiet(p99.is_none(), Tone::Plain)),
            Self::Figure(Sort::Open) => (num(active as f64), quiet(active == 0, Tone::Plain)),
            Self::Figure(Sort::Queue) => (num(queue as f64), quiet(queue == 0, Tone::Warn)),
            Self::Figure(Sort::Up | Sort::Hurts | Sort::Name) => {
                let is_short = down > 0 || up == 0;
                (format!("{up}/{}", row.instances), if is_short { Tone::Bad } else { Tone::Plain })
            }
        };
        ink.right(tone, &text, self.width())
    }
}

/// Draws the page.
pub(super) fn overview(model: &TopModel, view: &TopView, ink: Ink, (buffer, area): (&mut Buffer, Rect)) -> Laid {
    let width = usize::from(area.width);
    let above = needs(model, ink, area);
    put_all(buffer, area, &above);
    let below = news(model, ink, area);
    let [above, under] = [above.len(), below.len()].map(|count| u16::try_from(count).unwrap_or(u16::MAX));
    let above = above.min(area.height);
    let rest = area.height - above;
    let shown = if under < rest / 2 { under } else { 0 };
    let list = Rect { y: area.y + above, height: rest - shown, ..area };
    let foot = Rect { y: area.y + area.height - shown, height: shown, ..area };
    put_all(buffer, foot, &below);
    let columns = columns(width);
    put(buffer, list, 0, &heads(model, view, ink, (&columns, width)));
    let rows = Rect { y: list.y + 1.min(list.height), height: list.height.saturating_sub(1), ..list };
    let at = view.at(model);
    let laid = view.laid.around(at, rows.height.into(), view.order.len());
    let seen: Vec<_> = view.order.iter().skip(laid.first).take(laid.room).filter_map(|n| model.rows.get(n)).collect();
    let longest = seen.iter().map(|row| row.name().len() + 2).max().unwrap_or(0);
    for (place, row) in seen.iter().enumerate() {
        put(buffer, rows, place, &line(row, ink, (&columns, width, longest)));
    }
    if seen.is_empty() {
        let words = if model.rows.is_empty() { "There are no services yet." } else { "No service matches." };
        put(buffer, rows, 0, &Line::from(ink.text(Tone::Muted, words)));
    } else if !view.is_still {
        pick(buffer, rows, at - laid.first);
    }
    laid
}

/// What somebody should look at: the first of it, or a line where there is little room.
fn needs(model: &TopModel, ink: Ink, area: Rect) -> Vec<Line<'static>> {
    let Some(words) = summary(model) else { return Vec::new() };
    if area.height < ROOMY {
        let tone = if model.down.is_empty() { Tone::Warn } else { Tone::Bad };
        return if area.height < 6 {
            Vec::new()
        } else {
            vec![Line::from(vec![ink.mark(tone), ink.text(tone, &words)])]
        };
    }
    let width = usize::from(area.width);
    let mut lines = vec![ink.heading("Needs attention", &words, width)];
    let all = attention(model, ink, width);
    let room = usize::from(area.height / 4);
    lines.extend(all.into_iter().skip(2).filter(|line| !line.spans.is_empty()).take(room));
    lines.push(Line::default());
    lines
}

/// The last changes.
fn news(model: &TopModel, ink: Ink, area: Rect) -> Vec<Line<'static>> {
    if area.height < ROOMY + 4 || model.changes.is_empty() {
        return Vec::new();
    }
    let width = usize::from(area.width);
    let room = usize::from(area.height / 5);
    let lines = changes(model, ink, width, Some(room));
    [Line::default()].into_iter().chain(lines).collect()
}

fn columns(width: usize) -> Vec<Column> {
    let (mut left, mut kept) = (width.saturating_sub(NAME.max(width * 2 / 5)), Vec::new());
    for column in BY_WORTH {
        // The small graph only beside names and rules that have room.
        let least = if column == Column::Trail { 8 } else { 0 };
        if left < column.width() + least {
            break;
        }
        left -= column.width();
        kept.push(column);
    }
    IN_PLACE.into_iter().filter(|column| kept.contains(column)).collect()
}

fn heads(model: &TopModel, view: &TopView, ink: Ink, (columns, width): (&[Column], usize)) -> Line<'static> {
    let way = if view.is_reversed { "↑" } else { "↓" };
    let figures: usize = columns.iter().map(|column| column.width()).sum();
    let filter = match &*view.filter {
        "" => String::new(),
        filter => format!("  {} of {}: {filter}", view.order.len(), model.rows.len()),
    };
    let by = match view.sort {
        Sort::Hurts | Sort::Name => format!(" {way} {}", view.sort.words()),
        _ => String::new(),
    };
    let mut spans = vec![ink.left(Tone::Strong, &format!("Services{by}{filter}"), width - figures)];
    for column in columns {
        let is_sort = *column == Column::Figure(view.sort);
        let title = if is_sort { format!("{way}{}", column.title()) } else { column.title().to_owned() };
        spans.push(ink.right(if is_sort { Tone::Accent } else { Tone::Muted }, &title, column.width()));
    }
    Line::from(spans)
}

fn line(row: &TopRow, ink: Ink, (columns, width, longest): (&[Column], usize, usize)) -> Line<'static> {
    let figures: usize = columns.iter().map(|column| column.width()).sum();
    let room = width - figures;
    let tone = tone(row.severity());
    let mut name = vec![ink.mark(tone)];
    // A long name leaves the rules their place.
    let named = longest.clamp(8, WIDEST).min((room.saturating_sub(2) * 3 / 5).max(8));
    let strength = if row.severity() > Severity::Well { Tone::Strong } else { Tone::Plain };
    name.push(ink.left(strength, row.name(), named - 1));
    name.push(Span::raw(" "));
    let rest = room.saturating_sub(2 + named);
    let (note, rule) = (note(row), if row.is_tcp() { format!("tcp {}", row.rule) } else { row.rule.clone() });
    let noted = if note.is_empty() { 0 } else { (note.chars().count() + 2).min(rest) };
    if noted > 0 {
        name.push(ink.left(tone, &note, noted));
    }
    name.push(ink.left(Tone::Muted, &rule, rest - noted));
    Line::from(name.into_iter().chain(columns.iter().map(|column| column.cell(row, ink))).collect::<Vec<_>>())
}

/// The tone of a state.
pub(super) fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Well => Tone::Good,
        Severity::Problem | Severity::Hurt => Tone::Warn,
        Severity::Down => Tone::Bad,
    }
}

/// Why a service is not well, in a few words.
fn note(row: &TopRow) -> String {
    let FiguresTold(_, up, _, [rate, _, e5], .., problems, flags) = row.figures;
    let share = || format!("{:.0} % fail", (e5 / rate * 100.0).min(100.0));
    let notes = [
        (row.instances == 0).then(|| "no instances".to_owned()),
        (up == 0 && row.drained < row.instances).then(|| "down".to_owned()),
        (row.instances > 0 && row.drained == row.instances).then(|| "drained".to_owned()),
        row.is_failing().then(share),
        (flags & 1 > 0).then(|| "all used (panic)".to_owned()),
        (flags & 2 > 0).then(|| "last good settings".to_owned()),
        (problems > 0).then(|| plural(problems as usize, "problem")),
    ];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
