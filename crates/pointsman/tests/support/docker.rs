//! A real Docker daemon for tests: a running one, or our own. Handles remove what a test creates there.
//!
//! Images contain one static program and nothing else, because there is no registry: `web` is the program of `web.rs`.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The label of everything that tests create.
const LABEL: &str = "pointsman-test";

/// Deadline for any action of a daemon or container.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon, and what one test has created there.
pub(crate) struct Docker {
    host: String,
    /// The test's own prefix for labels and names.
    pub(crate) run: String,
    images: Mutex<Vec<String>>,
    networks: Mutex<Vec<String>>,
    own: Option<Own>,
}

/// A daemon that we started.
struct Own {
    child: Child,
    folder: TempDir,
    bridge: Bridge,
}

/// Its own bridge: another daemon may use the default one.
struct Bridge(String);

impl Docker {
    /// A running daemon, at `DOCKER_HOST` or the usual socket; otherwise our own, if possible. If there is none, prints
    /// the reason.
    pub(crate) fn get() -> Option<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let running = Self::at(host);
        match running.answers() {
            true => Some(running),
            false => Self::own(),
        }
    }

    /// Our own daemon, even if another one runs: to be stopped, frozen and replaced.
    pub(crate) fn own() -> Option<Self> {
        let root = said(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
        let Some(program) = dockerd().filter(|_| root) else {
            skipped("");
            return None;
        };
        let folder = TempDir::new().expect("a folder");
        let bridge = Bridge::new();
        let mut docker = Self::at(format!("unix://{}", folder.path().join("docker.sock").display()));
        let child = spawn(&program, folder.path(), &bridge);
        docker.own = Some(Own { child, folder, bridge });
        if let Err(log) = docker.wait_ready() {
            skipped(&format!(", and ours does not start: {log}"));
            return None;
        }
        Some(docker)
    }

    fn at(host: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let run = format!("pm{}x{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self { host, run, images: Mutex::default(), networks: Mutex::default(), own: None }
    }

    fn answers(&self) -> bool {
        self.try_docker(&["version", "--format", "{{.Server.Version}}"]).is_ok()
    }

    /// Its address: `unix:///var/run/docker.sock`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Runs `docker`, which must succeed; returns its trimmed output.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        self.try_docker(args).unwrap_or_else(|error| panic!("docker {args:?}: {error}"))
    }

    /// The same, but may fail; the error is its error output.
    pub(crate) fn try_docker(&self, args: &[&str]) -> Result<String, String> {
        said(self.command().args(args)).map(|text| text.trim().to_owned())
    }

    /// A `docker` command for this daemon, for the caller to run.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("docker");
        // Without BuildKit: its client is a separate program, which may be missing.
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
        command
    }

    /// Builds an image from scratch with these files, by their names in the image, and these additional Dockerfile
    /// lines. Returns the image's full name.
    pub(crate) fn build(&self, name: &str, lines: &str, files: &[(&str, &Path)]) -> String {
        let (image, folder) = (format!("{}-{name}", self.run), TempDir::new().expect("a folder"));
        // Every layer is unique; otherwise another test could remove an identical image meanwhile.
        let mut text = format!("FROM scratch\nLABEL {LABEL}-image={image}\n");
        for (name, file) in files {
            fs::copy(file, folder.path().join(name)).expect("the file is there");
            text = format!("{text}COPY {name} /{name}\n");
        }
        fs::write(folder.path().join("Dockerfile"), format!("{text}{lines}\n")).expect("written");
        self.docker(&["build", "--quiet", "--tag", &image, &folder.path().display().to_string()]);
        self.images.lock().expect("no test panics with it").push(image.clone());
        image
    }

    /// The image of `web`, with additional Dockerfile lines.
    pub(crate) fn build_web(&self, name: &str, lines: &str) -> String {
        self.build(name, &format!("ENTRYPOINT [\"/web\"]\n{lines}"), &[("web", web())])
    }

    /// `docker run --detach` with these arguments, including the image's name; returns the container's id.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let label = format!("{LABEL}={}", self.run);
        self.docker(&[&["run", "--detach", "--label", &label], args].concat())
    }

    /// Creates a network with this name after the test's prefix.
    pub(crate) fn network(&self, name: &str) -> String {
        let network = format!("{}-{name}", self.run);
        self.docker(&["network", "create", &network]);
        self.networks.lock().expect("no test panics with it").push(network.clone());
        network
    }

    /// A container's address in the given network, or in its only one.
    pub(crate) fn ip(&self, id: &str, network: Option<&str>) -> String {
        let format = match network {
            Some(name) => format!("{{{{(index .NetworkSettings.Networks {name:?}).IPAddress}}}}"),
            None => "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}".to_owned(),
        };
        self.docker(&["inspect", "--format", &format, id])
    }

    /// Waits until `web` in this container answers on port 80.
    pub(crate) fn wait_web(&self, id: &str) {
        let address = format!("{}:80", self.ip(id, None));
        wait(&format!("{address} answers"), || std::net::TcpStream::connect(&address).is_ok());
    }

    /// Sends a signal, such as `STOP` or `CONT`, to our own daemon.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.own.as_ref().expect("a daemon of our own").child.id().to_string();
        said(Command::new("kill").args([&format!("-{name}"), &id])).expect("it runs");
    }

    /// Ends our own daemon and its containers.
    pub(crate) fn stop(&mut self) {
        self.own.as_mut().expect("a daemon of our own").stop();
    }

    /// Starts our own daemon again, with its data or as a new one.
    pub(crate) fn start(&mut self, anew: bool) {
        let own = self.own.as_mut().expect("a daemon of our own");
        if anew {
            fs::remove_dir_all(own.folder.path().join("data")).expect("it does not run");
        }
        own.child = spawn(&dockerd().expect("it ran"), own.folder.path(), &own.bridge);
        self.wait_ready().expect("it starts");
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            let ended = self.own.as_mut().is_some_and(|own| !matches!(own.child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = self.own.as_ref().map(|own| own.folder.path().join("log"));
                return Err(log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn clean(&self) {
        let filter = format!("label={LABEL}={}", self.run);
        let ids = self.try_docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).unwrap_or_default();
        for id in ids.lines() {
            drop(self.try_docker(&["rm", "--force", "--volumes", id]));
        }
        for network in self.networks.lock().map(|all| all.clone()).unwrap_or_default() {
            drop(self.try_docker(&["network", "rm", &network]));
        }
        for image in self.images.lock().map(|all| all.clone()).unwrap_or_default() {
            drop(self.try_docker(&["rmi", "--force", &image]));
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            // It may be frozen.
            drop(said(Command::new("kill").args(["-CONT", &own.child.id().to_string()])));
        }
        self.clean();
        if let Some(own) = &mut self.own {
            own.stop();
            own.unmount();
        }
    }
}

impl Own {
    /// Asks it to end, and kills it if it does not.
    fn stop(&mut self) {
        drop(said(Command::new("kill").args(["-TERM", &self.child.id().to_string()])));
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(self.child.kill());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Own {
    /// The daemon leaves mounts behind, such as network namespaces, and its folder cannot be deleted before they are
    /// unmounted.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in places.filter(|place| Path::new(place).starts_with(self.folder.path())) {
            drop(said(Command::new("umount").args(["--lazy", place])));
        }
    }
}

impl Bridge {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let bridge = Self(format!("pm{}n{number}", std::process::id() % 1_000_000));
        let net = (std::process::id() * 7 + number) % 250;
        let ip = |args: &[&str]| drop(said(Command::new("ip").args(args)));
        ip(&["link", "add", "name", &bridge.0, "type", "bridge"]);
        ip(&["addr", "add", &format!("192.168.{net}.1/24"), "dev", &bridge.0]);
        ip(&["link", "set", &bridge.0, "up"]);
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(said(Command::new("ip").args(["link", "del", &self.0])));
    }
}

/// Prints to the real standard error, which is shown even if the test passes.
fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("SKIPPED: {test}: no Docker daemon{why}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
    // The list that test.sh prints at its end.
    if let Some(file) = std::env::var_os("POINTSMAN_TEST_SKIPPED") {
        let opened = OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of what was skipped");
    }
}

fn dockerd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join("dockerd")).find(|program| program.is_file())
}

