//! A conversation on HAProxy's command socket: commands in, answers out, one for one. Knows how words are escaped and
//! where an answer ends; never what it means (that is `answers`).
//!
//! The socket is used in interactive mode, where a prompt marks the end of an answer. In the other mode an empty line
//! does, but not every answer of HAProxy ends with one, and an empty answer is an empty line itself.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// How long HAProxy may take for one command.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How long to wait before connecting again to a socket whose queue is full.
const TURN: Duration = Duration::from_millis(10);
/// Longest answer: 100 times that for 10,000 services.
const ANSWER_LIMIT: usize = 256 << 20;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// HAProxy's prompt for the next command.
const PROMPT: &[u8] = b"\n> ";

/// Why a command got no answer. All except [`Fault::Malformed`] concern the socket as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing listens there: HAProxy has not started yet, or has ended.
    #[error("cannot reach HAProxy at {path}: {error}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// HAProxy did not answer in time.
    #[error("HAProxy at {path} gave no answer to {command:?} within {after:?}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The command, shortened.
        command: Box<str>,
        /// The deadline.
        after: Duration,
    },
    /// The connection ended before the answer did: HAProxy is ending, or the command is longer than its buffer
    /// (`tune.bufsize`).
    #[error("HAProxy at {path} closed the connection at {command:?}: {answer}")]
    Closed {
        /// The socket.
        path: PathBuf,
        /// The command, shortened.
        command: Box<str>,
        /// The answer so far, shortened.
        answer: Box<str>,
    },
    /// The answer is longer than any that we expect.
    #[error("HAProxy's answer to {command:?} is longer than 256 MiB")]
    TooLong {
        /// The command, shortened.
        command: Box<str>,
    },
    /// Our own error: it is not exactly one command, so that answers and commands would no longer match.
    #[error("not one command: {command:?}")]
    Malformed {
        /// The command, shortened.
        command: Box<str>,
    },
}

/// HAProxy's command socket.
#[derive(Clone, Debug)]
pub struct Runtime {
    path: PathBuf,
    deadline: Duration,
}

impl Runtime {
    /// The socket at this path. Connects only for commands.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), deadline: DEADLINE }
    }

    /// The same, with another deadline for each command.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends commands one after another, each after the answer to the one before, and returns the answers without
    /// trailing line ends. If a command fails, the effects of earlier ones stay.
    ///
    /// # Errors
    /// See [`Fault`]. HAProxy's own refusals are answers, not errors: see `answers::refusal`.
    pub async fn ask(&self, commands: &[String]) -> Result<Vec<String>, Fault> {
        if let Some(bad) = commands.iter().find(|command| !is_one_command(command)) {
            return Err(Fault::Malformed { command: shorten(bad) });
        }
        let mut conversation = self.open().await?;
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(conversation.ask(command).await?);
        }
        Ok(answers)
    }

    /// Sends one command.
    ///
    /// # Errors
    /// See [`Runtime::ask`].
    pub async fn ask_one(&self, command: impl Into<String>) -> Result<String, Fault> {
        let mut answers = self.ask(&[command.into()]).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Sends one line and reads until HAProxy closes: for the master's socket, which has another prompt.
    pub(super) async fn ask_to_the_end(&self, line: &str) -> Result<String, Fault> {
        let mut conversation = self.connect().await?;
        let (path, deadline) = (&self.path, self.deadline);
        let all = async {
            conversation.send(line).await?;
            while conversation.receive(line).await? > 0 {}
            Ok(())
        };
        let silent = || Fault::Silent { path: path.clone(), command: shorten(line), after: deadline };
        timeout(deadline, all).await.map_err(|_| silent())??;
        Ok(String::from_utf8_lossy(&conversation.buffer).into_owned())
    }

    async fn open(&self) -> Result<Conversation<'_>, Fault> {
        let mut conversation = self.connect().await?;
        conversation.ask("prompt").await?;
        Ok(conversation)
    }

    async fn connect(&self) -> Result<Conversation<'_>, Fault> {
        let path = || self.path.clone();
        match timeout(self.deadline, connect_in_turn(&self.path)).await {
            Ok(Ok(stream)) => Ok(Conversation { runtime: self, stream, buffer: Vec::new() }),
            Ok(Err(error)) => Err(Fault::Unreachable { path: path(), error }),
            Err(_) => Err(Fault::Silent { path: path(), command: "connect".into(), after: self.deadline }),
        }
    }
}

/// Connects. While the socket's queue is full, as with a HAProxy that hangs, tries again.
async fn connect_in_turn(path: &Path) -> std::io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => sleep(TURN).await,
            outcome => return outcome,
        }
    }
}

