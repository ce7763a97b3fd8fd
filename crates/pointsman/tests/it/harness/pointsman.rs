//! The program, started as users start it.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::client::{Connection, get};
use super::engine::{Engine, engine};
use super::process::{Finished, Process, finish};
use super::site::Site;
use super::{PATIENCE, turn, wait};

/// A running `pointsman run`.
pub(crate) struct Pointsman {
    /// Its process: log, signals, memory.
    pub(crate) process: Process,
    /// Its HTTP address.
    pub(crate) http: SocketAddr,
    /// The address of its admin pages.
    pub(crate) admin: SocketAddr,
    /// Its `--state`, if that is not the site's.
    _state: Option<TempDir>,
}

impl Pointsman {
    /// Serves this directory store, and waits until it is ready.
    #[track_caller]
    pub(crate) fn serving(site: &Site) -> Self {
        let running = Launch::on(site).start();
        running.wait_ready();
        running
    }

    /// Waits until a table is served.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        wait("readiness", || get(self.admin, "localhost", "/readyz").is_ok_and(|answer| answer.status == 200));
    }

    /// Ends it in order.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        self.process.signal("TERM");
        assert!(self.process.wait_exit(PATIENCE).success(), "{}", self.process.log());
    }

    /// A page of the admin listener.
    #[track_caller]
    pub(crate) fn admin_page(&self, path: &str) -> String {
        get(self.admin, "localhost", path).unwrap_or_else(|error| panic!("{path}: {error}")).text()
    }

    /// Makes one change of the keys, and waits until all workers serve it.
    #[track_caller]
    pub(crate) fn after(&self, change: impl FnOnce()) {
        // The newest: workers may not serve all changes before it yet.
        let before = self.metric("pointsman_table_revision", &[]);
        change();
        wait("the change", || self.metric("pointsman_table_applied_revision", &[]) > before);
    }

    /// The sum of a metric's samples whose labels contain all of `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.admin_page("/metrics");
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = page.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A new connection to the HTTP listener.
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.http)
    }

    /// Waits until a request gets this status and a body that contains the text.
    #[track_caller]
    pub(crate) fn wait_answer(&self, host: &str, target: &str, status: u16, text: &str) {
        let what = format!("{status} `{text}` from {host}{target}");
        wait(&what, || get(self.http, host, target).is_ok_and(|got| got.status == status && got.text().contains(text)));
    }

    /// Waits until the backend of this name answers a request.
    #[track_caller]
    pub(crate) fn wait_backend(&self, host: &str, target: &str, name: &str) {
        let what = format!("backend {name} for {host}{target}");
        wait(&what, || get(self.http, host, target).is_ok_and(|got| got.header("x-backend") == Some(name)));
    }

    /// Waits until no service matches this request any more (503).
    #[track_caller]
    pub(crate) fn wait_gone(&self, host: &str, target: &str) {
        self.wait_answer(host, target, 503, "");
    }

    /// Waits until `/api/problems` has a problem of this kind with all these texts, and the log has them too.
    #[track_caller]
    pub(crate) fn wait_problem(&self, kind: &str, texts: &[&str]) {
        self.wait_listed(kind, texts);
        let named = |page: &str| texts.iter().all(|text| page.contains(text));
        wait(&format!("{texts:?} in the log"), || named(&self.process.log()));
    }

    /// The same without the log, which names only the first of many problems that come at once.
    #[track_caller]
    pub(crate) fn wait_listed(&self, kind: &str, texts: &[&str]) {
        wait(&format!("a {kind} with {texts:?}"), || {
            let page = self.admin_page("/api/problems");
            texts.iter().all(|text| page.contains(text)) && page.contains(&format!("\"{kind}\""))
        });
    }
}

/// A `pointsman run` to be started.
pub(crate) struct Launch {
    command: Command,
    /// Its `--state`; its own folder by default.
    state: Option<PathBuf>,
    /// The command that executes it.
    wrapper: Vec<String>,
    /// Nothing was said about HTTPS: it is off, as tests must not take port 443 of the machine.
    no_https: bool,
}

impl Launch {
    /// With an empty environment and no flags.
    pub(crate) fn bare() -> Self {
        turn::shared();
        let mut command = program();
        command.arg("run");
        Self { command, state: None, wrapper: Vec::new(), no_https: true }
    }

    /// On loopback, with free ports, an empty environment, and the engine under test.
    pub(crate) fn new() -> Self {
        Self::engine(engine())
    }

    /// [`Launch::new`] with this engine.
    pub(crate) fn engine(engine: Engine) -> Self {
        Self::bare().args(&["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--engine", engine.name()])
    }

    /// On a directory store without a prefix.
    pub(crate) fn on(site: &Site) -> Self {
        Self::new().store(site)
    }

