//! Where the log goes and what is in it: plain lines on stderr. Writes nothing to stdout.

use std::io::IsTerminal;

use anyhow::Context;
use tracing::{info, warn};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Lets the filter be changed while the program runs.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

/// Starts the log. Only once in a process.
///
/// # Errors
/// The filter is none, or a log was started before.
pub fn start(filter: &str) -> anyhow::Result<Logging> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    // A line that cannot be written is lost: the layer would tell it to stderr too, and panic when that fails as well.
    let lines = fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).try_init().context("starting the log")?;
    Ok(Logging(handle))
}

impl Logging {
    /// Changes what is logged from now on.
    ///
    /// # Errors
    /// The filter is none.
    pub fn change(&self, filter: &str) -> anyhow::Result<()> {
        self.0.reload(parse(filter)?).context("changing the log")
    }
}

/// A line that is made in one place and written in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// As it should be.
    Info(String),
    /// Somebody should look.
    Warn(String),
}

impl Line {
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
