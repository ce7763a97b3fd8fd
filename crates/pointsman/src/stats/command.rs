//! Command lines of the socket (Management Guide, section 9.3), parsed. Does nothing that they say.

use std::time::Duration;

use super::dump::StatFilter;
use super::form::StatForm;
use crate::settings::StatsLevel;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SocketCommand {
    /// The proxy is named, and looked up later.
    ShowStat {
        proxy: Option<String>,
        filter: StatFilter,
        form: StatForm,
    },
    ShowInfo(StatForm),
    ShowServersState(Option<String>),
    ShowErrors(Option<String>),
    GetWeight(ServerPath),
    Edit(ServerPath, ServerEdit),
    /// Toggles the interactive mode.
    Prompt,
    Quit,
    Help,
    /// Of this connection.
    SetTimeout(Duration),
    /// It answers this.
    Wrong(&'static str),
    Unknown,
}

/// `BACKEND/SERVER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPath {
    pub(super) backend: String,
    pub(super) server: String,
}

/// What is done with a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerEdit {
    /// It takes no new work: `drain`, and `maint`, which are one here.
    Drain,
    Ready,
    Weight(u16),
    /// Of its initial weight.
    Percent(u32),
}

impl ServerEdit {
    /// For the log.
    pub(super) fn words(self) -> String {
        match self {
            Self::Drain => "drained".to_owned(),
            Self::Ready => "ready again".to_owned(),
            Self::Weight(weight) => format!("weight {weight}"),
            Self::Percent(percent) => format!("{percent} % of its initial weight"),
        }
    }
}

const NO_PATH: &str = "Require 'backend/server'.\n";
const NO_WEIGHT: &str = "Require <weight> or <weight%>.\n";
const BAD_STATE: &str = "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n";
const SET_SERVER: &str = "usage: set server <backend>/<server> state | weight\n";
const DENIED: &str = "Permission denied\n";

/// The commands of a line: they are separated by `;`, words by spaces, and a backslash takes the meaning of what follows.
pub(super) fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut characters = line.trim_end_matches('\r').chars();
    let end_word = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            ' ' | '\t' => end_word(&mut word, &mut words),
            ';' => {
                end_word(&mut word, &mut words);
                all.push(std::mem::take(&mut words));
            }
            other => word.push(other),
        }
    }
    end_word(&mut word, &mut words);
    all.push(words);
    all.retain(|words| !words.is_empty());
    // An empty line is a command too: an unknown one.
    if all.is_empty() { vec![Vec::new()] } else { all }
}

impl SocketCommand {
    /// The command of these words, for a client of this level.
    pub(super) fn parse(words: &[String], level: StatsLevel) -> Self {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (least, command) = Self::read(&words);
        if level < least { Self::Wrong(DENIED) } else { command }
    }

    /// With the least level that it takes.
    fn read(words: &[&str]) -> (StatsLevel, Self) {
        use StatsLevel::{Admin, Operator, User};
        let name = |at: usize| words.get(at).map(|word| (*word).to_owned());
        match words {
            ["show", "stat", rest @ ..] => (User, show_stat(rest)),
            ["show", "info", rest @ ..] => (User, Self::ShowInfo(form(rest))),
            ["show", "servers", "state", ..] => (User, Self::ShowServersState(name(3))),
            ["show", "errors", ..] => (Operator, Self::ShowErrors(name(2).filter(|name| name != "-1"))),
            ["get", "weight", rest @ ..] => {
                (User, path(rest).map_or_else(Self::Wrong, |(path, _)| Self::GetWeight(path)))
            }
            ["set", "timeout", rest @ ..] => (User, set_timeout(rest)),
            ["set", "server", rest @ ..] => (Admin, edit(rest, set_server)),
            ["set", "weight", rest @ ..] => (Admin, edit(rest, weight)),
            ["disable", "server", rest @ ..] => (Admin, edit(rest, |_| Ok(ServerEdit::Drain))),
            ["enable", "server", rest @ ..] => (Admin, edit(rest, |_| Ok(ServerEdit::Ready))),
            ["prompt", ..] => (User, Self::Prompt),
            ["quit", ..] => (User, Self::Quit),
            ["help", ..] => (User, Self::Help),
            _ => (User, Self::Unknown),
        }
    }
}

