//! The console blocks of the README and of some pages, pasted as printed, in a network namespace of their own, where
//! every port is free. Knows nothing of what the commands do.
//!
//! The ```` ```console ```` blocks of a page form one session. Each is pasted whole, without a pause: `$ ` begins a command,
//! the lines below are its output in order, and `...` there stands for anything. A block below `<!-- not run -->` is skipped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::{Site, program_folder};

/// A command and its expected output.
#[derive(Debug, Default)]
struct Step {
    command: String,
    prints: Vec<String>,
}

/// A shell that keeps its state from command to command.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Printed after each command's output, followed by its exit code.
const MARK: &str = "--end of command-- ";

impl Shell {
    fn new(site: &Site) -> Self {
        let folders = format!("{}:{}", program_folder().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("timeout");
        // Its own network and process namespaces: every port is free, and nothing outlives it.
        command.args([
            "600",
            "unshare",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            "ip link set lo up; exec sh 2>&1",
        ]);
        command.env("PATH", folders).env("HOME", site.home()).current_dir(site.home());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is there");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output }
    }

    /// Pastes a block; returns the output and the exit code of each command.
    fn paste(&mut self, block: &[Step]) -> Vec<(String, String)> {
        let line = |step: &Step| format!("{}\nprintf '\\n{MARK}%s\\n' $?\n", step.command);
        let text: String = block.iter().map(line).collect();
        self.input.write_all(text.as_bytes()).expect("the shell runs");
        block.iter().map(|step| self.printed(step)).collect()
    }

    fn printed(&mut self, step: &Step) -> (String, String) {
        let (mut printed, mut line) = (String::new(), String::new());
        while self.output.read_line(&mut line).expect("text") > 0 {
            if let Some(code) = line.strip_prefix(MARK) {
                return (printed, code.trim().to_owned());
            }
            printed.push_str(&std::mem::take(&mut line));
        }
        panic!("the shell ended in `{}`: {printed}", step.command);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The blocks of a page, each with its commands.
fn blocks(text: &str) -> Vec<Vec<Step>> {
    let (mut blocks, mut within, mut skip) = (Vec::<Vec<Step>>::new(), false, false);
    for line in text.lines() {
        if !within && line == "```console" {
            within = !std::mem::take(&mut skip);
            blocks.extend(within.then(Vec::new));
        } else if !within {
            skip = line == "<!-- not run -->" || (skip && line.is_empty());
        } else if line == "```" {
            within = false;
        } else {
            extend(blocks.last_mut().expect("within one"), line);
        }
    }
    blocks
}

/// Adds a line: a command, more of one that ends in a backslash, or expected output.
fn extend(block: &mut Vec<Step>, line: &str) {
    if let Some(command) = line.strip_prefix("$ ") {
        return block.push(Step { command: command.to_owned(), ..Step::default() });
    }
    let step = block.last_mut().expect("a block begins with a command");
    match step.command.ends_with('\\') && step.prints.is_empty() {
        true => step.command = format!("{}\n{line}", step.command),
        false => step.prints.push(line.to_owned()),
    }
}

/// Whether the line matches the pattern, in which `...` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = if part.is_empty() { "" } else { after };
        open = true;
    }
    rest.is_empty() || (open && pattern.ends_with("..."))
}

/// Whether the lines expected are among those printed, in this order.
fn prints(step: &Step, printed: &str) -> bool {
    let mut lines = printed.lines();
    let mut printed = |expected: &String| lines.any(|line| matches(expected, line.trim_end()));
    step.prints.iter().all(|expected| expected.is_empty() || printed(expected))
}

/// Pastes every block of a page. Each command must succeed and print what the page says.
fn paste(page: &str) {
    let path = format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"));
    let blocks = blocks(&std::fs::read_to_string(path).expect("the page is there"));
    assert!(blocks.len() >= 3, "{page}: {blocks:#?}");
    let site = Site::new();
    let mut shell = Shell::new(&site);
    for block in &blocks {
        for (step, (printed, code)) in block.iter().zip(shell.paste(block)) {
            assert!(
                prints(step, &printed) && code == "0",
                "{page}: {step:#?} printed, and exited with {code}:\n{printed}"
            );
        }
    }
}

#[test]
fn readme() {
    paste("README.md");
}

#[test]
fn recipes() {
    paste("docs/recipes.md");
}

#[test]
fn troubleshooting() {
    paste("docs/troubleshooting.md");
}

#[test]
fn patterns() {
    for (pattern, line, expected) in [
        ("a b", "a b", true),
        ("a b", "a bc", false),
        ("a...", "abc", true),
        ("a...c", "abc", true),
        ("a...c", "abd", false),
        ("...", "", true),
        ("b...", "abc", false),
    ] {
        assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
    }
    let text = "```console\n$ one \\\n  more\nprinted\n```\n<!-- not run -->\n\n```console\n$ two\n```\n```console\n$ three\n```\n";
    let found: Vec<_> = blocks(text).into_iter().flatten().map(|step| (step.command, step.prints)).collect();
    assert_eq!(found, [("one \\\n  more".to_owned(), vec!["printed".to_owned()]), ("three".to_owned(), vec![])]);
}
