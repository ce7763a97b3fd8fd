//! The proxies, each started as one thread on core 0, with an expert's settings.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{admin, sys};

/// The core reserved for the proxy under test.
pub(crate) const PROXY_CORE: &str = "0";
/// The core of wrk and the backend.
pub(crate) const OTHER_CORE: &str = "1";
/// The host name in requests.
pub(crate) const HOST: &str = "bench.test";
/// The name of HAProxy with `http-reuse always`.
pub(crate) const HAPROXY_ALWAYS: &str = "HAProxy, http-reuse always";
/// What makes Pointsman run on one thread.
const ONE_WORKER: &[&str] = &["--workers", "1"];
/// What makes a Go program run on one thread.
const ONE_THREAD: &[&str] = &["env", "GOMAXPROCS=1"];

/// A process of the bench, ended by its id on drop.
pub(crate) struct Peer {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Its address for requests.
    pub(crate) address: SocketAddr,
    child: Child,
    /// Whether it has worker processes, which end with it only if it is asked to end.
    drives: bool,
}

impl Peer {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its worker processes, or itself.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn workers(&self) -> io::Result<Vec<u32>> {
        if self.drives { sys::descendants(self.id()) } else { Ok(vec![self.id()]) }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Starts a command on one core, and waits until it listens there.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn start(name: &'static str, address: SocketAddr, core: &str, command: &[&str]) -> io::Result<Self> {
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", core]).args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut peer = Self { name, address, child: pinned.spawn()?, drives: false };
        peer.wait_up()?;
        Ok(peer)
    }

