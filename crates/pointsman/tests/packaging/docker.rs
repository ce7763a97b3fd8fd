//! A Docker daemon: a running one, or our own for the duration of a test.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Finished, Running, finish, has, is_root, repository, skip, wait};

/// A running daemon.
pub(crate) struct Docker {
    /// Its address, if it is not the client's default.
    host: Option<String>,
    /// Our own daemon, with its folder. The process is dropped first.
    own: Option<(Running, TempDir)>,
}

impl Docker {
    /// The daemon; if there is none, prints the reason.
    pub(crate) fn get() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Docker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(docker) = shared.upgrade() {
            return Some(docker);
        }
        match Self::find() {
            Ok(docker) => {
                let docker = Arc::new(docker);
                *shared = Arc::downgrade(&docker);
                Some(docker)
            }
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn find() -> Result<Self, String> {
        if !has("docker") {
            return Err("there is no docker".to_owned());
        }
        let there = Self { host: None, own: None };
        match there.answers() {
            true => Ok(there),
            false if !is_root() || !has("dockerd") => {
                Err("no Docker daemon answers, and we cannot start one".to_owned())
            }
            false => Self::start(),
        }
    }

    fn start() -> Result<Self, String> {
        let home = TempDir::new().expect("a temporary folder");
        let at = |name: &str| home.path().join(name).to_string_lossy().into_owned();
        let host = format!("unix://{}", at("docker.sock"));
        let log = File::create(at("log")).expect("our own folder");
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("dockerd");
        command.env("PATH", path).args(["--iptables=false", "--host", &host]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.args([flag, &at(name)]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| format!("dockerd: {error}"))?;
        let mut own = Self { host: Some(host), own: Some((Running(child), home)) };
        let up = wait("dockerd", 60, || match own.answers() {
            true => Some(true),
            false => own.has_ended().then_some(false),
        });
        match up {
            true => Ok(own),
            false => Err(format!("dockerd cannot run here: {}", own.last_words())),
        }
    }

    fn has_ended(&mut self) -> bool {
        self.own.as_mut().is_none_or(|(process, _)| process.0.try_wait().is_ok_and(|status| status.is_some()))
    }

    fn last_words(&self) -> String {
        let folder = self.own.as_ref().map(|(_, home)| home.path().join("log"));
        let log = folder.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        log.lines().last().unwrap_or_default().to_owned()
    }

    fn answers(&self) -> bool {
        self.try_run(&["version", "--format", "{{.Server.Version}}"]).code == Some(0)
    }

    /// The client's command, without arguments.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command.current_dir(repository());
        command
    }

    /// Runs `docker` with these arguments to completion.
    #[track_caller]
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Finished {
        finish(self.command("docker").args(arguments))
    }

    /// The same; fails the test if it fails.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).ok()
    }

    /// Our image, built once per run. Its name differs from the published one, which users may have.
    #[track_caller]
    pub(crate) fn image(&self) -> &'static str {
        static BUILT: OnceLock<()> = OnceLock::new();
        const NAME: &str = "pointsman-under-test";
        BUILT.get_or_init(|| self.replacing(NAME, self.command("packaging/docker/build.sh").arg(NAME)));
        NAME
    }

    /// Runs a command that builds an image of this name, and removes the image that had the name before.
    #[track_caller]
    pub(crate) fn replacing(&self, name: &str, command: &mut Command) {
        let id = || self.try_run(&["image", "inspect", "--format", "{{.Id}}", name]).stdout;
        let before = id();
        finish(command).ok();
        if !before.is_empty() && before != id() {
            // Others may still use it.
            let _ = self.try_run(&["image", "rm", &before]);
        }
    }

    /// Imports the tar of a file system as an image, unless the image exists.
    #[track_caller]
    pub(crate) fn import(&self, tar: &Path, name: &str) {
        static ONE_BY_ONE: Mutex<()> = Mutex::new(());
        let _guard = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.try_run(&["image", "inspect", name]).code != Some(0) {
            finish(self.command("docker").arg("import").arg(tar).arg(name)).ok();
        }
    }

    /// Creates a network; returns it, and this machine's address in it.
    #[track_caller]
    pub(crate) fn network(&self) -> (Thing<'_>, IpAddr) {
        let name = fresh_name();
        self.run(&["network", "create", &name]);
        let thing = Thing { docker: self, name, remove: &["network", "rm"] };
        let gateway = self.run(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", &thing.name]);
        let ip = gateway.parse().unwrap_or_else(|error| panic!("{gateway}: {error}"));
        (thing, ip)
    }

    /// Starts a container: `docker run --detach` with these arguments.
    #[track_caller]
    pub(crate) fn container(&self, arguments: &[&str]) -> Thing<'_> {
        let name = fresh_name();
        let thing = Thing { docker: self, name, remove: &["rm", "--force", "--volumes"] };
        self.run(&[&["run", "--detach", "--name", &thing.name], arguments].concat());
        thing
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let Some((process, _)) = &mut self.own else { return };
        // SIGTERM, so that it can end its containers and its own daemon.
        let _ = Command::new("kill").arg(process.0.id().to_string()).status();
        for _ in 0..100 {
            if process.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("pointsman-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container or network, removed on drop.
pub(crate) struct Thing<'d> {
    docker: &'d Docker,
    /// Its name.
    pub(crate) name: String,
    remove: &'static [&'static str],
}

impl Thing<'_> {
    /// Runs a command in the container.
    #[track_caller]
    pub(crate) fn exec(&self, command: &[&str]) -> Finished {
        self.docker.try_run(&[&["exec", &self.name], command].concat())
    }

    /// Runs a shell script in the container.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Finished {
        self.exec(&["sh", "-euc", script])
    }

    /// Formats a field of `docker inspect` for the container.
    #[track_caller]
    pub(crate) fn inspect(&self, format: &str) -> String {
        self.docker.run(&["inspect", "--format", format, &self.name])
    }

    /// Waits until its health check reports this status.
    #[track_caller]
    pub(crate) fn wait_health(&self, status: &str) {
        wait(&format!("{} to be {status}", self.name), 30, || {
            (self.inspect("{{.State.Health.Status}}") == status).then_some(())
        });
    }

    /// Its complete log.
    #[track_caller]
    pub(crate) fn log(&self) -> String {
        let finished = self.docker.try_run(&["logs", &self.name]);
        finished.stdout + &finished.stderr
    }
}

impl Drop for Thing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.remove[0] == "rm" {
            eprintln!("---- output of {} ----\n{}", self.name, self.log());
        }
        let _ = self.docker.try_run(&[self.remove, &[&self.name]].concat());
    }
}
