//! WebSockets and long streams through many changes of keys and certificates: none ends, and no byte is lost.

use super::{CERTS, Scene, certificate, scene};
use crate::harness::{Http2Instance, PATIENCE, engine, long, python_http2_running, wait};

/// An instance that echoes bodies and upgraded connections.
const ECHO: &str = "
const server = require('http').createServer((request, response) => request.pipe(response))
server.requestTimeout = server.headersTimeout = 0
server.on('upgrade', (request, socket, head) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
  const accept = require('crypto').createHash('sha1').update(key).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Accept: ${accept}\\r\\n\\r\\n`)
  socket.setNoDelay()
  socket.on('error', () => {})
  socket.write(head)
  socket.pipe(socket)
})
server.listen(0, '127.0.0.1', 4096, () => console.log('port', server.address().port))
";

/// Opens everything, sends a piece on each and reads it back until the changes are over, and ends each in good order.
const CLIENTS: &str = r#"
half, streams = int(open(os.path.join(home, 'half')).read()), int(open(os.path.join(home, 'streams')).read())
class WebSocket:
    def __init__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection((host, port), 30), server_hostname='a.test', suppress_ragged_eofs=False)
        self.file = self.socket.makefile('rb')
        self.socket.sendall(b'GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
            b'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
        assert self.file.readline().split()[1] == b'101'
        head = list(iter(self.file.readline, b'\r\n'))
        assert any(line.lower().startswith(b'sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=') for line in head), head
sockets = [WebSocket() for _ in range(half)]
def shared(count, **how):
    'Streams, up to 100 a connection.'
    opened = []
    while count > 0:
        c = Client()
        c.until(lambda: c.h2.remote_settings.enable_connect_protocol)
        for _ in range(min(count, 100)): opened.append((c, c.begin('/echo', end=False, **how)))
        count -= 100
    for c, stream in opened:
        if 'protocol' in how: c.until(lambda: stream in c.heads or c.is_over(stream)); assert c.heads[stream][':status'] == '200'
    return opened
opened = shared(half, method='CONNECT', protocol='websocket', more=[('sec-websocket-version', '13')]) + shared(streams, method='POST')
clients = list(dict.fromkeys(c for c, _ in opened))
rounds, sent, last = 0, 0, False
def round_trip():
    global sent, rounds
    size = (97, 1000, 3001)[rounds % 3]
    piece = pattern(sent % 251 + size)[sent % 251:]
    for s in sockets: s.socket.sendall(piece)
    for c, stream in opened: c.h2.send_data(stream, piece)
    for c in clients: c.flush()
    for place, s in enumerate(sockets):
        got = s.file.read(size)
        assert got == piece, ('websocket', place, rounds, len(got))
    for c, stream in opened:
        c.until(lambda: len(c.bodies.get(stream, b'')) >= size or c.is_over(stream))
        assert c.bodies.get(stream) == piece and not c.is_over(stream), (stream, rounds, c.resets, len(c.bodies.get(stream, b'')))
        c.bodies[stream] = b''
    sent, rounds = sent + size, rounds + 1
round_trip()
say('open', len(sockets), len(opened))
while not last:
    last = os.path.exists(os.path.join(home, 'changed'))
    round_trip()
for s in sockets: s.socket = s.socket.unwrap()
for s in sockets: assert s.socket.recv(1) == b''
for c, stream in opened: c.h2.end_stream(stream)
for c in clients: c.flush()
for c, stream in opened: c.until(lambda: c.is_over(stream))
say('ended', sum(stream in c.ended for c, stream in opened), sum(len(c.resets) for c in clients), [c.goaway for c in clients if c.goaway is not None])
"#;

/// Changes weights, instances and services, as many times; and the certificate, as many times.
fn change(scene: &Scene, instance: &str, (changes, swaps): (usize, usize)) {
    let table = |text: &str| scene.running.admin_page("/api/table").contains(text);
    for round in 0..changes {
        scene.site.put("services/a/one", format!("{instance} weight={}", round % 200 + 1));
        match round % 3 {
            0 => scene.site.put("services/a/two", scene.backend.instance()),
            1 => scene.site.remove("services/a/two"),
            _ => scene.site.put("services/a/timeout/client", format!("{}s", 60 + round)),
        }
        let service = format!("s{round}");
        scene.site.put(&format!("services/{service}/domain"), format!("s{}.test", round % 20));
        wait("the change", || table(&format!("\"{service}\"")));
        if round >= 20 {
            scene.site.remove(&format!("services/s{}", round - 20));
        }
        if round % (changes / swaps) == 0 {
            let label = format!("swap{round}");
            scene.site.put("certs/a", certificate(&scene.site, &label, "DNS:a.test", "ec"));
            wait("the certificate", || scene.shown("-servername a.test") == label);
        }
    }
}

#[test]
fn no_change_ends_a_websocket_or_a_stream() {
    if engine().differs("closed-at-reload") {
        return;
    }
    let (half, streams, changes) = if long() { (500, 1_000, (300, 50)) } else { (25, 50, (30, 5)) };
    let scene = scene(CERTS, &[("config/timeout/drain", "1s")]);
    let echo = Http2Instance::node_program(ECHO);
    scene.site.put("services/a/one", &echo.instance);
    wait("the instance", || scene.running.admin_page("/api/table").contains(&echo.instance));
    for (file, count) in [("half", half), ("streams", streams)] {
        std::fs::write(scene.site.home().join(file), count.to_string()).expect("our own folder");
    }
    let mut clients = python_http2_running(&scene.site, ("https", scene.https), CLIENTS);
    clients.wait_log(&format!("open {half} {}", half + streams));
    let active = || scene.running.metric("pointsman_active", &["\"a\""]);
    assert_eq!(active(), (2 * half + streams) as f64);
    change(&scene, &echo.instance, changes);
    assert_eq!(active(), (2 * half + streams) as f64);
    std::fs::write(scene.site.home().join("changed"), "").expect("our own folder");
    let ended = clients.wait_exit(4 * PATIENCE).code();
    assert_eq!((ended, clients.log().lines().last()), (Some(0), Some(&*format!("ended {} 0 []", half + streams))));
    wait("no work to be left", || active() == 0.0);
    assert_eq!(scene.running.metric("pointsman_faults_total", &[]), 0.0);
}
