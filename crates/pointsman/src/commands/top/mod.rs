//! `pointsman top`: the page of `--admin` in a terminal, sorted by what hurts. Reads and changes nothing.
//!
//! ```text
//! /api/live ─> feed ─> model ─> order, view <─ keys
//!                        └────────┴─> frame ─> screen
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `feed`, `message` | the connection to the balancer, and what it says |
//! | `model` | all that is known of the balancer |
//! | `order`, `view` | which services, in which order; what is looked at, and what keys do |
//! | `frame`, `services`, `lists`, `detail` | frames: a pure function of the model and the view |
//! | `ink`, `words` | colours and text that fits; numbers and times |
//! | `screen` | the terminal: taken, drawn, given back |

mod detail;
mod feed;
mod frame;
mod ink;
mod lists;
mod message;
mod model;
mod order;
mod screen;
mod services;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::io::{IsTerminal, Write, stdout};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossterm::event::{Event, KeyEventKind};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Outcome;
use feed::{News, follow, inspect};
use frame::render;
use ink::Ink;
use model::{Link, OpenService, TopModel};
use screen::{Screen, events};
use view::{TopView, Wish};

/// Size of a frame that no terminal is asked for: `COLUMNS` and `LINES` say another.
const SIZE: (u16, u16) = (100, 40);
/// Smallest and largest such size.
const SIZES: std::ops::RangeInclusive<u16> = 1..=1000;
/// Messages before rates are those of the last seconds.
const RATES: usize = 3;
/// Longest wait for these messages.
const ANSWER: Duration = Duration::from_secs(15);
/// Messages that may wait.
const QUEUE: usize = 16;

/// Shows the balancer at `admin` until a key or a signal ends it; with `once`, or where `out` is no terminal, prints one
/// frame.
///
/// # Errors
/// `--admin` is off, no balancer answers for the one frame, or the terminal is gone.
pub async fn top(admin: Option<SocketAddr>, once: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let Some(admin) = admin else {
        bail!("--admin: it is off; name the address of a balancer's admin pages, such as --admin 127.0.0.1:8404");
    };
    let (sender, news) = mpsc::channel(QUEUE);
    let following = tokio::spawn(follow(admin, sender.clone()));
    let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut session = TopSession {
        admin,
        live: TopModel { asked: admin.to_string(), ..TopModel::default() },
        frozen: None,
        heard: Instant::now(),
        view: TopView::default(),
        ink: Ink { has_color },
        open: watch::Sender::new(None),
    };
    let outcome = if once || !stdout().is_terminal() || is_dumb(std::env::var("TERM").ok().as_deref()) {
        drop(sender);
        session.print(news, out).await
    } else {
        let inspecting = tokio::spawn(inspect(admin, session.open.subscribe(), sender));
        let outcome = session.run(news).await;
        inspecting.abort();
        outcome
    };
    following.abort();
    outcome.map(|()| Outcome::Yes)
}

/// Whether a terminal of this name may know no cursor: then one frame is printed.
fn is_dumb(term: Option<&str>) -> bool {
    matches!(term, None | Some("" | "dumb" | "unknown"))
}

/// The program while it runs.
struct TopSession {
    admin: SocketAddr,
    live: TopModel,
    /// The figures that stand still.
    frozen: Option<Box<TopModel>>,
    /// When the last message came.
    heard: Instant,
    view: TopView,
    ink: Ink,
    /// The service that is asked for.
    open: watch::Sender<Option<String>>,
}