fn spawn(program: &Path, folder: &Path, bridge: &Bridge) -> Child {
    let log = fs::File::create(folder.join("log")).expect("a file");
    let place = |name: &str| folder.join(name).display().to_string();
    // Not the id of the machine's own daemon: before version 23.0, all daemons of a machine derive their id from the
    // same key.
    let old = said(Command::new(program).arg("--version")).is_ok_and(|text| text.contains("version 20."));
    let key = if old { format!("{{\"deprecated-key-path\": {:?}}}", place("data/key.json")) } else { "{}".to_owned() };
    fs::write(folder.join("daemon.json"), key).expect("written");
    Command::new(program)
        .args(["--host", &format!("unix://{}", place("docker.sock")), "--data-root", &place("data")])
        .args(["--exec-root", &place("exec"), "--pidfile", &place("pid"), "--bridge", &bridge.0])
        .args(["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"])
        .args(["--config-file", &place("daemon.json"), "--shutdown-timeout", "2"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("it is a program")
}

/// The output of a command, or its error output if it fails.
fn said(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program of `web.rs`, built on first use.
pub(crate) fn web() -> &'static Path {
    static WEB: OnceLock<PathBuf> = OnceLock::new();
    WEB.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/web.rs");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web");
        let age = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
        if !age(&program).and_then(|built| Ok(built > age(&source)?)).unwrap_or(false) {
            // Other test programs may build it at the same time, so move it into place whole.
            let new = program.with_extension(std::process::id().to_string());
            let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let mut command = Command::new(rustc);
            command.args(["--edition=2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
            said(command.arg(&new).arg(source)).expect("it is built");
            fs::rename(new, &program).expect("one folder");
        }
        program
    })
}
