//! The README's commands, run as printed, in their own network namespace, where every port is free.
//!
//! All ```` ```console ```` blocks form one session: `$ ` begins a command, the lines below are its output, and `...`
//! there stands for anything. A block below `<!-- not run -->` is skipped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::{Site, long, program_folder, wait};

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
        let mut command = Command::new("unshare");
        // Its own network and process namespaces: every port is free, and nothing outlives it.
        command.args([
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

    /// Runs a command; returns its output and exit code.
    fn run(&mut self, command: &str) -> (String, String) {
        writeln!(self.input, "{command}\nprintf '\\n{MARK}%s\\n' $?").expect("the shell runs");
        let (mut printed, mut line) = (String::new(), String::new());
        while self.output.read_line(&mut line).expect("text") > 0 {
            if let Some(code) = line.strip_prefix(MARK) {
                return (printed, code.trim().to_owned());
            }
            printed.push_str(&std::mem::take(&mut line));
        }
        panic!("the shell ended in `{command}`: {printed}");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut within, mut skip) = (Vec::<Step>::new(), false, false);
    for line in text.lines() {
        match (within, line.strip_prefix("$ ")) {
            (false, _) if line == "```console" => within = !std::mem::take(&mut skip),
            (false, _) => skip = line == "<!-- not run -->" || (skip && line.is_empty()),
            (true, _) if line == "```" => within = false,
            (true, Some(command)) => steps.push(Step { command: command.to_owned(), ..Step::default() }),
            (true, None) => extend(steps.last_mut().expect("a block begins with a command"), line),
        }
    }
    steps
}

/// Adds a line: more of the command if that ends in a backslash, otherwise expected output.
fn extend(step: &mut Step, line: &str) {
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

fn prints(step: &Step, printed: &str) -> bool {
    step.prints
        .iter()
        .all(|expected| expected.is_empty() || printed.lines().any(|line| matches(expected, line.trim_end())))
}

#[test]
fn every_command_prints_what_it_is_said_to() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let steps = steps(&std::fs::read_to_string(root).expect("there is a README"));
    assert!(steps.len() >= 5, "{steps:#?}");
    let site = Site::new();
    let mut shell = Shell::new(&site);
    for step in &steps {
        let mut last = shell.run(&step.command);
        if long() {
            println!("$ {}\n{}", step.command, last.0);
        }
        // A change is served a moment later; a person who types does not notice, but a test must retry.
        wait(&format!("{step:?}, which printed {last:?}"), || {
            let good = prints(step, &last.0) && (last.1 == "0" || step.command.ends_with('&'));
            if !good && !step.command.ends_with('&') {
                last = shell.run(&step.command);
            } else if !good {
                last.0.push_str(&shell.run("").0);
            }
            good
        });
    }
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
    let found: Vec<_> = steps(text).into_iter().map(|step| (step.command, step.prints)).collect();
    assert_eq!(found, [("one \\\n  more".to_owned(), vec!["printed".to_owned()]), ("three".to_owned(), vec![])]);
}
