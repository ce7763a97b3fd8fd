//! Clients that speak HTTP/2, as scripts of Python on the package h2: they see frames, and keep windows shut.

use std::net::SocketAddr;
use std::process::Command;

use super::python::{COMMON, python};
use super::{Process, Site, finish};

/// What scripts begin with: a connection, over TLS if the port is `https`, whose windows open only when a script says so.
/// `home` is a folder that the test shares.
const PRELUDE: &str = "
import os, socket, ssl, sys, time
import h2.config, h2.connection, h2.events, h2.settings, h2.errors, h2.exceptions
host, port, home, secure = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == 'https'
# The package takes GOAWAY for the end; it only ends new requests (RFC 9113 §6.8).
states, inputs = h2.connection.ConnectionState, h2.connection.ConnectionInputs
table = h2.connection.H2ConnectionStateMachine._transitions
table[states.CLIENT_OPEN, inputs.RECV_GOAWAY] = (table[states.CLIENT_OPEN, inputs.RECV_GOAWAY][0], states.CLIENT_OPEN)
class Client:
    def __init__(self, settings={}, patience=30):
        self.socket = socket.create_connection((host, port), patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(['h2'])
            self.socket = context.wrap_socket(self.socket, server_hostname='a.test')
        config = h2.config.H2Configuration(client_side=True, header_encoding='utf-8',
            validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        values = {h2.settings.SettingCodes.ENABLE_PUSH: 0, **settings}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.heads, self.bodies, self.trailers, self.interim, self.ended, self.resets = {}, {}, {}, {}, set(), {}
        self.goaway, self.closed, self.opens, self.agreed = None, False, True, False
        self.flush()
        if settings: self.until(lambda: self.agreed)
    def flush(self):
        data = self.h2.data_to_send()
        if data: self.socket.sendall(data)
    def begin(self, path='/', method='GET', more=(), end=True, authority='a.test', protocol=None):
        stream = self.h2.get_next_available_stream_id()
        fields = [(':method', method), (':scheme', 'https' if secure else 'http'), (':authority', authority), (':path', path)]
        if protocol: fields.append((':protocol', protocol))
        self.h2.send_headers(stream, fields + list(more), end_stream=end)
        self.flush()
        return stream
    def data(self, stream, data, end=False):
        data = memoryview(data)
        while len(data):
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if room == 0: self.step(); continue
            self.h2.send_data(stream, bytes(data[:room])); data = data[room:]
            self.flush()
        if end: self.h2.end_stream(stream); self.flush()
    def step(self):
        'Reads once. False: the connection ended.'
        try: data = self.socket.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLEOFError): data = b''
        if not data: self.closed = True; return False
        for event in self.h2.receive_data(data): self.on(event)
        self.flush()
        return True
    def on(self, event):
        e, id = h2.events, getattr(event, 'stream_id', None)
        if isinstance(event, e.ResponseReceived): self.heads[id] = dict(event.headers)
        elif isinstance(event, e.InformationalResponseReceived): self.interim.setdefault(id, []).append(dict(event.headers))
        elif isinstance(event, e.TrailersReceived): self.trailers[id] = dict(event.headers)
        elif isinstance(event, e.StreamEnded): self.ended.add(id)
        elif isinstance(event, e.StreamReset): self.resets[id] = int(event.error_code)
        elif isinstance(event, e.SettingsAcknowledged): self.agreed = True
        elif isinstance(event, e.ConnectionTerminated): self.goaway = int(event.error_code)
        elif isinstance(event, e.DataReceived):
            self.bodies[id] = self.bodies.get(id, b'') + event.data
            if self.opens and event.flow_controlled_length: self.h2.acknowledge_received_data(event.flow_controlled_length, id)
    def until(self, done):
        while not done():
            if not self.step(): return False
        return True
    def is_over(self, stream): return stream in self.ended or stream in self.resets
    def finish(self, stream):
        'Status (or None), head, body.'
        self.until(lambda: self.is_over(stream))
        head = self.heads.get(stream, {})
        return head.get(':status'), head, self.bodies.get(stream, b'')
    def ask(self, *words, body=None, **more):
        stream = self.begin(*words, end=body is None, **more)
        if body is not None: self.data(stream, body, end=True)
        return self.finish(stream)
";

/// Runs a script to its end, and returns what it said. `scheme`: `http` or `https`.
#[track_caller]
pub(crate) fn python_http2(site: &Site, (scheme, address): (&str, SocketAddr), script: &str) -> String {
    finish(&mut command(site, (scheme, address), script)).ok()
}

/// Starts a script.
pub(crate) fn python_http2_running(site: &Site, (scheme, address): (&str, SocketAddr), script: &str) -> Process {
    Process::start(&mut command(site, (scheme, address), script))
}

fn command(site: &Site, (scheme, address): (&str, SocketAddr), script: &str) -> Command {
    let mut command = python();
    command.arg("-c").arg(format!("{PRELUDE}{COMMON}{script}"));
    command.args([address.ip().to_string(), address.port().to_string()]).arg(site.home()).arg(scheme);
    command
}