    /// Follows this directory store without a prefix, and keeps its state beside it.
    pub(crate) fn store(mut self, site: &Site) -> Self {
        self.state = Some(site.home().join("state"));
        self.arg("--store").arg(site.folder()).arg("--prefix").arg("/")
    }

    /// Keeps its state here.
    pub(crate) fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.no_https &= !arguments.contains(&"--https");
        self.command.args(arguments);
        self
    }

    /// Runs it through a command that executes it in the end: `setpriv ...`, `unshare ...`.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// HTTPS at its usual port, for a program in a network of its own.
    pub(crate) fn usual_https(self) -> Self {
        Self { no_https: false, ..self }
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it and waits for its listeners.
    #[track_caller]
    pub(crate) fn start(mut self) -> Pointsman {
        let own = self.state.is_none().then(|| TempDir::new().expect("a temporary folder"));
        self.state = self.state.or_else(|| Some(own.as_ref()?.path().to_owned()));
        let mut process = self.start_process();
        let http = address(&process.wait_line("listening for HTTP on "), "listening for HTTP on ");
        let admin = address(&process.wait_line("admin on http://"), "admin on http://");
        Pointsman { process, http, admin, _state: own }
    }

    /// Starts it without expecting listeners.
    pub(crate) fn start_process(mut self) -> Process {
        if let Some(state) = &self.state {
            self.command.arg("--state").arg(state);
        }
        if self.no_https {
            self.command.args(["--https", "off"]);
        }
        match self.wrapper.split_first() {
            None => Process::start(&mut self.command),
            Some((first, rest)) => Process::start(&mut wrapped(first, rest, &self.command)),
        }
    }
}

fn wrapped(program: &str, arguments: &[String], command: &Command) -> Command {
    let mut whole = Command::new(program);
    whole.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

/// Runs another command to completion.
#[track_caller]
pub(crate) fn run(arguments: &[&str]) -> Finished {
    turn::shared();
    finish(program().args(arguments))
}

/// Runs another command with nobody at the other end of its pipes; returns its exit code.
#[track_caller]
pub(crate) fn run_unread(arguments: &[&str]) -> Option<i32> {
    turn::shared();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = program();
    command.args(arguments).stdout(writer.try_clone().expect("open")).stderr(writer);
    command.status().expect("the program is there").code()
}

/// Starts `pointsman demo`.
pub(crate) fn demo(arguments: &[&str]) -> Process {
    turn::shared();
    Process::start(program().arg("demo").args(arguments))
}

/// Starts `pointsman demo` through a command that executes it in the end.
pub(crate) fn demo_under(wrapper: &[String], arguments: &[&str]) -> Process {
    turn::shared();
    let (first, rest) = wrapper.split_first().expect("a command");
    let mut demo = program();
    Process::start(&mut wrapped(first, rest, demo.arg("demo").args(arguments)))
}

/// The folder of the program.
pub(crate) fn program_folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pointsman")).parent().expect("a file is in a folder")
}

/// Runs a line that was printed for a shell.
#[track_caller]
pub(crate) fn shell(line: &str) -> Finished {
    finish(Command::new("sh").args(["-c", line]))
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["POINTSMAN", "HAPROXY", "ETCD", "KONTENA", "RUST_LOG"].iter().any(|ours| text.starts_with(ours)) {
            command.env_remove(&name);
        }
    }
    if let Some(haproxy) = std::env::var_os("POINTSMAN_TEST_HAPROXY") {
        command.env("PATH", path_with(Path::new(&haproxy)));
    }
    command
}

/// `PATH` with this program first, also for wrappers of it.
fn path_with(program: &Path) -> String {
    let folder = program.parent().expect("a file is in a folder").display();
    format!("{folder}:{}", std::env::var("PATH").unwrap_or_default())
}

/// The address after `lead` in a line of the log.
fn address(line: &str, lead: &str) -> SocketAddr {
    let (_, rest) = line.split_once(lead).expect("the line was found by it");
    let end = rest.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|error| panic!("no address in `{line}`: {error}"))
}

/// A balancer whose service `a.test` has one instance, with more keys beside.
pub(crate) fn serving(instance: &str, more: &[(&str, &str)]) -> (Site, Pointsman) {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", instance)]);
    for (key, value) in more {
        site.put(key, value);
    }
    let running = Pointsman::serving(&site);
    (site, running)
}

/// A balancer of two workers with a service `a.test`, and its keys.
pub(crate) fn with_two_workers(keys: &[(&str, &str)]) -> (Pointsman, Site) {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    let running = Launch::on(&site).args(&["--workers", "2"]).start();
    running.wait_ready();
    (running, site)
}
