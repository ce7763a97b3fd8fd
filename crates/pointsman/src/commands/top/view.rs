//! What is looked at, and what keys do to it. Knows the balancer only by its model; draws nothing.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{TopModel, TopRow};
use super::order::{Sort, ordered};

/// How long rows keep their places, in milliseconds: figures may move, rows should not jump.
const REORDER: u64 = 3000;
/// Longest filter, characters.
const LONGEST: usize = 60;

/// One of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TopPage {
    #[default]
    Services,
    Attention,
    Changes,
    Certificates,
    Fleet,
}

/// The pages, in the order of their numbers.
pub(super) const TOP_PAGES: [TopPage; 5] =
    [TopPage::Services, TopPage::Attention, TopPage::Changes, TopPage::Certificates, TopPage::Fleet];

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To draw.
    Draw,
    /// To draw everything anew, as the terminal may show something else.
    Redraw,
    /// To stop, or to go on with, taking messages.
    Pause,
    /// To leave the terminal to the shell for a while.
    Suspend,
    Quit,
}

/// How a frame was laid out, for the next keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Laid {
    /// The first line or service that is seen, and how many there is room for.
    pub(super) first: usize,
    pub(super) room: usize,
    /// How many there are.
    pub(super) count: usize,
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct TopView {
    pub(super) page: TopPage,
    /// The service that is looked at: `http/shop`.
    pub(super) open: Option<String>,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) is_paused: bool,
    pub(super) is_help: bool,
    /// One frame only: nobody presses keys.
    pub(super) is_still: bool,
    /// The service that keys are for; `None`: the first.
    pub(super) picked: Option<String>,
    pub(super) laid: Laid,
    /// The services that are listed.
    pub(super) order: Vec<u32>,
    /// When `order` was made, and of which services.
    pub(super) arranged: Option<(u64, u64)>,
}

impl TopView {
    /// Brings the services into their order, if that is due.
    pub(super) fn arrange(&mut self, model: &TopModel) {
        let is_fresh = |(at, names): (u64, u64)| names == model.names && model.now.abs_diff(at) < REORDER;
        if self.arranged.is_some_and(is_fresh) {
            return;
        }
        self.order = ordered(model, &self.filter, self.sort, self.is_reversed);
        self.arranged = Some((model.now, model.names));
    }

    /// The place of the service that keys are for.
    pub(super) fn at(&self, model: &TopModel) -> usize {
        let is_it = |number: &u32, key: &String| model.rows.get(number).is_some_and(|row| row.key == *key);
        let found = self.picked.as_ref().and_then(|key| self.order.iter().position(|number| is_it(number, key)));
        found.unwrap_or(0)
    }

    fn listed<'m>(&self, model: &'m TopModel, at: usize) -> Option<&'m TopRow> {
        self.order.get(at).and_then(|number| model.rows.get(number))
    }

    /// Whether lines are scrolled, not services picked.
    fn is_text(&self) -> bool {
        self.open.is_some() || self.page != TopPage::Services
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent, model: &TopModel) -> Wish {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if has_control => return Wish::Quit,
            KeyCode::Char('z') if has_control => return Wish::Suspend,
            KeyCode::Char('l') if has_control => return Wish::Redraw,
            KeyCode::Char(_) if has_control => return Wish::Draw,
            _ if self.is_typing => self.edit(key.code),
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('p') => return Wish::Pause,
            code => self.command(code, model),
        }
        Wish::Draw
    }

    fn command(&mut self, code: KeyCode, model: &TopModel) {
        match code {
            KeyCode::Char('?' | 'h') => self.is_help = !self.is_help,
            _ if self.is_help => self.is_help = false,
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.back(),
            KeyCode::Char('/') => {
                self.go(TopPage::Services);
                self.is_typing = true;
            }
            KeyCode::Char('s') => self.sort_by(self.sort.turned(1), false),
            KeyCode::Char('S') => self.sort_by(self.sort.turned(-1), false),
            KeyCode::Char('r') => self.sort_by(self.sort, !self.is_reversed),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(TOP_PAGES.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => self.go(TOP_PAGES[usize::from(digit as u8 - b'1')]),
            KeyCode::Enter | KeyCode::Right if !self.is_text() => self.enter(model),
            code => self.travel(code, model),
        }
    }

    /// Letters of the filter.
    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) if self.filter.chars().count() < LONGEST => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Enter | KeyCode::Down | KeyCode::Tab => self.is_typing = false,
            _ => return,
        }
        (self.picked, self.arranged) = (None, None);
    }

    fn back(&mut self) {
        match self.open.take() {
            Some(key) => {
                (self.picked, self.laid) = (Some(key), Laid::default());
            }
            None if self.page != TopPage::Services => self.go(TopPage::Services),
            None => {
                self.filter.clear();
                (self.picked, self.arranged, self.laid) = (None, None, Laid::default());
            }
        }
    }

    fn turn(&mut self, step: usize) {
        let at = TOP_PAGES.iter().position(|page| *page == self.page).unwrap_or(0);
        self.go(TOP_PAGES[(at + step) % TOP_PAGES.len()]);
    }

    fn go(&mut self, page: TopPage) {
        (self.page, self.open, self.laid) = (page, None, Laid::default());
    }

    fn sort_by(&mut self, sort: Sort, is_reversed: bool) {
        if self.is_text() {
            return;
        }
        (self.sort, self.is_reversed, self.arranged, self.picked) = (sort, is_reversed, None, None);
        self.laid = Laid::default();
    }

    fn enter(&mut self, model: &TopModel) {
        if let Some(row) = self.listed(model, self.at(model)) {
            (self.open, self.laid) = (Some(row.key.clone()), Laid::default());
        }
    }

    fn travel(&mut self, code: KeyCode, model: &TopModel) {
        let Laid { first, room, count } = self.laid;
        let is_text = self.is_text();
        let (from, last) = match is_text {
            true => (first, count.saturating_sub(room)),
            false => (self.at(model), self.order.len().saturating_sub(1)),
        };
        let page = room.saturating_sub(1).max(1);
        let to = match code {
            KeyCode::Down | KeyCode::Char('j') => from + 1,
            KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => from + page,
            KeyCode::PageUp => from.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return,
        };
        let to = to.min(last);
        if is_text {
            self.laid.first = to;
        } else {
            self.picked = self.listed(model, to).filter(|_| to > 0).map(|row| row.key.clone());
        }
    }
}

impl Laid {
    /// Room for so many of `count`, such that the one at `at` is seen.
    pub(super) fn around(self, at: usize, room: usize, count: usize) -> Self {
        let lowest = (at + 1).saturating_sub(room);
        let most = count.saturating_sub(room);
        Self { first: self.first.clamp(lowest.min(at), at).min(most), room, count }
    }

    /// Room for so many lines of `count`.
    pub(super) fn text(self, room: usize, count: usize) -> Self {
        Self { first: self.first.min(count.saturating_sub(room)), room, count }
    }
}
