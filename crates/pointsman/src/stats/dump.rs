//! An answer of any length, made in pieces: a client that does not read holds one piece, and no figures.

use std::sync::Arc;

use tokio::task::yield_now;

use super::form::StatForm;
use super::inputs::Stats;
use super::proxies::Proxies;
use super::row::{StatColumn, StatKind, StatRow, StatValue};
use super::rows::StatScene;
use super::state;

/// A piece is full with so many bytes; it may exceed them by the rows of one service.
const PIECE: usize = 32 * 1024;

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StatFilter {
    /// The proxy of this number; `None`: all.
    pub(super) iid: Option<u32>,
    /// Kinds: 1 for frontends, 2 for backends, 4 for servers; `None`: all.
    pub(super) kinds: Option<u32>,
    /// The server of this number; `None`: all.
    pub(super) sid: Option<u32>,
    /// Only servers that are up, or are not checked.
    pub(super) up: bool,
    /// No servers in maintenance.
    pub(super) no_maint: bool,
}

impl StatFilter {
    fn takes(&self, row: &StatRow<'_>) -> bool {
        let status = match &row.values[StatColumn::Status as usize] {
            StatValue::Text(text) => &**text,
            _ => "",
        };
        let is_up = status.starts_with("UP") || matches!(status, "no check" | "DRAIN");
        let is_wanted = self.sid.is_none_or(|wanted| wanted == row.sid)
            && (is_up || !self.up)
            && (status != "MAINT" || !self.no_maint);
        self.kinds.is_none_or(|kinds| kinds & 1 << row.kind.number() != 0)
            && (is_wanted || row.kind != StatKind::Server)
    }
}

/// What is written.
#[derive(Clone, Debug)]
pub(super) enum DumpOf {
    /// `show stat`.
    Rows(StatFilter, StatForm),
    /// `show servers state`, of one proxy or of all.
    Servers(Option<u32>),
}

/// An answer under way.
#[derive(Debug)]
pub(super) struct Dump {
    stats: Stats,
    /// Of the table at the beginning.
    proxies: Arc<Proxies>,
    of: DumpOf,
    next: NextPiece,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextPiece {
    Head,
    /// From the proxy at this place on; whether a row was written before.
    Proxy(usize, bool),
    Nothing,
}

impl Dump {
    /// An answer from its beginning.
    pub(super) fn new(stats: Stats, proxies: Arc<Proxies>, of: DumpOf) -> Self {
        Self { stats, proxies, of, next: NextPiece::Head }
    }

    /// The next piece; `None`: that was all.
    pub(super) async fn piece(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE + PIECE / 4);
        let (mut place, mut has_rows) = match self.next {
            NextPiece::Nothing => return None,
            NextPiece::Head => {
                out.push_str(self.head());
                (0, false)
            }
            NextPiece::Proxy(place, has_rows) => (place, has_rows),
        };
        // Other tasks of this thread run between two pieces.
        yield_now().await;
        let look = self.stats.looks.take().await;
        let is_haproxy = self.stats.looks.is_haproxy();
        let scene = StatScene { proxies: &self.proxies, look: &look, is_haproxy };
        while place < self.proxies.count() && out.len() < PIECE {
            match &self.of {
                DumpOf::Rows(filter, form) if filter.iid.is_none_or(|iid| iid == Proxies::number(place)) => {
                    scene.rows(place, &mut |row| {
                        if filter.takes(row) {
                            form.row(row, !has_rows, &mut out);
                            has_rows = true;
                        }
                    });
                }
                DumpOf::Servers(iid) if iid.is_none_or(|iid| iid == Proxies::number(place)) => {
                    state::servers(&scene, place, &mut out);
                }
                DumpOf::Rows(..) | DumpOf::Servers(_) => {}
            }
            place += 1;
        }
        self.next = NextPiece::Proxy(place, has_rows);
        if place >= self.proxies.count() {
            self.next = NextPiece::Nothing;
            out.push_str(self.foot());
        }
        Some(out)
    }

    fn head(&self) -> &'static str {
        match &self.of {
            DumpOf::Rows(_, form) => form.head(),
            DumpOf::Servers(_) => state::HEAD,
        }
    }

    fn foot(&self) -> &'static str {
        match &self.of {
            DumpOf::Rows(_, form) => form.foot(),
            DumpOf::Servers(_) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let row = |kind, sid, status: &'static str| {
            let mut row = StatRow::new(kind, ("a", 1), ("b", sid));
            row.set(StatColumn::Status, status);
            row
        };
        let all = StatFilter::default();
        let kinds = |kinds| StatFilter { kinds: Some(kinds), ..StatFilter::default() };
        let up = StatFilter { up: true, ..StatFilter::default() };
        let no_maint = StatFilter { no_maint: true, ..StatFilter::default() };
        let second = StatFilter { sid: Some(2), ..StatFilter::default() };
        for (filter, kind, sid, status, expected) in [
            (&all, StatKind::Server, 1, "DOWN", true),
            (&kinds(1), StatKind::Frontend, 0, "OPEN", true),
            (&kinds(6), StatKind::Frontend, 0, "OPEN", false),
            (&kinds(6), StatKind::Backend, 0, "DOWN", true),
            (&kinds(4), StatKind::Server, 1, "DOWN", true),
            (&up, StatKind::Server, 1, "DOWN 1/2", false),
            (&up, StatKind::Server, 1, "UP 1/3", true),
            (&up, StatKind::Server, 1, "no check", true),
            (&up, StatKind::Backend, 0, "DOWN", true),
            (&no_maint, StatKind::Server, 1, "MAINT", false),
            (&no_maint, StatKind::Server, 1, "DOWN", true),
            (&second, StatKind::Server, 1, "UP", false),
            (&second, StatKind::Backend, 0, "UP", true),
        ] {
            assert_eq!(filter.takes(&row(kind, sid, status)), expected, "{filter:?} {kind:?} {status}");
        }
    }
}
