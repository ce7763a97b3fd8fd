//! Clients that do no handshake, half of one, or an old one.

use std::process::Command;

use super::{CERTS, certificate, scene};
use crate::harness::{PATIENCE, engine, finish, python_tls_running, wait};

#[test]
fn what_is_no_handshake_of_today_is_refused() {
    let scene = scene(CERTS, &[]);
    let before = scene.faults("tls_handshake");
    let said = scene.python(
        r"
for garbage in (b'\xff' * 64, b'\x16\x03\x01\x00\x20' + b'\xff' * 32):
    s = plain()
    s.sendall(garbage)
    try: s.recv(64), say('closed')
    except ConnectionResetError: say('closed')
",
    );
    assert_eq!(said, "closed\nclosed\n");
    for old in ["-tls1", "-tls1_1"] {
        let line = format!("openssl s_client -connect {} {old} -cipher ALL:@SECLEVEL=0 </dev/null 2>&1", scene.https);
        let said = finish(Command::new("sh").args(["-c", &line])).stdout;
        assert!(said.contains("alert"), "{said}");
    }
    if !engine().differs("tls-faults") {
        wait("the faults", || scene.faults("tls_handshake") - before == 4.0);
    }
}

#[test]
fn half_a_handshake_has_its_time() {
    let limit = if engine().differs("tls-time") { "config/timeout/client" } else { "config/timeout/head" };
    let scene = scene(CERTS, &[(limit, "700ms")]);
    let half = "
hello = ssl.MemoryBIO()
try: context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname='a.test').do_handshake()
except ssl.SSLWantReadError: pass
hello = hello.read()
for sent in (0, 1, len(hello) // 2):
    s = plain()
    s.sendall(hello[:sent])
    try: say('closed', s.recv(64)[:0])
    except ConnectionResetError: say('closed', b'')
";
    assert_eq!(scene.python(half), "closed b''\n".repeat(3));
    if !engine().differs("tls-faults") {
        assert_eq!(scene.faults("tls_timeout"), 3.0);
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let said = scene(CERTS, &[("config/timeout/head", "60s")]).python(
        r"
s, incoming, outgoing = plain(), ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname='a.test')
def send():
    for byte in outgoing.read():
        s.sendall(bytes([byte]))
        time.sleep(0.0005)
def until(step):
    while True:
        try: return step()
        except ssl.SSLWantReadError:
            send()
            incoming.write(s.recv(65536))
until(tls.do_handshake)
tls.write(b'GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n')
say(until(lambda: tls.read(65536)).split(b'\r\n')[0].split()[1].decode())
",
    );
    assert_eq!(said, "200\n");
}

#[test]
fn silent_connections_hinder_nobody() {
    let said = scene(CERTS, &[("config/timeout/head", "60s")]).python(
        "
silent = [plain() for _ in range(300)]
for s in silent[:150]: s.sendall(b'\\x16\\x03\\x01\\x02\\x00\\x01\\x00')
say(sum(Client().ask('/x')[0] == 200 for _ in range(20)))
",
    );
    assert_eq!(said, "20\n");
}

#[test]
fn who_only_connects_is_no_fault() {
    let scene = scene(CERTS, &[]);
    let figure = |name: &str| scene.running.metric(name, &[]);
    let before = figure("pointsman_connections_total");
    scene.python("for _ in range(5): plain().close()");
    wait("they to be over", || {
        figure("pointsman_connections_total") >= before + 5.0 && figure("pointsman_connections_open") == 0.0
    });
    assert_eq!(scene.faults("tls_handshake"), 0.0);
}

#[test]
fn without_a_certificate_handshakes_fail_and_nothing_else_does() {
    let scene = scene(&[], &[]);
    let said = scene.python(
        "
try: Client(); say('a handshake')
except ssl.SSLError as error: say(error.reason)
",
    );
    assert!(said.contains("ALERT") || said.contains("UNRECOGNIZED_NAME"), "{said}");
    if !engine().differs("tls-faults") {
        wait("the fault", || scene.faults("tls_handshake") == 1.0);
    }
    scene.running.wait_backend("a.test", "/", "one");
    scene.site.put("certs/a", certificate(&scene.site, "a", "DNS:a.test", "ec"));
    wait("a certificate", || scene.shown("-servername a.test") == "a");
}

#[test]
fn drips_renew_no_time_and_hold_up_nobody() {
    let limit = if engine().differs("tls-time") { "config/timeout/client" } else { "config/timeout/head" };
    let scene = scene(CERTS, &[(limit, "3s")]);
    let kept = "
hello = ssl.MemoryBIO()
try: context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname='a.test').do_handshake()
except ssl.SSLWantReadError: pass
hello = hello.read()
established = Client()
assert established.ask('/x')[0] == 200
http2 = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
http2.check_hostname, http2.verify_mode = False, ssl.CERT_NONE
http2.set_alpn_protocols(['h2'])
half = [plain() for _ in range(300)]
for s in half: s.sendall(hello[:len(hello) // 2])
drips = [(plain(), hello) for _ in range(30)]
prefaces = [(Client(context=http2).socket, b'PRI * HTTP/2.0\\r\\n\\r\\nSM') for _ in range(5)]
say('open')
over, asked, place = set(), 0, 0
def is_over(s, data):
    try: s.setblocking(False); s.send(data); return s.recv(1) == b''
    except (BlockingIOError, ssl.SSLWantReadError): return False
    except OSError: return True
until = time.monotonic() + 30
while len(over) < len(half) + len(drips) + len(prefaces):
    assert time.monotonic() < until, len(over)
    established.ask('/x')
    asked += 1
    for s, data in drips + prefaces:
        if s not in over and is_over(s, data[place:place + 1]): over.add(s)
    over.update(s for s in half if s not in over and is_over(s, b''))
    place += 1
    time.sleep(0.1)
say(asked > 5, established.ask('/x')[0])
";
    let before = scene.running.process.resident();
    let mut script = python_tls_running(&scene.site, scene.https, kept);
    script.wait_log("open");
    let more = scene.running.process.resident().saturating_sub(before);
    assert!(more < 64 << 20, "{} MB more", more >> 20);
    assert_eq!(script.wait_exit(PATIENCE).code(), Some(0), "{}", script.log());
    assert_eq!(script.log(), "open\nTrue 200\n");
    if !engine().differs("tls-faults") {
        assert_eq!((scene.faults("tls_timeout"), scene.faults("head_timeout")), (330.0, 5.0));
    }
}
