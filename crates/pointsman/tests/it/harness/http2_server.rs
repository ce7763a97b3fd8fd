//! Instances that speak HTTP/2: scripts of Python on the package h2, which see frames, and Node's own server.

use std::process::Command;

use super::Process;
use super::python::python;

/// What scripts begin with: each connection is a thread that runs the script's `serve(instance, number)`.
const PRELUDE: &str = "
import os, socket, sys, threading
import h2.config, h2.connection, h2.events, h2.settings, h2.exceptions
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame
from h2.settings import SettingCodes
def say(*words): os.write(1, (' '.join(map(str, words)) + '\\n').encode())
class Gone(Exception): pass
class Instance:
    def __init__(self, sock, settings={}):
        self.socket, self.events = sock, []
        config = h2.config.H2Configuration(client_side=False, header_encoding='utf-8')
        self.h2 = h2.connection.H2Connection(config)
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 100, **settings})
        self.h2.initiate_connection()
        self.flush()
    def flush(self):
        data = self.h2.data_to_send()
        if data: self.socket.sendall(data)
    def next(self):
        'The next event.'
        while not self.events:
            try: data = self.socket.recv(1 << 16)
            except ConnectionResetError: data = b''
            if not data: raise Gone
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.events.append(event)
            self.flush()
        return self.events.pop(0)
    def until(self, kind, stream=None):
        while True:
            event = self.next()
            if isinstance(event, kind) and stream in (None, event.stream_id): return event
    def asked(self):
        'The next request: its stream and its head.'
        event = self.until(h2.events.RequestReceived)
        return event.stream_id, dict(event.headers)
    def whole(self, stream):
        'The body of a request.'
        body = b''
        while True:
            event = self.next()
            if getattr(event, 'stream_id', None) != stream: continue
            if isinstance(event, h2.events.DataReceived): body += event.data
            if isinstance(event, h2.events.StreamEnded): return body
    def head(self, stream, status=200, more=(), end=False):
        self.h2.send_headers(stream, [(':status', str(status)), *more], end_stream=end)
        self.flush()
    def answer(self, stream, body=b'', status=200, more=()):
        self.head(stream, status, more)
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()
    def reset(self, stream, code):
        self.h2.reset_stream(stream, code)
        self.flush()
    def goaway(self, last, code=0):
        self.socket.sendall(GoAwayFrame(0, last_stream_id=last, error_code=code).serialize())
settings = {}
def one(sock, number):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try: serve(Instance(sock, settings), number)
    except (Gone, OSError): pass
    say('closed', number)
    sock.close()
def listen():
    listener, number = socket.create_server(('127.0.0.1', 0)), 0
    say('port', listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        number += 1
        say('connection', number)
        threading.Thread(target=one, args=(sock, number), daemon=True).start()
";

/// Node's server: paths tell what it answers.
const NODE: &str = "
const server = require('http2').createServer({ settings: { enableConnectProtocol: true } })
const sizes = n => Buffer.from(Array.from({ length: n }, (_, i) => i % 251))
server.on('stream', (s, h) => {
  s.on('error', () => {})
  const [, path, number] = h[':path'].split('?')[0].split('/')
  const text = (t, status = 200) => { s.respond({ ':status': status, 'x-made-by': 'node' }); s.end(t) }
  let count = 0, intact = true, trailers = {}
  const counts = d => { for (const b of d) intact &&= b == count++ % 251 }
  if (h[':protocol'] == 'websocket') {
    if (path != 'chat') return text('no chat\\n', 403)
    s.respond({ ':status': 200, 'x-asked': Object.entries(h).map(([n, v]) => n + '=' + v).join(' ') })
    s.pipe(s)
  } else if (path == 'head') text(Object.entries(h).map(([n, v]) => n + ': ' + v).join('\\n'))
  else if (path == 'bytes') text(sizes(+number))
  else if (path == 'status') { s.respond({ ':status': +number }, { endStream: true }) }
  else if (path == 'count') s.on('data', counts).on('trailers', t => trailers = t)
    .on('end', () => text(`${count} ${intact} ${JSON.stringify(trailers)}`))
  else if (path == 'echo') {
    s.respond({ ':status': 200 }, { waitForTrailers: true })
    s.on('data', counts).on('wantTrailers', () => s.sendTrailers({ 'x-total': String(count) })).pipe(s)
  } else text('node ' + h[':path'] + '\\n')
})
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port))
";

/// An instance, and what it says.
pub(crate) struct Http2Instance {
    /// Its process.
    pub(crate) process: Process,
    /// Its address as an instance's value.
    pub(crate) instance: String,
}

impl Http2Instance {
    fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let line = process.wait_line("port ");
        let instance = line.replace("port ", "127.0.0.1:");
        Self { process, instance }
    }

    /// Node's server.
    #[track_caller]
    pub(crate) fn node() -> Self {
        Self::start(Command::new("node").args(["-e", NODE]))
    }

    /// A whole program of Node that says its port.
    #[track_caller]
    pub(crate) fn node_program(program: &str) -> Self {
        Self::start(Command::new("node").args(["-e", program]))
    }

    /// A script that defines `serve`.
    #[track_caller]
    pub(crate) fn scripted(script: &str) -> Self {
        Self::start(python().args(["-c", &format!("{PRELUDE}{script}\nlisten()\n")]))
    }

    /// A whole program of Python that says its port.
    #[track_caller]
    pub(crate) fn program(program: &str) -> Self {
        Self::start(python().args(["-c", program]))
    }

    /// How often it said a line that begins so.
    pub(crate) fn said(&self, start: &str) -> usize {
        self.process.log().lines().filter(|line| line.starts_with(start)).count()
    }
}