impl TopSession {
    /// Prints one frame.
    async fn print(&mut self, mut news: mpsc::Receiver<News>, out: &mut dyn Write) -> anyhow::Result<()> {
        let first = async {
            for _ in 0..RATES {
                loop {
                    match news.recv().await.context("nothing follows the balancer")? {
                        News::Lost(said) => bail!("--admin: asked the balancer on {}: {said}", self.admin),
                        News::Refused(said) => bail!("--admin: the balancer on {}: {said}", self.admin),
                        message @ News::Message(_) => {
                            self.take(message);
                            break;
                        }
                        other => self.take(other),
                    }
                }
            }
            Ok(())
        };
        timeout(ANSWER, first)
            .await
            .with_context(|| format!("--admin: the balancer on {} is too slow", self.admin))??;
        self.view.is_still = true;
        self.view.arrange(&self.live);
        let (width, height) = still_size();
        let mut frame = Buffer::empty(Rect::new(0, 0, width, height));
        render(&self.live, &self.view, self.ink, &mut frame);
        for line in lines(&frame) {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Draws until the end.
    async fn run(&mut self, mut news: mpsc::Receiver<News>) -> anyhow::Result<()> {
        let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let mut screen = Screen::open().context("taking the terminal")?;
        let mut keys = events().context("reading keys")?;
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let [term, int, hup] = ends.each_mut().map(|end| end.as_mut().ok());
        let ended = async {
            tokio::select! {
                Some(_) = came(term) => {}
                Some(_) = came(int) => {}
                Some(_) = came(hup) => {}
            }
        };
        tokio::pin!(ended);
        loop {
            self.draw(&mut screen)?;
            tokio::select! {
                () = &mut ended => return Ok(()),
                _ = ticks.tick() => {}
                some = news.recv() => self.take(some.context("following the balancer")?),
                event = keys.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    if self.event(event, &mut screen)? == Wish::Quit {
                        return Ok(());
                    }
                }
            }
            // Those that came together are one frame.
            while let Ok(more) = news.try_recv() {
                self.take(more);
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let elapsed = u64::try_from(self.heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.live.now = self.live.heard.saturating_add(elapsed);
        let model = self.frozen.as_deref().unwrap_or(&self.live);
        self.view.arrange(model);
        let mut frame = screen.frame().context("the terminal")?;
        self.view.laid = render(model, &self.view, self.ink, &mut frame);
        screen.show(frame).context("the terminal")
    }

    fn take(&mut self, news: News) {
        match news {
            News::Message(message) => {
                self.live.take(*message);
                self.heard = Instant::now();
            }
            News::Past(points) => self.live.remember(points),
            News::Service(key, answer) if self.view.open.as_ref() == Some(&key) => {
                self.live.inspect(answer.map(|answer| *answer));
            }
            News::Service(..) => {}
            News::Lost(said) => self.live.link = Link::Lost(said),
            News::Refused(said) => self.live.link = Link::Refused(said),
        }
    }

    fn event(&mut self, event: Event, screen: &mut Screen) -> anyhow::Result<Wish> {
        let Event::Key(key) = event else { return Ok(Wish::Draw) };
        if key.kind == KeyEventKind::Release {
            return Ok(Wish::Draw);
        }
        let model = self.frozen.as_deref().unwrap_or(&self.live);
        let wish = self.view.press(key, model);
        match wish {
            Wish::Pause => {
                self.frozen = if self.frozen.is_some() { None } else { Some(Box::new(self.live.clone())) };
                self.view.is_paused = self.frozen.is_some();
            }
            Wish::Redraw => screen.forget(),
            Wish::Suspend => suspend(screen)?,
            Wish::Draw | Wish::Quit => {}
        }
        if *self.open.borrow() != self.view.open {
            self.live.open = OpenService::default();
            self.frozen.iter_mut().for_each(|frozen| frozen.open = OpenService::default());
            self.open.send_replace(self.view.open.clone());
        }
        Ok(wish)
    }
}

/// Waits for a signal; for ever, if the system does not tell of it.
async fn came(signal: Option<&mut tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Leaves the terminal to the shell until it brings us back (Ctrl-Z, fg).
fn suspend(screen: &mut Screen) -> anyhow::Result<()> {
    screen.leave();
    kill_process(getpid(), Signal::TSTP).context("stopping")?;
    screen.enter().context("taking the terminal again")
}

/// The size of a frame that is printed.
fn still_size() -> (u16, u16) {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|number| SIZES.contains(number));
    let terminal = if stdout().is_terminal() { crossterm::terminal::size().ok() } else { None };
    let (width, height) = terminal.unwrap_or(SIZE);
    (number("COLUMNS").unwrap_or(width), number("LINES").unwrap_or(height))
}

/// The text of a frame, without empty lines at its end.
fn lines(frame: &Buffer) -> Vec<String> {
    let width = usize::from(frame.area.width).max(1);
    let rows = frame.content().chunks(width);
    let mut lines: Vec<String> = rows.map(text_of).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// The text of a row of cells. The cells that a wide character covers are no text.
fn text_of(row: &[ratatui_core::buffer::Cell]) -> String {
    let (mut text, mut covered) = (String::new(), 0);
    for cell in row {
        if covered > 0 {
            covered -= 1;
            continue;
        }
        text.push_str(cell.symbol());
        covered = ratatui_core::text::Span::raw(cell.symbol()).width().saturating_sub(1);
    }
    text.trim_end().to_owned()
}
