//! Colours, and text fitted into its place. The one way from text to a frame: whatever comes from outside is escaped here.
//! Only the 16 colours of the terminal are used, on its own ground, and none of them alone says anything.

use pointsman_table::shown;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::text::{Line, Span};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Less important than what stands beside it.
    Muted,
    Strong,
    Good,
    Warn,
    Bad,
    Accent,
}

impl Tone {
    /// `None`: the terminal's own colours.
    fn color(self) -> Option<Color> {
        match self {
            Self::Plain | Self::Muted | Self::Strong => None,
            Self::Good => Some(Color::Green),
            Self::Warn => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
            Self::Accent => Some(Color::Cyan),
        }
    }

    /// A mark of this tone, which differs in its form too.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Bad => "■",
            Self::Warn => "▲",
            Self::Muted => "○",
            _ => "●",
        }
    }
}

/// The colours in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    /// False: `NO_COLOR` is set (no-color.org).
    pub(super) has_color: bool,
}

impl Ink {
    fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let style = match tone {
            Tone::Muted => style.add_modifier(Modifier::DIM),
            Tone::Strong | Tone::Bad => style.add_modifier(Modifier::BOLD),
            _ => style,
        };
        match tone.color().filter(|_| self.has_color) {
            Some(color) => style.fg(color),
            None => style,
        }
    }

    /// A piece of a line.
    pub(super) fn text(self, tone: Tone, text: &str) -> Span<'static> {
        Span::styled(shown(text).to_string(), self.style(tone))
    }

    /// The mark of a tone, and a space.
    pub(super) fn mark(self, tone: Tone) -> Span<'static> {
        Span::styled(format!("{} ", tone.mark()), self.style(tone))
    }

    /// A cell of a table, at the left of its column.
    pub(super) fn left(self, tone: Tone, text: &str, width: usize) -> Span<'static> {
        let text = fitted(text, width);
        let room = " ".repeat(width - text.width());
        Span::styled(format!("{}{room}", text.content), self.style(tone))
    }

    /// A cell of a table, at the right of its column.
    pub(super) fn right(self, tone: Tone, text: &str, width: usize) -> Span<'static> {
        let text = fitted(text, width);
        let room = " ".repeat(width - text.width());
        Span::styled(format!("{room}{}", text.content), self.style(tone))
    }

    /// A heading: its name, and a remark at the right.
    pub(super) fn heading(self, name: &str, remark: &str, width: usize) -> Line<'static> {
        let remark = self.text(Tone::Muted, remark);
        let name = self.left(Tone::Strong, name, width.saturating_sub(remark.width() + 1));
        Line::from(vec![name, Span::raw(" "), remark])
    }
}

/// The text, escaped and at most this wide.
fn fitted(text: &str, width: usize) -> Span<'static> {
    let whole = Span::raw(shown(text).to_string());
    if whole.width() <= width {
        return whole;
    }
    let mut cut = String::new();
    let mut left = width.saturating_sub(1);
    for c in whole.content.chars() {
        let wide = Span::raw(c.to_string()).width();
        if wide > left {
            break;
        }
        left -= wide;
        cut.push(c);
    }
    let end = if width > 0 { "…" } else { "" };
    Span::raw(cut + end)
}

/// The text in lines of at most this width, broken at spaces where there are some.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in shown(text).to_string().split_whitespace() {
        let mut word = word.to_owned();
        let wide = |text: &str| Span::raw(text).width();
        if !line.is_empty() && wide(&line) + 1 + wide(&word) > width {
            lines.push(std::mem::take(&mut line));
        }
        // A word that is longer than a line, such as a key.
        while wide(&word) > width.max(1) {
            let cut = word.char_indices().nth(width.max(1)).map_or(word.len(), |(at, _)| at);
            let rest = word.split_off(cut);
            lines.push(std::mem::replace(&mut word, rest));
        }
        let gap = if line.is_empty() { "" } else { " " };
        line = format!("{line}{gap}{word}");
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Draws a line within the area, `row` below its top. What does not fit ends in an ellipsis.
pub(super) fn put(buffer: &mut Buffer, area: Rect, row: usize, line: &Line<'_>) {
    let Ok(row) = u16::try_from(row) else { return };
    if row >= area.height || area.width == 0 {
        return;
    }
    buffer.set_line(area.x, area.y + row, line, area.width);
    if line.width() > usize::from(area.width) {
        let last = (area.x + area.width - 1, area.y + row);
        if let Some(cell) = buffer.cell_mut(last) {
            cell.set_symbol("…");
        }
    }
}

/// Draws lines from the top of the area.
pub(super) fn put_all(buffer: &mut Buffer, area: Rect, lines: &[Line<'_>]) {
    lines.iter().enumerate().for_each(|(row, line)| put(buffer, area, row, line));
}

/// Marks a row of the area as the one that keys are for.
pub(super) fn pick(buffer: &mut Buffer, area: Rect, row: usize) {
    let Ok(row) = u16::try_from(row) else { return };
    if row < area.height {
        let place = Rect { y: area.y + row, height: 1, ..area };
        buffer.set_style(place, Style::new().add_modifier(Modifier::REVERSED).remove_modifier(Modifier::DIM));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_and_commands_no_terminal() {
        for (text, width, expected) in [
            ("shop", 6, "shop"),
            ("shop.test", 6, "shop.…"),
            ("\u{1b}[31m", 20, "\\u001b[31m"),
            ("日本語", 4, "日…"),
            ("shop", 0, ""),
        ] {
            assert_eq!(fitted(text, width).content, expected);
        }
        assert_eq!(wrapped("write a port, 1 to 65535", 12), ["write a", "port, 1 to", "65535"]);
        assert_eq!(wrapped("a services/shop/x", 8), ["a", "services", "/shop/x"]);
        assert!(wrapped("", 8).is_empty() && wrapped("abc", 0).len() == 3);
    }
}
