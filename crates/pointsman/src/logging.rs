//! The log: plain lines on stderr. Writes nothing to stdout.

use std::io::IsTerminal;

use anyhow::Context;
use tracing::{info, warn};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the filter while the program runs.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

/// Starts the log. Call only once per process.
///
/// # Errors
/// The filter is invalid, or a log was started before.
pub fn start(filter: &str) -> anyhow::Result<Logging> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    // A line that cannot be written is lost. Otherwise the layer would report that on stderr too, and panic if that
    // fails.
    let lines = fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).try_init().context("starting the log")?;
    Ok(Logging(handle))
}

impl Logging {
    /// Changes the filter from now on.
    ///
    /// # Errors
    /// The filter is invalid.
    pub fn change(&self, filter: &str) -> anyhow::Result<()> {
        self.0.reload(parse(filter)?).context("changing the log")
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

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| format!("--log: {filter:?} is not a filter; write info"))
}
