//! A real browser: a page that came through the balancer opens a WebSocket on its own connection (HTTP/2, RFC 8441), or on
//! another one (HTTP/1.1), and tells its origin what became of it.

use std::process::Command;

use crate::harness::{Authority, Http2Instance, Launch, Process, Site, finish, free_address, get, wait};

/// Serves the page, echoes the messages of WebSockets, and says what the page tells it.
const ORIGIN: &str = r"
const http = require('http'), crypto = require('crypto')
const page = `<!doctype html><title>a page</title><body><script>
const told = what => fetch('/told?' + encodeURIComponent(what))
const [entry] = performance.getEntriesByType('navigation')
const pieces = ['first', 'x'.repeat(70000), 'last']
let echoed = 0
const socket = new WebSocket('wss://' + location.host + '/chat')
socket.onopen = () => socket.send(pieces[0])
socket.onmessage = event => {
  if (event.data !== pieces[echoed]) return told('not what was sent')
  echoed += 1
  echoed < pieces.length ? socket.send(pieces[echoed]) : socket.close(1000)
}
socket.onclose = event => {
  document.body.textContent = [entry.nextHopProtocol, echoed, event.code].join(' ')
  told(document.body.textContent)
}
</script>`
const server = http.createServer((q, s) => {
  if (q.url.startsWith('/told?')) console.log('told', decodeURIComponent(q.url.slice(6)))
  s.setHeader('Content-Type', 'text/html')
  s.end(q.url == '/' ? page : '')
})
// RFC 6455 §4.2.2, §5.2
server.on('upgrade', (q, s) => {
  const key = q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
  const accept = crypto.createHash('sha1').update(key).digest('base64')
  s.write(['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket',
    'Sec-WebSocket-Accept: ' + accept, '', ''].join('\r\n'))
  let all = Buffer.alloc(0)
  s.on('error', () => {}).on('data', piece => {
    all = Buffer.concat([all, piece])
    while (all.length >= 2) {
      const short = all[1] & 127, at = short == 127 ? 10 : short == 126 ? 4 : 2
      if (all.length < at + 4) return
      const size = short == 127 ? Number(all.readBigUInt64BE(2)) : short == 126 ? all.readUInt16BE(2) : short
      if (all.length < at + 4 + size) return
      const mask = all.subarray(at, at + 4), masked = all.subarray(at + 4, at + 4 + size)
      const head = Buffer.from(all.subarray(0, at))
      head[1] &= 127
      s.write(Buffer.concat([head, masked.map((byte, i) => byte ^ mask[i % 4])]))
      if ((all[0] & 15) == 8) return s.end()
      all = all.subarray(at + 4 + size)
    }
  })
})
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port))
";

/// The options of every run.
const OPTIONS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP a.test 127.0.0.1",
];

/// The option by which the browser trusts this certificate's key.
fn trusting(certificate: &str) -> String {
    let key = "openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64";
    let line = format!("openssl x509 -in {certificate} -pubkey -noout | {key}");
    format!("--ignore-certificate-errors-spki-list={}", finish(Command::new("sh").args(["-c", &line])).ok().trim())
}

#[test]
fn a_page_opens_a_websocket_over_either_version_of_http() {
    let (mut origin, authority) = (Http2Instance::node_program(ORIGIN), Authority::new());
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &origin.instance)]);
    let certificate = authority.issue("a.test", "DNS:a.test");
    site.put("certs/a", std::fs::read_to_string(&certificate).expect("PEM is text"));
    let https = free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string()]).start();
    running.wait_ready();
    wait("the page", || get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
    let trusting = trusting(&certificate.display().to_string());
    for (expected, options) in [("told h2 3 1000", &[][..]), ("told http/1.1 3 1000", &["--disable-http2"])] {
        let home = site.home().join(format!("browser-{}", options.len()));
        let netlog = home.join("net.json");
        std::fs::create_dir(&home).expect("inside our own folder");
        let mut command = Command::new("chromium");
        command.args(OPTIONS).args(options).arg(&trusting).env("HOME", &home);
        command.arg(format!("--user-data-dir={}", home.display())).arg(format!("--log-net-log={}", netlog.display()));
        let browser = Process::start(command.arg(format!("https://a.test:{}/", https.port())));
        origin.process.wait_log(expected);
        let is_http2 = || std::fs::read_to_string(&netlog).is_ok_and(|log| log.contains(":protocol: websocket"));
        match options {
            [] => wait("a WebSocket over HTTP/2 in the browser's own log", is_http2),
            _ => assert!(!is_http2()),
        }
        drop(browser);
    }
}
