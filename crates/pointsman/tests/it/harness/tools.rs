//! Third-party clients and servers: wrk, h2load, Python, Node, nginx.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::process::{Process, finish};
use super::site::Site;
use super::{free_address, get, turn, wait_within};

/// A third-party server for a folder.
pub(crate) struct Server {
    /// Its address.
    pub(crate) address: SocketAddr,
    _process: Process,
}

/// nginx, answering every path with `nginx` and the path.
#[track_caller]
pub(crate) fn nginx(site: &Site) -> Server {
    let home = site.home().join("nginx");
    std::fs::create_dir_all(&home).expect("inside our own folder");
    listening(|address| {
        let file = home.join("nginx.conf");
        let server = format!("server {{ listen {address}; location / {{ return 200 'nginx $request_uri\\n'; }} }}");
        let http = format!("http {{ access_log off; keepalive_requests 100000; {server} }}");
        let text = format!("daemon off; pid {}/pid; error_log stderr; events {{}} {http}", home.display());
        std::fs::write(&file, text).expect("inside our own folder");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file).args(["-g", "master_process off;"]);
        command
    })
}

/// `python3 -m http.server`, on a folder with the file `hello`.
#[track_caller]
pub(crate) fn python_server(site: &Site) -> Server {
    let home = site.home().join("python");
    std::fs::create_dir_all(&home).expect("inside our own folder");
    std::fs::write(home.join("hello"), "python\n").expect("inside our own folder");
    listening(|address| {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"]);
        command.arg("--directory").arg(&home).arg(address.port().to_string());
        command
    })
}

/// Node, answering with `node` and the path, chunked.
#[track_caller]
pub(crate) fn node_server() -> Server {
    listening(|address| {
        let handler = "(q, s) => { s.write('node '); s.end(q.url + '\\n') }";
        let script = format!("require('http').createServer({handler}).listen({}, '127.0.0.1')", address.port());
        let mut command = Command::new("node");
        command.args(["-e", &script]);
        command
    })
}

/// Starts a server on a free port, and retries on another one if that was taken meanwhile.
#[track_caller]
fn listening(command: impl Fn(SocketAddr) -> Command) -> Server {
    turn::shared();
    for _ in 0..5 {
        let address = free_address();
        let mut process = Process::start(&mut command(address));
        let up = wait_within("a server of another make", Duration::from_secs(30), || {
            if !process.is_running() {
                return Some(false);
            }
            get(address, "localhost", "/").is_ok().then_some(true)
        });
        if up {
            return Server { address, _process: process };
        }
    }
    panic!("a server of another make found no port");
}

/// Runs wrk for a second; fails on any error. Returns the number of requests.
#[track_caller]
pub(crate) fn wrk(address: SocketAddr, host: &str) -> u64 {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c16", "-d1s", "-H", &format!("Host: {host}"), &format!("http://{address}/")]);
    let report = finish(&mut command).ok();
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    number_before(&report, " requests in ")
}

/// Runs h2load with HTTP/1.1; fails on any error. Returns the number of requests.
#[track_caller]
pub(crate) fn h2load(address: SocketAddr, host: &str) -> u64 {
    let mut command = Command::new("h2load");
    command.args(["--h1", "-n", "500", "-c", "8", "-H", &format!(":authority: {host}"), &format!("http://{address}/")]);
    let report = finish(&mut command).ok();
    assert!(report.contains(" 0 failed, 0 errored, 0 timeout"), "{report}");
    number_before(&report, " succeeded")
}

fn number_before(report: &str, mark: &str) -> u64 {
    let before = report.split(mark).next().unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no number before `{mark}` in {report}"))
}

/// Python's http.client: a GET and a POST on one connection. Returns its output.
#[track_caller]
pub(crate) fn python_client(address: SocketAddr, host: &str) -> String {
    let script = "
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1])
for method, path, body in (('GET', '/bytes/5000', None), ('POST', '/count', bytes(i % 251 for i in range(70000)))):
    c.request(method, path, body, {'Host': sys.argv[2]})
    r = c.getresponse()
    data = r.read()
    print(r.status, len(data) if method == 'GET' else data.decode().strip())
";
    finish(Command::new("python3").args(["-c", script, &address.to_string(), host])).ok()
}

/// Node's http client with a keep-alive agent: a GET and a chunked POST. Returns its output.
#[track_caller]
pub(crate) fn node_client(address: SocketAddr, host: &str) -> String {
    let script = "
const http = require('http'), [ip, port] = process.argv[1].split(':')
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
const go = (method, path, body, then) => {
  const q = http.request({ host: ip, port, method, path, agent, headers: { Host: process.argv[2] } }, r => {
    let data = []
    r.on('data', d => data.push(d)).on('end', () => {
      const all = Buffer.concat(data)
      console.log(r.statusCode, method == 'GET' ? all.length : all.toString().trim()); then()
    })
  })
  if (body) q.write(body)
  q.end()
}
go('GET', '/chunks/5000', null, () => go('POST', '/count', Buffer.from(Array.from({ length: 70000 }, (_, i) => i % 251)),
  () => agent.destroy()))
";
    finish(Command::new("node").args(["-e", script, &address.to_string(), host])).ok()
}
