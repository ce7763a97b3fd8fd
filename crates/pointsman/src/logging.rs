//! The log: plain lines on stderr. Writes nothing to stdout.

use std::io::IsTerminal;

use crate::plain;
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
    let lines = fmt::layer().fmt_fields(plain::fields()).log_internal_errors(false).with_writer(std::io::stderr);
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

/// Parts of the program that are crates of their own. Filters name them as `pointsman::store`.
const PARTS: [&str; 4] = ["engine", "haproxy", "native", "store"];

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(targets(filter)).with_context(|| format!("--log: {filter:?} is not a filter; write info"))
}

/// The filter with the targets that lines really have: `pointsman_store` for `pointsman::store`.
fn targets(filter: &str) -> String {
    let replace = |text: String, part: &str| text.replace(&format!("pointsman::{part}"), &format!("pointsman_{part}"));
    PARTS.into_iter().fold(filter.to_owned(), replace)
}

#[cfg(test)]
mod tests {
    use std::io::{Result, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_part_of_the_program_is_named_as_before() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(parse("info,pointsman::store=debug").unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "pointsman_store::etcd3", "a store's line");
            tracing::debug!(target: "pointsman_native::serve", "an engine's line");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("a store's line") && !text.contains("an engine's line"), "{text}");
    }
}
