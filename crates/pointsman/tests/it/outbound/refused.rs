//! Instances that end a connection badly: an answer that was cut short, and a certificate of ours that they refuse when the
//! handshake is over for us.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::{Nginx, wait_refused, wait_said};
use crate::harness::{Authority, Pointsman, Process, Site, engine, free_address, get, wait};

/// A server in Python. `answer(s)` serves a connection, `context` is how it speaks TLS.
const SERVER: &str = "
import socket, ssl, sys, threading, time
port, cert, ca = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert)
def head(s):
    got = b''
    while not got.endswith(b'\\r\\n\\r\\n'):
        more = s.recv(4096)
        if not more: return None
        got += more
    return got.decode()
def run():
    listener = socket.create_server(('127.0.0.1', port))
    print('ready', flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=one, args=(raw,), daemon=True).start()
def one(raw):
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as s: answer(s)
    except Exception as error: print('over', error, flush=True)
";

fn server(authority: &Authority, cert: &Path, script: &str) -> (Process, SocketAddr) {
    let address = free_address();
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("{SERVER}{script}\nrun()\n")).arg(address.port().to_string());
    let mut process = Process::start(command.arg(cert).arg(authority.file()));
    process.wait_log("ready");
    (process, address)
}

#[test]
fn an_answer_without_an_end_is_whole_only_if_tls_says_so() {
    let (site, authority) = (Site::new(), Authority::new());
    let cert = authority.issue("web", "DNS:web.test");
    let (_process, address) = server(
        &authority,
        &cert,
        "
def answer(s):
    target = head(s).split()[1]
    length = 'Content-Length: 5\\r\\n' if target == '/sized' else ''
    s.sendall(f'HTTP/1.1 200 OK\\r\\n{length}\\r\\nwhole'.encode())
    if target == '/whole': s.unwrap()
    else: s.shutdown(socket.SHUT_RDWR)
",
    );
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", format!("{address} tls"));
    let running = Pointsman::serving(&site);
    running.wait_answer("a.test", "/whole", 200, "whole");
    running.wait_answer("a.test", "/sized", 200, "whole");
    if !engine().differs("cut-tls-answers") {
        assert!(get(running.http, "a.test", "/cut").is_err(), "the client must see that something is missing");
        wait("the fault", || running.metric("pointsman_faults_total", &["bad_response_body"]) >= 1.0);
    }
}

#[test]
fn a_certificate_of_ours_that_is_refused_is_said_to_be() {
    let (site, authority) = (Site::new(), Authority::new());
    let cert = authority.issue("web", "DNS:web.test");
    let (_process, address) = server(
        &authority,
        &cert,
        "
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(ca)
def answer(s):
    while head(s): s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
",
    );
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", format!("{address} tls"));
    let running = Pointsman::serving(&site);
    wait_refused(&running, "a.test");
    if engine().name() == "native" {
        wait("the fault", || running.metric("pointsman_faults_total", &["instance_tls"]) >= 1.0);
        wait_said(&running, "it asks for a certificate; set tls_cert");
    }
    site.put("services/a/tls_cert", std::fs::read_to_string(authority.issue("ours", "DNS:o.test")).expect("issued"));
    running.wait_answer("a.test", "/", 200, "ok");
}

#[test]
fn an_instance_that_speaks_plain_text_is_refused() {
    let site = Site::new();
    let nginx = Nginx::serving(&site, &[("", String::new())]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = listener.local_addr().expect("bound");
    for (service, address) in [("plain", nginx.addresses[0]), ("silent", silent)] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/one"), format!("{address} tls"));
        site.put(&format!("services/{service}/timeout/connect"), "500ms");
    }
    let running = Pointsman::serving(&site);
    wait_refused(&running, "plain.test");
    wait_said(&running, "it does not speak TLS");
    let late = || get(running.http, "silent.test", "/").is_ok_and(|answer| [503, 504].contains(&answer.status));
    wait("one that says nothing", late);
    wait_said(&running, "accepted, but the TLS handshake was not done within 500ms");
}
