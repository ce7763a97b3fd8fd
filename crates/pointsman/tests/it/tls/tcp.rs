//! TCP services whose TLS ends here: what the instance gets, how ends and half-closes become those of the other side,
//! and the company of services whose TLS passes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::certificate;
use crate::harness::{PATIENCE, Pointsman, Site, echo_tcp, engine, free_port, python_tls, wait};

/// A balancer and a port of its TCP services.
struct Ending {
    running: Pointsman,
    site: Site,
    address: SocketAddr,
}

/// Services that end TLS on one port: name, server names (empty: none) and instance; a certificate for each of
/// a.test and b.test.
fn ending(services: &[(&str, &str, SocketAddr)], more: &[(&str, &str)]) -> Ending {
    let port = free_port();
    let site = Site::new();
    for (name, sni, instance) in services {
        let key = |key: &str| format!("tcp-services/{name}/{key}");
        site.put(&key("one"), instance.to_string());
        site.put(&key("sni"), sni);
        site.put(&key("tls"), "terminate");
        site.put(&key("port"), port.to_string());
    }
    for name in ["a", "b"] {
        site.put(&format!("certs/{name}"), certificate(&site, name, &format!("DNS:{name}.test"), "ec"));
    }
    more.iter().for_each(|(key, value)| site.put(key, value.replace("PORT", &port.to_string())));
    let running = Pointsman::serving(&site);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait("the port", || TcpStream::connect(address).is_ok());
    let ending = Ending { running, site, address };
    wait("certificates", || {
        let line = format!("openssl s_client -connect {address} -servername b.test </dev/null 2>&1");
        super::sh(&line).stdout.contains("CN = b") || super::sh(&line).stdout.contains("CN=b")
    });
    ending
}

impl Ending {
    /// What a script of Python says that speaks TLS to it.
    #[track_caller]
    fn python(&self, script: &str) -> String {
        python_tls(&self.site, self.address, script)
    }
}

/// An instance that reads to the end, says how that came, and then answers.
fn at_the_end() -> (SocketAddr, Receiver<Result<usize, std::io::ErrorKind>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (told, tell) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut all = Vec::new();
            let ended = stream.read_to_end(&mut all).map_err(|error| error.kind());
            let _ = stream.write_all(format!("{} bytes", all.len()).as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            if !all.is_empty() && told.send(ended.map(|_| all.len())).is_err() {
                return;
            }
        }
    });
    (address, tell)
}

#[test]
fn tls_ends_here_with_the_certificate_and_at_the_service_of_the_name() {
    let ending = ending(
        &[("a", "a.test", echo_tcp("a: ")), ("b", "b.test", echo_tcp("b: ")), ("rest", "", echo_tcp("rest: "))],
        &[],
    );
    let said = ending.python(
        r"
def ask(name, context=context):
    c = Client(name, context=context)
    c.socket.sendall(b'hello')
    said, want = b'', 0
    while not said.endswith(b'hello'): said += c.socket.recv(99)
    certificate = c.socket.getpeercert(True)
    say(name, said.decode(), 'a.test' if b'a.test' in certificate else 'b.test')
ask('a.test'); ask('b.test'); ask('A.Test'); ask('other.test'); ask(None)
# Which protocol the client names is the instance's affair.
context.set_alpn_protocols(['postgresql'])
ask('b.test')
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context.minimum_version = context.maximum_version = version
    ask('a.test')
",
    );
    let expected = "a.test a: hello a.test\nb.test b: hello b.test\nA.Test a: hello a.test\nother.test rest: hello a.test\n\
                    None rest: hello a.test\nb.test b: hello b.test\na.test a: hello a.test\na.test a: hello a.test\n";
    assert_eq!(said, expected);
}

#[test]
fn much_goes_both_ways_at_once() {
    let said = ending(&[("a", "", echo_tcp(""))], &[]).python(
        r"
import select
c, size = Client(), 20_000_000
sent, out, back = pattern(size), 0, bytearray()
c.socket.setblocking(False)
# One thread: a connection of this library is not safe in two.
while len(back) < size:
    moved = False
    try: back += c.socket.recv(1 << 16); moved = True
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError): pass
    if out < size:
        try: out += c.socket.send(sent[out:out + 65536]); moved = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError): pass
    if not moved: select.select([c.socket], [c.socket] if out < size else [], [], 30)
