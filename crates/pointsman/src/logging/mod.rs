//! The log: plain lines on stderr. Writes nothing to stdout, and while serving never waits for its reader.
//!
//! | module | owns |
//! |---|---|
//! | `access` | the access log's files, syslog, and the last requests |
//! | `stream` | a stream with its own writer thread and a bounded queue |
//! | `pace` | how many lines each place in the code may log |

pub mod access;
mod pace;
mod stream;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{error, info, warn};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use pace::Pace;

use crate::plain;
pub use stream::{LostLines, Stream};

/// How long the end of the program waits for the reader of its output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How the program's output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The program waits until each line is written. For commands that end by themselves.
    Direct,
    /// Separate threads write from bounded queues. For commands that serve.
    Queued,
}

/// The program's standard streams. Dropped last: the end waits, for a bounded time, until the queues are written.
#[derive(Debug, Default)]
pub struct Streams {
    stderr: Option<Stream>,
    stdout: Option<Stream>,
}

impl Streams {
    /// Starts the threads that deliver them.
    ///
    /// # Errors
    /// The system cannot start another thread.
    fn queued(pace: Pace) -> io::Result<Self> {
        let chore = move || pace.report(Instant::now());
        Ok(Self {
            stderr: Some(Stream::start(io::stderr(), notice, chore)?),
            stdout: Some(Stream::start(io::stdout(), |_| String::new(), || ())?),
        })
    }

    /// Where reports go, line by line.
    pub fn stderr(&self) -> Box<dyn Write> {
        match &self.stderr {
            Some(stream) => Box::new(io::LineWriter::new(stream.clone())),
            None => Box::new(io::stderr()),
        }
    }

    /// Where results go.
    pub fn stdout(&self) -> Box<dyn Write> {
        match &self.stdout {
            Some(stream) => Box::new(stream.clone()),
            None => Box::new(io::stdout()),
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        for stream in self.stdout.iter().chain(&self.stderr) {
            stream.finish(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

/// The log line that stands for lost lines.
fn notice(lost: u64) -> String {
    let mut line = String::new();
    // If the time cannot be formatted, the line has none.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    let _ = writeln!(line, "  WARN {lost} lines of the log were lost here: nobody read it for too long");
    line
}

/// The running log: its filter can change.
#[derive(Clone, Debug)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    lost: LostLines,
}

/// Starts the log. Call only once per process.
///
/// # Errors
/// The filter is invalid, or a log was started before.
pub fn start(filter: &str, delivery: Delivery) -> anyhow::Result<(Logging, Streams)> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let (streams, writer, pace) = match delivery {
        Delivery::Direct => (Streams::default(), BoxMakeWriter::new(io::stderr), None),
        Delivery::Queued => {
            let pace = Pace::default();
            let streams = Streams::queued(pace.clone()).context("starting the log")?;
            let stderr = streams.stderr.clone().unwrap_or_default();
            (streams, BoxMakeWriter::new(move || stderr.clone()), Some(pace))
        }
    };
    // A line that cannot be written is lost. Otherwise the layer would report that on stderr too, and panic if that
    // fails.
    let lines = fmt::layer().fmt_fields(plain::fields()).log_internal_errors(false).with_writer(writer);
    let lines = lines.with_ansi(io::stderr().is_terminal()).with_target(false);
    let lines = match pace {
        Some(pace) => pace.and_then(lines).boxed(),
        None => lines.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().context("starting the log")?;
    if delivery == Delivery::Queued {
        std::panic::set_hook(Box::new(panicked));
    }
    let lost = streams.stderr.as_ref().map(Stream::lost).unwrap_or_default();
    Ok((Logging { filter: handle, lost }, streams))
}

/// Logs a panic as a line: the usual hook would wait for the reader of stderr.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
    error!("thread {thread} {}", panic.to_string().replace('\n', " "));
}

impl Logging {
    /// Changes the filter from now on.
    ///
    /// # Errors
    /// The filter is invalid.
    pub fn change(&self, filter: &str) -> anyhow::Result<()> {
        self.filter.reload(parse(filter)?).context("changing the log")
    }

    /// How many lines were lost because nobody read them.
    pub fn lost(&self) -> LostLines {
        self.lost.clone()
    }
}

/// A log line, made in one place and written in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogLine {
    /// Normal.
    Info(String),
    /// Needs attention.
    Warn(String),
}

impl LogLine {
    /// Writes it.
    pub(crate) fn write(&self) {
        match self {
            Self::Info(text) => info!("{text}"),
            Self::Warn(text) => warn!("{text}"),
        }
    }
}

/// Parts of the program that are separate crates. Filters name them as `pointsman::store`.
const PARTS: [&str; 4] = ["engine", "haproxy", "native", "store"];

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(targets(filter)).with_context(|| format!("--log: {filter:?} is not a filter; write info"))
}

/// The filter with the targets that lines really have: `pointsman_store` for `pointsman::store`.
fn targets(filter: &str) -> String {
    let replace = |text: String, part: &str| text.replace(&format!("pointsman::{part}"), &format!("pointsman_{part}"));
    // What clients do wrong is told in our own words, with their address, and seldom: not a line a frame. A later one counts.
    format!("h2=error,{}", PARTS.into_iter().fold(filter.to_owned(), replace))
}

#[cfg(test)]
mod tests {
    use std::io::Result;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// What this filter lets through of some lines.
    fn logged(filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "pointsman_store::etcd3", "a store's line");
            tracing::debug!(target: "pointsman_native::serve", "an engine's line");
            tracing::warn!(target: "h2::proto::ping_pong", "a library's line");
        });
        lines.text()
    }

    #[test]
    fn a_part_of_the_program_is_named_as_before() {
        let text = logged("info,pointsman::store=debug");
        assert!(text.contains("a store's line") && !text.contains("an engine's line"), "{text}");
    }

    #[test]
    fn what_a_library_says_of_each_frame_is_left_out_unless_it_is_asked_for() {
        for (filter, expected) in [("info", false), ("debug", false), ("info,h2=warn", true)] {
            assert_eq!(logged(filter).contains("a library's line"), expected, "{filter}");
        }
    }
}
