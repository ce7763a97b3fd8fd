//! Clients that speak TLS, as scripts of Python: it shows whether an end was said (`close_notify`), and takes sessions apart.

use std::net::SocketAddr;
use std::process::Command;

use super::python::COMMON;
use super::{Process, Site, finish};

/// What scripts begin with: connections that trust any certificate and take an end without `close_notify` for an error,
/// and HTTP on them. `home` is a folder that the test shares.
const PRELUDE: &str = "
import os, socket, ssl, sys, time
host, port, home = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def plain():
    s = socket.create_connection((host, port), 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
class Client:
    def __init__(self, name='a.test', session=None, context=context):
        self.socket = context.wrap_socket(plain(), server_hostname=name, suppress_ragged_eofs=False, session=session)
        self.file = self.socket.makefile('rb')
    def send(self, target, method='GET', more='', body=b''):
        self.socket.sendall(f'{method} {target} HTTP/1.1\\r\\nHost: a.test\\r\\n{more}\\r\\n'.encode() + body)
    def head(self):
        status = int(self.file.readline().split()[1])
        lines = [line.decode().rstrip() for line in iter(self.file.readline, b'\\r\\n')]
        return status, {k.lower(): v.strip() for k, _, v in (line.partition(':') for line in lines)}
    def answer(self, method='GET'):
        status, head = self.head()
        if method == 'HEAD': return status, head, b''
        return status, head, self.file.read(int(head['content-length']))
    def ask(self, target, method='GET', more='', body=b''):
        self.send(target, method, more, body)
        return self.answer(method)
    def end(self):
        try: return f'{len(self.file.read())} bytes, then close_notify'
        except ssl.SSLEOFError: return 'cut'
        except ConnectionResetError: return 'cut'
";

/// Runs a script to its end, and returns what it said.
#[track_caller]
pub(crate) fn python_tls(site: &Site, address: SocketAddr, script: &str) -> String {
    finish(&mut command(site, address, script)).ok()
}

/// Starts a script.
pub(crate) fn python_tls_running(site: &Site, address: SocketAddr, script: &str) -> Process {
    Process::start(&mut command(site, address, script))
}

fn command(site: &Site, address: SocketAddr, script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("{PRELUDE}{COMMON}{script}"));
    command.args([address.ip().to_string(), address.port().to_string()]).arg(site.home());
    command
}