say(bytes(back) == sent)
",
    );
    assert_eq!(said, "True\n");
}

#[test]
fn the_instances_end_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let instance = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"greetings, and good bye");
        }
    });
    let said = ending(&[("a", "", instance)], &[]).python("say(Client().end())");
    assert_eq!(said, "23 bytes, then close_notify\n");
}

/// A client of OpenSSL that sends, says that it sends no more, and reads on: Python's sockets cannot.
const HALF_CLOSE: &str = r"
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
s = plain()
tls = context.wrap_bio(incoming, outgoing, server_hostname='a.test')
def step(work):
    while True:
        try: done = work()
        except ssl.SSLWantReadError: done = None
        s.sendall(outgoing.read())
        if done is not None: return done
        got = s.recv(65536)
        if not got: incoming.write_eof()
        incoming.write(got)
step(lambda: tls.do_handshake() or True)
step(lambda: tls.write(b'x' * 1000))
try: tls.unwrap()
except ssl.SSLWantReadError: pass
s.sendall(outgoing.read())
say(step(lambda: tls.read(99)).decode())
";

#[test]
fn a_close_notify_is_a_fin_and_the_answer_still_comes() {
    let (instance, told) = at_the_end();
    let ending = ending(&[("a", "", instance)], &[]);
    let said = ending.python(HALF_CLOSE);
    assert_eq!(said, "1000 bytes\n");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(1000)));
}

#[test]
fn a_connection_cut_short_is_reset_at_the_instance() {
    if engine().differs("tls-end") {
        return;
    }
    let (instance, told) = at_the_end();
    let ending = ending(&[("a", "", instance)], &[]);
    // A FIN without `close_notify`. A close would be a reset, as there are session tickets that the client did not read.
    ending.python(
        r"
c = Client()
c.socket.sendall(b'half of it')
s = socket.socket(fileno=c.socket.detach())
s.shutdown(socket.SHUT_WR)
try: s.recv(9999)
except OSError: pass
say('cut')
",
    );
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Err(std::io::ErrorKind::ConnectionReset)));
}

#[test]
fn what_is_no_tls_is_not_passed_on() {
    let ending = ending(&[("a", "", echo_tcp("secret"))], &[]);
    let mut plain = TcpStream::connect(ending.address).expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("open");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"secret"), "{}", said.escape_ascii());
    if !engine().differs("tls-faults") {
        wait("the fault", || ending.running.metric("pointsman_faults_total", &["tls_handshake"]) >= 1.0);
    }
}

#[test]
fn tls_ends_for_one_service_and_passes_for_another_of_the_same_port() {
    let passing = echo_tcp("passing").to_string();
    let more = [("tcp-services/p/port", "PORT"), ("tcp-services/p/sni", "p.test"), ("tcp-services/p/one", &*passing)];
    if engine().differs("mixed-tls") {
        return;
    }
    let ending = ending(&[("a", "a.test", echo_tcp("a: ")), ("rest", "", echo_tcp("rest: "))], &more);
    let said = ending.python(
        r"
for name in ('a.test', 'other.test'): say(Client(name).socket.recv(99).decode())
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
try: context.wrap_bio(incoming, outgoing, server_hostname='p.test').do_handshake()
except ssl.SSLWantReadError: pass
s, hello = plain(), outgoing.read()
s.sendall(hello)
s.shutdown(socket.SHUT_WR)
say(s.makefile('rb').read() == b'passing' + hello)
",
    );
    assert_eq!(said, "a: \nrest: \nTrue\n");
}

#[test]
fn a_proxy_header_comes_ahead_of_tls_that_ends_here() {
    let ending = ending(&[("a", "a.test, b.test", echo_tcp("a"))], &[]);
    ending.site.put("config/accept_proxy", "loopback");
    let script = r"
s = plain()
s.sendall(b'PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n')
try: say(context.wrap_socket(s, server_hostname='a.test').recv(9).decode())
except OSError: say('refused')
";
    wait("PROXY headers", || ending.python(script) == "a\n");
}
