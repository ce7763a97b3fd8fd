//! Writers for terminals, pipes and logs: they escape text from outside, so that no caller can forget it, and ignore a
//! reader that leaves. They do not decide what to escape; `pointsman_table::shown` does.

use std::fmt;
use std::io::{ErrorKind, Result, Write};

use pointsman_table::{shown, shown_lines};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// A writer that escapes everything but line feeds and tabs. Callers escape those in text for a single line.
#[derive(Debug)]
pub(crate) struct Plain<W>(pub(crate) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        for chunk in bytes.utf8_chunks() {
            write!(self.0, "{}", shown_lines(chunk.valid()))?;
            if !chunk.invalid().is_empty() {
                self.0.write_all("\u{fffd}".as_bytes())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

/// A writer whose reader may leave, as in `pointsman check | grep -q x`: unread output is lost, and the command goes on
/// to its own exit code.
#[derive(Debug)]
pub(crate) struct Heedless<W>(pub(crate) W);

impl<W: Write> Write for Heedless<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// The fields of a log line, its message among them: each event is one line, whatever it contains.
pub(crate) fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let text = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", shown(&text)),
            name => write!(writer, "{name}={}", shown(&text)),
        }
    })
    .delimited(" ")
}