    fn wait_up(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(20) {
                return Err(io::Error::other(format!("{} does not start", self.name)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let asked = Instant::now();
        // A second signal makes it end at once.
        while self.drives && !self.has_ended() && asked.elapsed() < Duration::from_secs(5) {
            sys::interrupt(self.id());
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A temporary folder for configurations and keys, removed on drop.
pub(crate) struct Workplace(PathBuf);

impl Workplace {
    /// A new, empty folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(crate) fn new(purpose: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("pointsman-bench-{purpose}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The backend, on the other core.
///
/// # Errors
/// If it does not start.
pub(crate) fn responder() -> io::Result<Peer> {
    responder_named("x")
}

/// A backend that its responses identify.
///
/// # Errors
/// If it does not start.
pub(crate) fn responder_named(name: &str) -> io::Result<Peer> {
    responder_at(free_address()?, name)
}

/// A backend at every address of this machine: which 127.0.0.0/8 are, too.
///
/// # Errors
/// If it does not start.
pub(crate) fn responder_everywhere() -> io::Result<Peer> {
    let port = free_address()?.port();
    responder_at((Ipv4Addr::UNSPECIFIED, port).into(), "x")
}

fn responder_at(address: SocketAddr, name: &str) -> io::Result<Peer> {
    let bench = std::env::current_exe()?;
    let command = [&*bench.to_string_lossy(), "responder", &address.to_string(), name];
    Peer::start("responder", address, OTHER_CORE, &command)
}

/// The plain epoll relay.
///
/// # Errors
/// If it does not start.
pub(crate) fn relay(to: SocketAddr) -> io::Result<Peer> {
    let address = free_address()?;
    let bench = std::env::current_exe()?;
    let (listen, to) = (address.to_string(), to.to_string());
    Peer::start("relay", address, PROXY_CORE, &[&bench.to_string_lossy(), "relay", &listen, &to])
}

/// When HAProxy sends a request over a connection to the backend that another client's request opened.
#[derive(Clone, Copy)]
pub(crate) enum HttpReuse {
    /// By default: not for the first request of a client's connection.
    Safe,
    /// Always.
    Always,
}

/// Debian's HAProxy.
///
/// # Errors
/// If it does not start.
pub(crate) fn haproxy(to: SocketAddr, place: &Workplace, reuse: HttpReuse) -> io::Result<Peer> {
    let address = free_address()?;
    let (name, reuse) = match reuse {
        HttpReuse::Safe => ("HAProxy", "safe"),
        HttpReuse::Always => (HAPROXY_ALWAYS, "always"),
    };
    let template = include_str!("../configs/haproxy.cfg").replace("@reuse@", reuse);
    let file = configure(place, &format!("haproxy-{reuse}.cfg"), &template, address, to)?;
    let mut peer = haproxy_with(address, &file, &[])?;
    peer.name = name;
    Ok(peer)
}

/// Writes a configuration: a template with its `@names@` filled in.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn configure(
    place: &Workplace,
    name: &str,
    template: &str,
    address: SocketAddr,
    to: SocketAddr,
) -> io::Result<PathBuf> {
    let names = [
        ("@listen@", address.to_string()),
        ("@listen_port@", address.port().to_string()),
        ("@backend@", to.to_string()),
        ("@backend_port@", to.port().to_string()),
        ("@host@", HOST.to_owned()),
        ("@home@", place.path().display().to_string()),
        ("@etcd@", to.to_string()),
    ];
    let text = names.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    let file = place.path().join(name);
    fs::write(&file, text)?;
    Ok(file)
}

/// Debian's HAProxy with the given configuration, which listens on this address.
///
/// # Errors
/// If it does not start.
pub(crate) fn haproxy_with(address: SocketAddr, file: &Path, arguments: &[&str]) -> io::Result<Peer> {
    let file = file.to_string_lossy();
    let command = [&["haproxy", "-db", "-f", &file], arguments].concat();
    Peer::start("HAProxy", address, PROXY_CORE, &command)
}

/// etcd with both of its APIs, on the other core.
///
/// # Errors
/// If it does not start.
pub(crate) fn etcd(place: &Workplace) -> io::Result<Peer> {
    let (address, peers) = (free_address()?, format!("http://{}", free_address()?));
    let (url, data) = (format!("http://{address}"), place.path().join("etcd"));
    let command = [
        "etcd",
        "--enable-v2",
        "--data-dir",
        &data.to_string_lossy(),
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--listen-peer-urls",
        &peers,
        "--initial-advertise-peer-urls",
        &peers,
        "--initial-cluster",
        &format!("default={peers}"),
    ];
    Peer::start("etcd", address, OTHER_CORE, &command)
}

/// Debian's nginx.
///
/// # Errors
/// If it does not start.
pub(crate) fn nginx(to: SocketAddr, place: &Workplace) -> io::Result<Peer> {
    let address = free_address()?;
    let file = configure(place, "nginx.conf", include_str!("../configs/nginx.conf"), address, to)?;
    nginx_with(address, place, &file)
}

/// Debian's nginx with the given configuration, which listens on this address.
///
/// # Errors
/// If it does not start.
pub(crate) fn nginx_with(address: SocketAddr, place: &Workplace, file: &Path) -> io::Result<Peer> {
    let home = place.path().to_string_lossy();
    Peer::start("nginx", address, PROXY_CORE, &["nginx", "-p", &home, "-c", &file.to_string_lossy()])
}

/// Caddy.
///
/// # Errors
/// If it does not start.
pub(crate) fn caddy(program: &Path, to: SocketAddr, place: &Workplace) -> io::Result<Peer> {
    let address = free_address()?;
    let file = configure(place, "Caddyfile", include_str!("../configs/Caddyfile"), address, to)?;
    let command = [&program.to_string_lossy(), "run", "--adapter", "caddyfile", "--config", &file.to_string_lossy()];
    Peer::start("Caddy", address, PROXY_CORE, &[ONE_THREAD, &command].concat())
}

/// Envoy.
///
/// # Errors
/// If it does not start.
pub(crate) fn envoy(program: &Path, to: SocketAddr, place: &Workplace) -> io::Result<Peer> {
    let address = free_address()?;
    let file = configure(place, "envoy.yaml", include_str!("../configs/envoy.yaml"), address, to)?;
    let (program, file) = (program.to_string_lossy(), file.to_string_lossy());
    let command = [&*program, "-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
    Peer::start("Envoy", address, PROXY_CORE, &command)
}

/// Traefik with its routes in a file.
///
/// # Errors
/// If it does not start.
pub(crate) fn traefik(program: &Path, to: SocketAddr, place: &Workplace) -> io::Result<Peer> {
    let address = free_address()?;
    configure(place, "routes.yml", include_str!("../configs/traefik-routes.yml"), address, to)?;
    let file = configure(place, "traefik.yml", include_str!("../configs/traefik.yml"), address, to)?;
    traefik_with(program, address, &file)
}

/// Traefik with its routes in etcd.
///
/// # Errors
/// If it does not start.
pub(crate) fn traefik_of(program: &Path, etcd: SocketAddr, place: &Workplace) -> io::Result<Peer> {
    let address = free_address()?;
    let file = configure(place, "traefik.yml", include_str!("../configs/traefik-etcd.yml"), address, etcd)?;
    traefik_with(program, address, &file)
}

fn traefik_with(program: &Path, address: SocketAddr, file: &Path) -> io::Result<Peer> {
    let command = [&*program.to_string_lossy(), &format!("--configFile={}", file.display())];
    Peer::start("Traefik", address, PROXY_CORE, &[ONE_THREAD, &command].concat())
}

/// Pointsman on a folder of keys, with no prefix.
///
/// # Errors
/// If it does not start.
pub(crate) fn pointsman(name: &'static str, program: &Path, keys: &Path) -> io::Result<Peer> {
    let store = ["--store", &keys.to_string_lossy(), "--prefix", "/"];
    pointsman_of(name, program, &keys.with_extension("state"), &store)
}

/// The same with two workers, both on the one core.
///
/// # Errors
/// If it does not start.
pub(crate) fn two_workers(name: &'static str, program: &Path, keys: &Path) -> io::Result<Peer> {
    let flags = ["--workers", "2", "--store", &keys.to_string_lossy(), "--prefix", "/"];
    Ok(run(name, program, &keys.with_extension("state"), &flags)?.0)
}

/// Pointsman on a store that these flags name.
///
/// # Errors
/// If it does not start.
pub(crate) fn pointsman_of(name: &'static str, program: &Path, state: &Path, store: &[&str]) -> io::Result<Peer> {
    Ok(run(name, program, state, &[ONE_WORKER, store].concat())?.0)
}

/// The same, and the address of its admin pages.
///
/// # Errors
/// If it does not start.
pub(crate) fn with_pages(name: &'static str, program: &Path, keys: &Path) -> io::Result<(Peer, SocketAddr)> {
    let store = ["--store", &*keys.to_string_lossy(), "--prefix", "/"];
    run(name, program, &keys.with_extension("state"), &[ONE_WORKER, &store].concat())
}

/// Pointsman with the HAProxy engine, and the address of its admin pages.
///
/// # Errors
/// If it does not start.
pub(crate) fn driven(program: &Path, state: &Path, store: &[&str]) -> io::Result<(Peer, SocketAddr)> {
    let flags = [ONE_WORKER, &["--engine", "haproxy", "--haproxy-reload-every", "200ms"], store].concat();
    let (mut peer, admin) = run("HAProxy driven by Pointsman", program, state, &flags)?;
    peer.drives = true;
    Ok((peer, admin))
}

fn run(name: &'static str, program: &Path, state: &Path, flags: &[&str]) -> io::Result<(Peer, SocketAddr)> {
    let (address, admin) = (free_address()?, free_address()?);
    let (program, state) = (program.to_string_lossy(), state.to_string_lossy());
    let (http, pages) = (address.to_string(), admin.to_string());
    let command = [&*program, "run", "--state", &state, "--http", &http, "--admin", &pages];
    let peer = Peer::start(name, address, PROXY_CORE, &[&command, flags].concat())?;
    admin::wait_ready(admin)?;
    Ok((peer, admin))
}

/// Writes an HTTP service's keys: a host and its instances.
///
/// # Errors
/// If the folder cannot be written.
pub(crate) fn write_service(keys: &Path, name: &str, host: &str, instances: &[SocketAddr]) -> io::Result<()> {
    let folder = keys.join("services").join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("domain"), host)?;
    for (number, instance) in instances.iter().enumerate() {
        fs::write(folder.join(format!("{name}-{number}")), instance.to_string())?;
    }
    Ok(())
}

/// A free loopback address.
///
/// # Errors
/// If there is none.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