/// `[domain proxy] [{<iid>|<proxy>} <type> <sid>] [typed|json] [up|no-maint]`.
fn show_stat(mut words: &[&str]) -> SocketCommand {
    if let ["domain", domain, rest @ ..] = words {
        if *domain != "proxy" {
            return SocketCommand::Wrong("Invalid statistics domain.\n");
        }
        words = rest;
    }
    let (mut filter, mut proxy) = (StatFilter::default(), None);
    if let [which, kinds, sid, rest @ ..] = words
        && let (Ok(kinds), Ok(sid)) = (kinds.parse::<i64>(), sid.parse::<i64>())
    {
        // A negative number means all.
        let some = |number: i64| u32::try_from(number).ok();
        filter = StatFilter { kinds: some(kinds), sid: some(sid), ..filter };
        match which.parse::<i64>() {
            Ok(iid) => filter.iid = some(iid),
            Err(_) => proxy = Some((*which).to_owned()),
        }
        words = rest;
    }
    filter.up = words.contains(&"up");
    filter.no_maint = words.contains(&"no-maint");
    SocketCommand::ShowStat { proxy, filter, form: form(words) }
}

fn form(words: &[&str]) -> StatForm {
    words.iter().find_map(|word| StatForm::named(word)).unwrap_or_default()
}

fn path<'w, 'a>(words: &'w [&'a str]) -> Result<(ServerPath, &'w [&'a str]), &'static str> {
    let (first, rest) = words.split_first().ok_or(NO_PATH)?;
    let (backend, server) = first.split_once('/').filter(|(_, server)| !server.is_empty()).ok_or(NO_PATH)?;
    Ok((ServerPath { backend: backend.to_owned(), server: server.to_owned() }, rest))
}

fn edit(words: &[&str], read: fn(&[&str]) -> Result<ServerEdit, &'static str>) -> SocketCommand {
    let read = |(path, rest)| Ok((path, read(rest)?));
    match path(words).and_then(read) {
        Ok((path, edit)) => SocketCommand::Edit(path, edit),
        Err(wrong) => SocketCommand::Wrong(wrong),
    }
}

fn set_server(words: &[&str]) -> Result<ServerEdit, &'static str> {
    match words {
        ["state", "ready", ..] => Ok(ServerEdit::Ready),
        ["state", "drain" | "maint", ..] => Ok(ServerEdit::Drain),
        ["state", ..] => Err(BAD_STATE),
        ["weight", rest @ ..] => weight(rest),
        _ => Err(SET_SERVER),
    }
}

/// `0` to `256`, or a share of the initial weight: `50%`.
fn weight(words: &[&str]) -> Result<ServerEdit, &'static str> {
    let word = words.first().ok_or(NO_WEIGHT)?;
    let end = word.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+')).count();
    // HAProxy's message, word by word.
    let number: i64 = word[..end].parse().map_err(|_| "Empty weight string empty or preceded by garbage")?;
    match &word[end..] {
        "" if !(0..=256).contains(&number) => Err("Absolute weight can only be between 0 and 256 inclusive.\n"),
        "" => Ok(ServerEdit::Weight(u16::try_from(number).unwrap_or(256))),
        "%" if number < 0 => Err("Relative weight must be positive.\n"),
        "%" => Ok(ServerEdit::Percent(u32::try_from(number).unwrap_or(u32::MAX))),
        _ => Err("Trailing garbage in weight string"),
    }
}

