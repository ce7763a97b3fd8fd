//! Shared helpers: commands, waits, a request, a backend, and reporting skipped tests.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A completed command.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code, if it was not killed.
    pub(crate) code: Option<i32>,
    /// Standard output, without trailing white space.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// Its standard output; fails the test if the command failed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed:\n{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command to completion.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Finished {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs a program of PATH to completion.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> Finished {
    finish(Command::new(program).args(arguments))
}

/// Polls until the probe returns a value; fails the test at the deadline, naming the condition.
#[track_caller]
pub(crate) fn wait<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed().as_secs() < seconds, "waited {seconds} s in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// The cache for things that take long to make.
pub(crate) fn cache() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packaging");
    std::fs::create_dir_all(&folder).expect("our own folder");
    folder
}

/// Whether the long forms are requested: `POINTSMAN_LONG=1`.
pub(crate) fn long() -> bool {
    std::env::var_os("POINTSMAN_LONG").is_some_and(|value| value == "1")
}

/// Whether a program exists; also looks in root's folders, where daemons are.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    run("id", &["-u"]).stdout == "0"
}

/// Reports a skipped test: on the terminal, and in the file that `test.sh` prints at its end.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("SKIPPED: packaging {test}: {why}\n");
    // Not with a macro: its output is shown for failed tests only.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("POINTSMAN_TEST_SKIPPED") {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of what was skipped");
    }
}

/// A child that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status and body of `GET /` for this host; `None` if nothing answers.
pub(crate) fn get(address: SocketAddr, host: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Starts a backend on its own port that answers every request with `hello`.
pub(crate) fn backend(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("an address of this machine");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        }
    });
    address
}