/// One connection.
struct Conversation<'a> {
    runtime: &'a Runtime,
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Conversation<'_> {
    async fn ask(&mut self, command: &str) -> Result<String, Fault> {
        let after = self.runtime.deadline;
        match timeout(after, self.exchange(command)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::Silent { path: self.runtime.path.clone(), command: shorten(command), after }),
        }
    }

    async fn exchange(&mut self, command: &str) -> Result<String, Fault> {
        self.buffer.clear();
        self.send(command).await?;
        while !self.buffer.ends_with(PROMPT) {
            if self.receive(command).await? == 0 {
                return Err(self.closed(command));
            }
        }
        let answer = String::from_utf8_lossy(&self.buffer[..self.buffer.len() - PROMPT.len()]);
        let answer = if command.contains('\n') { without_payload_prompts(&answer) } else { &answer };
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    /// If a command is too long, HAProxy sends the reason and closes before it has read all of it: after a failed write
    /// there may still be an answer to read.
    async fn send(&mut self, command: &str) -> Result<(), Fault> {
        let line = [command.as_bytes(), b"\n"].concat();
        match self.stream.write_all(&line).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(self.closed(command)),
            _ => Ok(()),
        }
    }

    async fn receive(&mut self, command: &str) -> Result<usize, Fault> {
        if self.buffer.len() > ANSWER_LIMIT {
            return Err(Fault::TooLong { command: shorten(command) });
        }
        self.buffer.reserve(CHUNK);
        self.stream.read_buf(&mut self.buffer).await.map_err(|_| self.closed(command))
    }

    fn closed(&self, command: &str) -> Fault {
        let answer = String::from_utf8_lossy(&self.buffer);
        let answer = answer.trim();
        let answer = if answer.is_empty() { "it said nothing".into() } else { shorten(answer) };
        Fault::Closed { path: self.runtime.path.clone(), command: shorten(command), answer }
    }
}

/// Escapes a word for the command line: a space would end it, a `;` would end the command, `<<` would begin a payload.
/// Words with a line feed or a NUL cannot be sent at all: [`Fault::Malformed`].
pub fn word(word: &str) -> Cow<'_, str> {
    const SPECIAL: [char; 5] = [' ', '\t', ';', '\\', '<'];
    if !word.contains(SPECIAL) {
        return Cow::Borrowed(word);
    }
    let mut escaped = String::with_capacity(word.len() + 8);
    for char in word.chars() {
        if SPECIAL.contains(&char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    Cow::Owned(escaped)
}

/// A command with lines of payload, such as entries for `add map FILE`. The lines need no escapes, and none may be
/// empty. Together they must fit into HAProxy's buffer (`tune.bufsize`).
pub fn with_payload<'a>(command: &str, lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut whole = format!("{command} <<\n");
    for line in lines {
        whole.push_str(line);
        whole.push('\n');
    }
    whole
}

/// Whether HAProxy answers it with exactly one prompt.
fn is_one_command(command: &str) -> bool {
    let (line, payload) = command.split_once('\n').map_or((command, None), |(line, rest)| (line, Some(rest)));
    let ended = payload.is_none_or(|lines| {
        let lines = lines.strip_suffix('\n').unwrap_or("");
        line.ends_with(" <<") && lines.split('\n').all(|line| !line.is_empty())
    });
    ended && !line.trim().is_empty() && !command.contains(['\0', '\r']) && !has_bare(line, ';')
}

/// Whether the character is there without a backslash before it.
fn has_bare(line: &str, wanted: char) -> bool {
    let mut escaped = false;
    line.chars().any(|char| {
        let bare = char == wanted && !escaped;
        escaped = char == '\\' && !escaped;
        bare
    })
}

/// Before 3.2, HAProxy prompts for each line of a payload.
fn without_payload_prompts(answer: &str) -> &str {
    answer.trim_start_matches("+ ")
}

pub(super) fn shorten(text: &str) -> Box<str> {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_escaped_for_the_command_line() {
        for (plain, escaped) in [
            ("services:web|5|0", "services:web|5|0"),
            ("a b", r"a\ b"),
            ("a\tb", "a\\\tb"),
            (r"\x41", r"\\x41"),
            ("a;b", r"a\;b"),
            ("<<", r"\<\<"),
            ("\"q'#?*", "\"q'#?*"),
        ] {
            assert_eq!(word(plain), escaped, "{plain:?}");
        }
    }

    #[test]
    fn only_what_gets_one_answer_is_one_command() {
        for (command, one) in [
            ("show info", true),
            ("show info;show stat", false),
            (r"add map /m a\;b v", true),
            (r"add map /m a\\;b v", false),
            ("show info\nshow stat", false),
            ("", false),
            ("  ", false),
            ("a\0b", false),
            ("add map /m <<\na b\nc d\n", true),
            ("add map /m <<\na;b c\n", true),
            ("add map /m <<\na b\n\nshow stat\n", false),
            ("add map /m <<\n", false),
            ("add map /m <<\na b", false),
            ("add map /m\na b\n", false),
        ] {
            assert_eq!(is_one_command(command), one, "{command:?}");
        }
        assert!(is_one_command(&with_payload("add map /m", ["a b", "c d"])));
        assert!(!is_one_command(&with_payload("add map /m", [])));
    }
}
