//! One client of the socket: lines in, answers out. Every wait has a deadline, and nothing is kept of an answer but the
//! piece that is being sent.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::command::{COMMANDS, SocketCommand, commands};
use super::dump::{Dump, DumpOf, StatFilter};
use super::edits::KeyEdits;
use super::info;
use super::inputs::{NOT_READ, Stats};
use super::proxies::Proxies;
use crate::settings::StatsLevel;

/// The longest line, in bytes: HAProxy's `tune.bufsize`.
const LINE: usize = 16 * 1024;
/// How long a client may be silent, unless it sets another time.
const IDLE: Duration = Duration::from_secs(10);
/// How long a client may take to read a piece of an answer.
const WRITE: Duration = Duration::from_secs(10);
/// How long a client may take to read a whole answer.
const ANSWER: Duration = Duration::from_secs(120);

/// A client, and the state of the conversation.
pub(super) struct Session {
    stream: UnixStream,
    stats: Stats,
    edits: Arc<KeyEdits>,
    level: StatsLevel,
    /// How long the client may be silent.
    idle: Duration,
    is_interactive: bool,
    /// It had an answer; without the interactive mode, one line is all.
    has_answer: bool,
    input: Vec<u8>,
    /// Short answers to commands of one line: sent at once, as tools take the first prompt for the end of them all.
    ready: String,
}

/// Whether a conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    Yes,
    No,
}

impl Session {
    pub(super) fn new(stream: UnixStream, stats: Stats, edits: Arc<KeyEdits>, level: StatsLevel) -> Self {
        let (is_interactive, has_answer) = (false, false);
        Self {
            stream,
            stats,
            edits,
            level,
            idle: IDLE,
            is_interactive,
            has_answer,
            input: Vec::new(),
            ready: String::new(),
        }
    }

    /// Answers until the client leaves, is silent for too long, does not read, or has had the answer to its one line.
    /// `heard` is called for every line.
    ///
    /// # Errors
    /// The connection broke, or a deadline passed.
    pub(super) async fn run(mut self, heard: impl Fn()) -> io::Result<()> {
        loop {
            while let Some(line) = self.line() {
                heard();
                for words in commands(&line) {
                    if self.obey(SocketCommand::parse(&words, self.level)).await? == Onward::No {
                        return self.flush().await;
                    }
                }
                self.flush().await?;
            }
            let is_over = !self.is_interactive && self.has_answer && self.input.is_empty();
            if is_over || !self.hear().await? {
                return Ok(());
            }
        }
    }

    /// A whole line of the input.
    fn line(&mut self) -> Option<String> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Reads more input. `false`: there is no more.
    async fn hear(&mut self) -> io::Result<bool> {
        if self.input.len() >= LINE {
            return Err(io::Error::other(format!("a line of more than {LINE} bytes")));
        }
        self.input.reserve(LINE.min(512));
        let mut room = [0; 4096];
        let most = room.len().min(LINE - self.input.len());
        let count = timeout(self.idle, self.stream.read(&mut room[..most])).await??;
        self.input.extend_from_slice(&room[..count]);
        Ok(count > 0)
    }

    /// Does what a command says; its answer ends with an empty line, or the prompt.
    async fn obey(&mut self, command: SocketCommand) -> io::Result<Onward> {
        match command {
            SocketCommand::Quit => return Ok(Onward::No),
            SocketCommand::Prompt => self.is_interactive = !self.is_interactive,
            SocketCommand::SetTimeout(idle) => self.idle = idle,
            SocketCommand::ShowStat { proxy, filter, form } => {
                let rows =
                    |number: Option<u32>| DumpOf::Rows(StatFilter { iid: number.or(filter.iid), ..filter }, form);
                self.dump(proxy, NO_PROXY, rows).await?;
            }
            SocketCommand::ShowServersState(backend) => self.dump(backend, NO_BACKEND, DumpOf::Servers).await?,
            other => {
                let answer = self.answer(other).await;
                self.ready.push_str(&answer);
            }
        }
        self.has_answer = true;
        self.ready.push_str(if self.is_interactive { "\n> " } else { "\n" });
        Ok(Onward::Yes)
    }

    /// The answer of a command that has a short one.
    async fn answer(&self, command: SocketCommand) -> String {
        match command {
            SocketCommand::ShowInfo(form) => match self.proxies() {
                Ok(proxies) => info::show(&self.stats, &proxies, &*self.stats.looks.take().await, form),
                Err(wrong) => wrong.to_owned(),
            },
            SocketCommand::ShowErrors(proxy) => self.errors(proxy.as_deref()),
            SocketCommand::GetWeight(path) => self.edits.weight(&self.stats, &path).await,
            SocketCommand::Edit(path, edit) => self.edits.make(&self.stats, &path, edit).await,
            SocketCommand::Wrong(words) => words.to_owned(),
            SocketCommand::Help => format!("The following commands are valid at this level:\n{COMMANDS}"),
            _ => format!("Unknown command. Please enter one of the following commands only:\n{COMMANDS}"),
        }
    }

    /// No malformed message is kept.
    fn errors(&self, proxy: Option<&str>) -> String {
        let is_missing = |name: &str| self.proxies().is_ok_and(|proxies| proxies.find(name).is_none());
        if proxy.is_some_and(is_missing) {
            return NO_PROXY.to_owned();
        }
        let now = OffsetDateTime::from(SystemTime::now());
        let (day, month, year) = (now.day(), now.month().to_string(), now.year());
        let (hour, minute, second, milli) = now.to_hms_milli();
        let month = month.get(..3).unwrap_or_default();
        format!("Total events captured on [{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02}.{milli:03}] : 0\n")
    }

    fn proxies(&self) -> Result<Arc<Proxies>, &'static str> {
        let table = self.stats.table().ok_or(NOT_READ)?;
        Ok(Arc::new(Proxies::of(table, &self.stats.about)))
    }

    /// Sends an answer of any length, of all proxies or of one, which `missing` says is not there.
    async fn dump(
        &mut self,
        name: Option<String>,
        missing: &str,
        of: impl FnOnce(Option<u32>) -> DumpOf,
    ) -> io::Result<()> {
        let proxies = match self.proxies() {
            Ok(proxies) => proxies,
            Err(wrong) => {
                self.ready.push_str(wrong);
                return Ok(());
            }
        };
        let number = match name.map(|name| proxies.find(&name).ok_or(missing)).transpose() {
            Ok(number) => number,
            Err(missing) => {
                self.ready.push_str(missing);
                return Ok(());
            }
        };
        self.flush().await?;
        let (mut dump, start) = (Dump::new(self.stats.clone(), proxies, of(number)), Instant::now());
        while let Some(piece) = dump.piece().await {
            self.send(&piece).await?;
            if start.elapsed() > ANSWER {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.ready);
        self.send(&text).await
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        timeout(WRITE, self.stream.write_all(text.as_bytes())).await?
    }
}

const NO_PROXY: &str = "No such proxy.\n";
const NO_BACKEND: &str = "Can't find backend.\n";