/// `cli <delay>`, in seconds if it has no unit.
fn set_timeout(words: &[&str]) -> SocketCommand {
    let text = match words {
        ["cli", text, ..] => text,
        ["cli"] => return SocketCommand::Wrong("Expects an integer value.\n"),
        _ => return SocketCommand::Wrong("'set timeout' only supports 'cli'.\n"),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let millis = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    // As in HAProxy, at most 2^31 milliseconds.
    let span = text[..digits].parse().ok().and_then(|number: u32| number.checked_mul(millis));
    match span.filter(|span| (1..1 << 31).contains(span)) {
        Some(span) => SocketCommand::SetTimeout(Duration::from_millis(u64::from(span))),
        None => SocketCommand::Wrong("Invalid timeout value.\n"),
    }
}

/// The commands that there are, in HAProxy's words.
pub(super) const COMMANDS: &str = "  \
  disable server (DEPRECATED)             : disable a server for maintenance (use 'set server' instead)
  enable server  (DEPRECATED)             : enable a disabled server (use 'set server' instead)
  get weight <bk>/<srv>                   : report a server's current weight
  set server <bk>/<srv> [opts]            : change a server's state or weight
  set timeout [cli] <delay>               : change a timeout setting
  set weight <bk>/<srv>  (DEPRECATED)     : change a server's weight (use 'set server' instead)
  show errors [<px>] [request|response]   : report last request and/or response errors for each proxy
  show info [desc|json|typed|float]*      : report information about the running process
  show servers state [<backend>]          : dump volatile server information (all or for a single backend)
  show stat [desc|json|no-maint|typed|up]*: report counters for each proxy and server
  help [<command>]                        : list matching or all commands
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, level: StatsLevel) -> Vec<SocketCommand> {
        commands(line).iter().map(|words| SocketCommand::parse(words, level)).collect()
    }

    #[test]
    fn lines_are_cut_into_commands_and_words() {
        for (line, expected) in [
            ("show info", &[&["show", "info"][..]][..]),
            ("show  stat -1 1 -1;show info\r", &[&["show", "stat", "-1", "1", "-1"], &["show", "info"]]),
            (";a;;b;", &[&["a"], &["b"]]),
            (r"a\;b c\ d e\\ ; f\", &[&["a;b", "c d", r"e\"], &["f"]]),
            ("", &[&[]]),
            (" ; ", &[&[]]),
        ] {
            assert_eq!(commands(line), expected, "{line:?}");
        }
    }

    #[test]
    fn lines_are_understood() {
        use SocketCommand as C;
        let path = || ServerPath { backend: "services:web".to_owned(), server: "web-1".to_owned() };
        let edit = |edit| C::Edit(path(), edit);
        let stat = |filter, form| C::ShowStat { proxy: None, filter, form };
        let numbers = StatFilter { iid: Some(2), kinds: Some(4), sid: Some(1), ..StatFilter::default() };
        let up = StatFilter { up: true, no_maint: true, ..StatFilter::default() };
        for (line, expected) in [
            ("show stat", stat(StatFilter::default(), StatForm::Csv)),
            ("show stat -1 -1 -1 json", stat(StatFilter::default(), StatForm::Json)),
            ("show stat domain proxy 2 4 1 typed", stat(numbers, StatForm::Typed)),
            ("show stat up no-maint", stat(up, StatForm::Csv)),
            ("show stat domain dns", C::Wrong("Invalid statistics domain.\n")),
            ("show info json", C::ShowInfo(StatForm::Json)),
            ("show servers state", C::ShowServersState(None)),
            ("show servers", C::Unknown),
            ("show errors -1 request", C::ShowErrors(None)),
            ("set server services:web/web-1 state drain", edit(ServerEdit::Drain)),
            ("set server services:web/web-1 state maint", edit(ServerEdit::Drain)),
            ("set server services:web/web-1 state ready", edit(ServerEdit::Ready)),
            ("set server services:web/web-1 state no", C::Wrong(BAD_STATE)),
            ("set server services:web/web-1 weight 7", edit(ServerEdit::Weight(7))),
            ("set server services:web/web-1 weight", C::Wrong(NO_WEIGHT)),
            ("set server services:web/web-1 addr 1.2.3.4", C::Wrong(SET_SERVER)),
            ("set server services:web", C::Wrong(NO_PATH)),
            ("set weight services:web/web-1 50%", edit(ServerEdit::Percent(50))),
            ("set weight services:web/web-1 5%%", C::Wrong("Trailing garbage in weight string")),
            (
                "set weight services:web/web-1 257",
                C::Wrong("Absolute weight can only be between 0 and 256 inclusive.\n"),
            ),
            ("disable server services:web/web-1", edit(ServerEdit::Drain)),
            ("enable server services:web/web-1", edit(ServerEdit::Ready)),
            ("get weight services:web/web-1", C::GetWeight(path())),
            ("set timeout cli 60", C::SetTimeout(Duration::from_secs(60))),
            ("set timeout cli 500ms", C::SetTimeout(Duration::from_millis(500))),
            ("set timeout cli 30d", C::Wrong("Invalid timeout value.\n")),
            ("set timeout cli 0", C::Wrong("Invalid timeout value.\n")),
            ("SHOW STAT", C::Unknown),
            ("@1 show stat", C::Unknown),
            ("", C::Unknown),
        ] {
            assert_eq!(parse(line, StatsLevel::Admin), [expected], "{line}");
        }
        for line in ["disable server a/b", "set server a/b state no", "set weight a/b 1"] {
            assert_eq!(parse(line, StatsLevel::Operator), [C::Wrong(DENIED)], "{line}");
        }
        assert_eq!(parse("show errors", StatsLevel::User), [C::Wrong(DENIED)]);
    }
}
