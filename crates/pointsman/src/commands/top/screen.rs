//! The terminal while it is ours: raw, on its other screen, without a cursor. Given back when dropped, and before a panic
//! speaks. Decides nothing of what is drawn.

use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::sync::Once;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event};
use crossterm::queue;
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};
use tokio::sync::mpsc;

/// Keys that may wait.
const QUEUE: usize = 64;

/// The terminal.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    /// What it shows.
    shown: Buffer,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It is none, or it is gone.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let mut screen = Self { out: BufWriter::new(stdout()), shown: Buffer::empty(Rect::ZERO) };
        screen.enter()?;
        Ok(screen)
    }

    /// Takes the terminal, at first and after [`Screen::leave`].
    ///
    /// # Errors
    /// It is none, or it is gone.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        self.forget();
        queue!(self.out, EnterAlternateScreen, Hide)
    }

    /// Gives the terminal back.
    pub(super) fn leave(&mut self) {
        // What cannot be written belongs to a screen that is left.
        let _ = self.out.flush();
        restore();
    }

    /// An empty frame of the terminal's size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn frame(&self) -> io::Result<Buffer> {
        let (width, height) = size()?;
        Ok(Buffer::empty(Rect::new(0, 0, width, height)))
    }

    /// Draws what differs from what is shown.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn show(&mut self, frame: Buffer) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        if frame.area != self.shown.area {
            self.shown = Buffer::empty(frame.area);
            queue!(self.out, SetAttribute(Attribute::Reset), Clear(ClearType::All))?;
        }
        let mut next = None;
        let mut style = None;
        for (x, y, cell) in self.shown.diff(&frame) {
            if next != Some((x, y)) {
                queue!(self.out, MoveTo(x, y))?;
            }
            if style != Some(cell.style()) {
                paint(&mut self.out, cell)?;
                style = Some(cell.style());
            }
            queue!(self.out, Print(cell.symbol()))?;
            // A wide character is followed by a new move.
            next = (cell.symbol().len() == 1).then_some((x + 1, y));
        }
        queue!(self.out, SetAttribute(Attribute::Reset), EndSynchronizedUpdate)?;
        self.out.flush()?;
        self.shown = frame;
        Ok(())
    }

    /// Draws everything anew with the next frame.
    pub(super) fn forget(&mut self) {
        self.shown = Buffer::empty(Rect::ZERO);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Gives the terminal back. If that fails, it is gone.
fn restore() {
    let mut out = stdout();
    let _ = queue!(out, SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// The style of a cell: the colours and attributes that the oldest terminals know (ECMA-48, SGR).
fn paint(out: &mut impl Write, cell: &Cell) -> io::Result<()> {
    let color = match cell.fg {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Cyan => ";36",
        _ => "",
    };
    let attributes =
        [(Modifier::BOLD, ";1"), (Modifier::DIM, ";2"), (Modifier::UNDERLINED, ";4"), (Modifier::REVERSED, ";7")];
    let attributes = attributes.iter().filter(|(modifier, _)| cell.modifier.contains(*modifier));
    let attributes: String = attributes.map(|(_, code)| *code).collect();
    write!(out, "\x1b[0{attributes}{color}m")
}

/// Keys and changes of the size, read by a thread that lives as long as the program. Ends with the terminal.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn events() -> io::Result<mpsc::Receiver<Event>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
