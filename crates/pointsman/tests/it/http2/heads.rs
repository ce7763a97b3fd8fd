//! Malformed heads of HTTP/2 (RFC 9113 §8.1 to §8.3): no instance sees them.

use super::scene;
use crate::harness::engine;

/// Sends each head on a connection of its own, and says what became of it: its status, `reset` or `closed`.
const SCRIPT: &str = r"
import hpack
usual = {':method': 'GET', ':scheme': 'http', ':path': '/head', ':authority': 'a.test'}
def became(fields, data):
    c = Client()
    block, flags = hpack.Encoder().encode([(name.encode('latin-1'), value.encode('latin-1')) for name, value in fields], huffman=False), 4
    if data is None: flags |= 1
    c.socket.sendall(len(block).to_bytes(3, 'big') + bytes([1, flags]) + (1).to_bytes(4, 'big') + block)
    if data is not None: c.socket.sendall(len(data).to_bytes(3, 'big') + bytes([0, 1]) + (1).to_bytes(4, 'big') + data)
    # The package knows no stream that it did not open itself.
    head = b''
    while True:
        while len(head) < 9 or len(head) < 9 + int.from_bytes(head[:3], 'big'):
            try: more = c.socket.recv(1 << 16)
            except ConnectionResetError: more = b''
            if not more: return 'closed'
            head += more
        size, kind, stream = int.from_bytes(head[:3], 'big'), head[3], int.from_bytes(head[5:9], 'big')
        payload, head = head[9:9 + size], head[9 + size:]
        if kind == 1 and stream == 1: return dict(hpack.Decoder().decode(payload))[':status']
        if kind == 3 and stream == 1: return 'reset'
        if kind == 7 and int.from_bytes(payload[4:8], 'big'): return 'closed'
def without(name): return [(one, value) for one, value in usual.items() if one != name]
def instead(name, value): return [(one, value if one == name else old) for one, old in usual.items()]
def and_(*more): return list(usual.items()) + list(more)
rows = [
    ('sound', and_(('x-a', 'b'))),
    ('no method', without(':method')),
    ('no path', without(':path')),
    ('no scheme', without(':scheme')),
    ('empty path', instead(':path', '')),
    ('empty method', instead(':method', '')),
    ('two methods', [(':method', 'GET')] + and_()),
    ('two paths', [(':path', '/head')] + and_()),
    ('two schemes', [(':scheme', 'http')] + and_()),
    ('two authorities', and_((':authority', 'b.test'))),
    ('unknown pseudo-header', and_((':color', 'red'))),
    ('status', and_((':status', '200'))),
    ('pseudo-header behind a field', without(':authority') + [('x-a', 'b'), (':authority', 'a.test')]),
    ('no authority and no host', without(':authority')),
    ('two hosts', without(':authority') + [('host', 'a.test'), ('host', 'b.test')]),
    ('user in the authority', instead(':authority', 'u@a.test')),
    ('space in the authority', instead(':authority', 'a.test b')),
    ('path in the authority', instead(':authority', 'a.test/x')),
    ('path without a slash', instead(':path', 'head')),
    ('space in the path', instead(':path', '/head b')),
    ('version in the path', instead(':path', '/head HTTP/1.1\r\nx-smuggled: y\r\n\r\n')),
    ('star for GET', instead(':path', '*')),
    ('URL as path', instead(':path', 'http://b.test/')),
    ('CONNECT with a path', instead(':method', 'CONNECT')),
    ('space in the method', instead(':method', 'G T')),
    ('line in the method', instead(':method', 'GET / HTTP/1.1\r\nx-smuggled: y\r\nx:')),
    ('connection', and_(('connection', 'close'))),
    ('connection that names a field', and_(('connection', 'x-forwarded-for'))),
    ('keep-alive', and_(('keep-alive', 'timeout=5'))),
    ('proxy-connection', and_(('proxy-connection', 'keep-alive'))),
    ('transfer-encoding', and_(('transfer-encoding', 'chunked'))),
    ('upgrade', and_(('upgrade', 'websocket'))),
    ('te', and_(('te', 'gzip'))),
    ('upper case', and_(('X-Upper', 'a'))),
    ('empty name', and_(('', 'a'))),
    ('space in a name', and_(('x a', 'b'))),
    ('colon in a name', and_(('x:a', 'b'))),
    ('line in a name', and_(('x\r\nx-smuggled', 'b'))),
    ('NUL in a name', and_(('x\0', 'b'))),
    ('line in a value', and_(('x-a', 'b\r\nx-smuggled: y'))),
    ('line feed in a value', and_(('x-a', 'b\nx-smuggled: y'))),
    ('carriage return in a value', and_(('x-a', 'b\rc'))),
    ('NUL in a value', and_(('x-a', 'b\0c'))),
    ('space before a value', and_(('x-a', ' b'))),
    ('space behind a value', and_(('x-a', 'b '))),
    ('two lengths', and_(('content-length', '0'), ('content-length', '0'))),
    ('length without a body', and_(('content-length', '5'))),
    ('length that is no number', and_(('content-length', 'x'))),
    ('length with a sign', and_(('content-length', '+0'))),
    ('body longer than its length', and_(('content-length', '1')), b'12345'),
    ('body shorter than its length', and_(('content-length', '9')), b'12345'),
]
for name, fields, *data in rows:
    say(name, became(fields, data[0] if data else None), sep=': ')
";

/// What HAProxy mends and passes on.
const MENDED_BY_HAPROXY: [&str; 6] = [
    "two hosts",
    "star for GET",
    "space before a value",
    "space behind a value",
    "two lengths",
    "length without a body",
];

#[test]
fn no_instance_sees_a_malformed_head() {
    let scene = scene(&[]);
    let said = scene.clear(SCRIPT);
    let served: Vec<_> = said.lines().filter_map(|line| line.strip_suffix(": 200")).collect();
    let mut expected = vec!["sound"];
    if engine().differs("http2-heads") {
        expected.extend(MENDED_BY_HAPROXY);
    }
    assert_eq!(served, expected, "{said}");
    for seen in scene.backend.received() {
        let seen = String::from_utf8_lossy(&seen).to_lowercase();
        assert!(!seen.lines().any(|line| line.starts_with("x-smuggled")) && !seen.contains('\0'), "{seen}");
    }
}
