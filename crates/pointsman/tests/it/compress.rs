//! Compressed answers, beyond the rows of both engines: every coding, what stays as it is, streams that stay live, answers
//! that are cut, and memory.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use socket2::SockRef;
use zstd_safe::{DCtx, InBuffer, OutBuffer};

use crate::harness::{
    Backend, Connection, Http2Instance, Launch, Load, Pointsman, Process, Raw, Response, Site, Then, engine, finish,
    pattern, python_http2, request_head, run, serving, wait, websocket,
};

const ON: [(&str, &str); 1] = [("services/a/compress", "on")];
const TEXT: &str = "Content-Type: text/plain";

/// A body without its coding; of one that was cut, what there is.
fn decoded(coding: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = match coding {
        Some("gzip") => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut text),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut text),
        Some("zstd") => {
            let (mut context, mut input) = (DCtx::create(), InBuffer::around(body));
            while input.pos() < body.len() {
                text.reserve(1 << 20);
                let at = text.len();
                context.decompress_stream(&mut OutBuffer::around_pos(&mut text, at), &mut input).expect("zstd");
            }
            Ok(0)
        }
        coding => {
            assert_eq!(coding, None);
            text.extend_from_slice(body);
            Ok(0)
        }
    };
    text
}

/// Asks for a path; `answer`: lines of the answer's head, `;;` between them.
#[track_caller]
fn ask(
    connection: &mut Connection,
    (method, target): (&str, &str),
    accept: &str,
    answer: &str,
    more: &str,
) -> Response {
    let accept = if accept.is_empty() { String::new() } else { format!("Accept-Encoding: {accept}\r\n") };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n{accept}X-Answer: {answer}\r\n{more}\r\n");
    connection.send(head).expect("open");
    connection.response(method).unwrap_or_else(|error| panic!("{method} {target} {accept}{answer}: {error}"))
}

/// The coding that this engine has for a client that accepts all of ours.
fn best() -> &'static str {
    if engine().differs("compression") { "gzip" } else { "zstd" }
}

#[test]
fn every_coding_that_a_client_accepts() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &ON);
    let mut connection = running.connect();
    let rows = [("gzip", "gzip"), ("gzip, deflate, br, zstd", best()), ("zstd;q=0.5, gzip", "gzip"), ("identity", "")];
    let more = [("br", "br"), ("zstd", "zstd"), ("gzip, br", "br"), ("zstd;q=0, br;q=0.1, gzip;q=0", "br")];
    let more = if engine().differs("compression") { &[][..] } else { &more };
    let (mut plain, mut coded) = (0.0, 0.0);
    for (accept, coding) in rows.iter().chain(more) {
        for target in ["/bytes/5000", "/bytes/300000", "/chunks/300000"] {
            let answer = ask(&mut connection, ("GET", target), accept, TEXT, "");
            assert_eq!(answer.header("content-encoding").unwrap_or_default(), *coding, "{accept}");
            let length: usize = target.rsplit('/').next().and_then(|length| length.parse().ok()).expect("a length");
            let body = decoded(answer.header("content-encoding"), &answer.body);
            assert!(body == pattern(0, length), "{accept} {target}: {} of {length}", body.len());
            if !coding.is_empty() {
                assert!(answer.header("content-length").is_none() && answer.body.len() < length / 2, "{}", answer.head);
                (plain, coded) = (plain + length as f64, coded + answer.body.len() as f64);
            }
            let total = answer.trailer("x-total").map(str::to_owned);
            assert_eq!(total, target.starts_with("/chunks").then(|| length.to_string()), "trailers pass");
        }
    }
    let service = &["service=\"a\""];
    if engine().differs("compression") {
        let metric = |way: &str| running.metric(&format!("pointsman_compress_bytes_{way}_total"), service);
        wait("the metrics", || metric("in") > 1e6 && metric("out") > 0.0 && metric("out") < metric("in") / 2.0);
    } else {
        wait("the metrics", || running.metric("pointsman_compress_bytes_in_total", service) == plain);
        assert_eq!(running.metric("pointsman_compress_bytes_out_total", service), coded);
    }
    let shown = run(&["explain", "http://a.test/", "--admin", &running.admin.to_string()]).stdout;
    assert!(shown.contains("; compress on"), "{shown}");
}

#[test]
fn what_stays_as_it_is() {
    if engine().differs("compression") {
        return;
    }
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &ON);
    let mut connection = running.connect();
    // The answer's head, the request's head, and whether the answer depends on `Accept-Encoding`.
    for (answer, more, varies) in [
        ("Content-Type: image/jpeg", "", false),
        ("Content-Type: text/event-stream", "", false),
        ("Content-Type: application/grpc", "", false),
        ("Content-Type: text/plain;; Content-Encoding: gzip", "", false),
        ("Content-Type: text/plain;; Content-Encoding: identity", "", false),
        ("Content-Type: text/plain;; Cache-Control: max-age=1,No-Transform", "", false),
        ("Content-Type: text/plain;; Repr-Digest: sha-256=:AA==:", "", false),
        ("Content-Type: text/plain;; Content-Digest: sha-256=:AA==:", "", false),
        ("Content-Type: text/plain;; Digest: sha-256=AA==", "", false),
        ("Content-Type: text/plain;; Content-MD5: AA==", "", false),
        ("X-None: 1", "", false),
        ("Content-Type: text/plain;; Content-Range: bytes 0-4999/9999", "", true),
        (TEXT, "Range: bytes=0-9\r\n", true),
        (TEXT, "Cache-Control: no-transform\r\n", true),
    ] {
        let answer = ask(&mut connection, ("GET", "/bytes/5000"), "zstd, br, gzip", answer, more);
        let coding = answer.header("content-encoding").filter(|coding| !["gzip", "identity"].contains(coding));
        assert!(coding.is_none() && answer.body == pattern(0, 5000), "{}", answer.head);
        assert_eq!(answer.header("content-length"), Some("5000"), "{}", answer.head);
        assert_eq!(answer.header("vary").is_some(), varies, "{}", answer.head);
    }
    let rows = [("/bytes/1023", "gzip", ""), ("/bytes/0", "gzip, identity;q=0", ""), ("/status/206", "gzip", "")];
    let more = [("/bytes/1024", "gzip", "gzip"), ("/bytes/9", "gzip, identity;q=0", "gzip"), ("/chunks/9", "br", "br")];
    for (target, accept, coding) in rows.iter().chain(&more) {
        let answer = ask(&mut connection, ("GET", target), accept, TEXT, "");
        assert_eq!(answer.header("content-encoding").unwrap_or_default(), *coding, "{target}: {}", answer.head);
        // A short one is compressed for whoever takes nothing else.
        assert_eq!(answer.header("vary").is_some(), *target != "/bytes/0", "{target}: {}", answer.head);
    }
}

#[test]
fn heads_tell_what_was_done() {
    if engine().differs("compression") {
        return;
    }
    let backend = Backend::naming("one");
    let (site, running) = serving(&backend.instance(), &ON);
    let mut connection = running.connect();
    for (tag, weak) in [("\"a\"", Some("W/\"a\"")), ("W/\"a\"", Some("W/\"a\"")), ("a", None)] {
        for method in ["GET", "HEAD"] {
            let answer = format!("{TEXT};; ETag: {tag};; Accept-Ranges: bytes;; Vary: Origin");
            let answer = ask(&mut connection, (method, "/bytes/5000"), "br", &answer, "");
            let head = &answer.head;
            assert_eq!((answer.header("etag"), answer.header("content-encoding")), (weak, Some("br")), "{head}");
            assert!(answer.header("accept-ranges").is_none() && answer.header("content-length").is_none(), "{head}");
            assert!(head.contains("Vary: Origin\r\n") && head.contains("Vary: Accept-Encoding\r\n"), "{head}");
        }
    }
    let told = ask(&mut connection, ("GET", "/bytes/5000"), "", &format!("{TEXT};; ETag: \"a\";; Vary: x, *"), "");
    assert_eq!(
        (told.header("etag"), told.header("vary"), told.header("content-length")),
        (Some("\"a\""), Some("x, *"), Some("5000"))
    );
    for (asked, tag) in
        [("W/\"a\"", "W/\"a\""), ("\"b\", W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\""), ("W/\"b\"", "\"a\"")]
    {
        let more = format!("If-None-Match: {asked}\r\n");
        let answer = ask(&mut connection, ("GET", "/status/304"), "br", "ETag: \"a\"", &more);
        assert_eq!((answer.status, answer.header("etag")), (304, Some(tag)), "{asked}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    // A tag may have commas.
    let answer =
        ask(&mut connection, ("GET", "/status/304"), "br", "ETag: \"a, b\"", "If-None-Match: \"c\", W/\"a, b\"\r\n");
    assert_eq!((answer.status, answer.header("etag")), (304, Some("W/\"a, b\"")));
    site.put("services/a/cookie", "SRV insert");
    wait("the cookie", || {
        let answer = ask(&mut connection, ("GET", "/bytes/5000"), "br", TEXT, "");
        answer.header("set-cookie").is_some() && answer.header("content-encoding") == Some("br")
    });
}

#[test]
fn old_clients_and_websockets_get_bytes_as_they_are() {
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &ON);
    let mut old = running.connect();
    old.send(format!("GET /bytes/5000 HTTP/1.0\r\nHost: a.test\r\nAccept-Encoding: gzip\r\nX-Answer: {TEXT}\r\n\r\n"))
        .expect("open");
    assert!(old.response("GET").expect("an answer").body == pattern(0, 5000));
    let mut socket = running.connect();
    let head = websocket("/chat", "a.test");
    socket.send(head.replace("\r\n\r\n", "\r\nAccept-Encoding: gzip\r\n\r\n")).expect("open");
    let answer = socket.response("GET").expect("an answer");
    assert_eq!((answer.status, answer.header("content-encoding"), answer.header("vary")), (101, None, None));
    socket.send("hello").expect("open");
    assert_eq!(socket.read_bytes(5).expect("the echo"), b"hello");
}

/// An instance that answers one request, chunked, with the lines that the test hands it.
fn told_lines() -> (String, Sender<&'static str>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let (sender, lines): (Sender<&str>, Receiver<&str>) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        request_head(&mut BufReader::new(stream.try_clone().expect("open"))).expect("a head");
        let head = format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("open");
        for line in lines {
            stream.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).expect("open");
        }
        stream.write_all(b"0\r\n\r\n").expect("open");
        stream.shutdown(std::net::Shutdown::Both).expect("open");
    });
    (address, sender)
}

#[test]
fn a_stream_stays_live() {
    // HAProxy holds the last bits back.
    if engine().differs("compression") {
        return;
    }
    let codings = ["gzip", "br", "zstd"];
    for (coding, version) in
        codings.iter().flat_map(|coding| ["--http1.1", "--http2-prior-knowledge"].map(|version| (coding, version)))
    {
        let (instance, lines) = told_lines();
        let (_site, running) = serving(&instance, &ON);
        let mut curl = Command::new("curl");
        curl.args(["-sSN", version, "--compressed", "-H", "Host: a.test", "-H", &format!("Accept-Encoding: {coding}")]);
        curl.args(["-D", "/dev/stderr", &format!("http://{}/", running.http)]);
        let mut curl = Process::start(&mut curl);
        for line in ["one of them", "and another", "", "the last one"] {
            lines.send(line).expect("it waits");
            curl.wait_line(line);
        }
        drop(lines);
        assert!(curl.wait_exit(crate::harness::PATIENCE).success(), "{}", curl.log());
        assert!(curl.log().to_ascii_lowercase().contains(&format!("content-encoding: {coding}")), "{}", curl.log());
    }
}

#[test]
fn an_answer_that_is_cut_short_is_cut() {
    let head = format!("HTTP/1.1 200 OK\r\n{TEXT}\r\n");
    // zstd collects 128 KiB, and what was not begun is answered with an error.
    let body = noise(400_000);
    let sized = [format!("{head}Content-Length: 500000\r\n\r\n").as_bytes(), &body].concat();
    let chunked = [format!("{head}Transfer-Encoding: chunked\r\n\r\n7a120\r\n").as_bytes(), &body].concat();
    for (answer, then) in
        [sized, chunked].iter().flat_map(|answer| [Then::Close, Then::Reset].map(|then| (answer, then)))
    {
        let (site, running) = serving(&Raw::answering(answer.clone(), then).instance(), &ON);
        let mut connection = running.connect();
        connection
            .send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: {}\r\n\r\n", best()))
            .expect("open");
        let answer = connection.response("GET");
        assert!(answer.is_err(), "{then:?}: {answer:?}");
        wait("the fault", || running.metric("pointsman_faults_total", &["bad_response_body"]) >= 1.0);
        if engine().differs("http2-cut") {
            continue;
        }
        let script = "
client = Client()
stream = client.begin('/', more=[('accept-encoding', 'zstd')])
status, head, body = client.finish(stream)
say(status, head.get('content-encoding'), 'reset' if stream in client.resets else 'ended')
";
        assert_eq!(python_http2(&site, ("http", running.http), script).trim(), "200 zstd reset", "{then:?}");
    }
}

#[test]
fn an_answer_that_is_cut_before_anything_was_sent_is_an_error() {
    let answer =
        [format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nContent-Length: 9000\r\n\r\n").into_bytes(), noise(2000)].concat();
    let (_site, running) = serving(&Raw::answering(answer, Then::Close).instance(), &ON);
    for accept in ["gzip", "br", "zstd"] {
        let mut connection = running.connect();
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: {accept}\r\n\r\n");
        connection.send(head).expect("open");
        // The end may come a moment later than the beginning, which is sent on then.
        assert!(connection.response("GET").map_or(true, |answer| answer.status == 502), "{accept}");
    }
}

#[test]
fn a_body_until_close_is_whole() {
    let answer = [format!("HTTP/1.1 200 OK\r\n{TEXT}\r\n\r\n").into_bytes(), pattern(0, 90_000)].concat();
    let (_site, running) = serving(&Raw::answering(answer, Then::Close).instance(), &ON);
    let mut connection = running.connect();
    if engine().differs("close-delimited") {
        return;
    }
    for accept in ["gzip", "br", "zstd"] {
        let answer = ask(&mut connection, ("GET", "/"), accept, "X: y", "");
        assert_eq!(answer.header("content-encoding"), Some(accept));
        assert!(decoded(Some(accept), &answer.body) == pattern(0, 90_000) && !answer.closes());
    }
}

#[test]
fn clients_of_other_makes() {
    let backend = Backend::naming("one");
    let (site, running) = serving(&backend.instance(), &ON);
    let script = format!(
        "
import gzip
for length in 5000, 300000:
    status, head, body = Client().ask('/chunks/%d' % length, more=[('accept-encoding', 'gzip'), ('x-answer', '{TEXT}')])
    body = gzip.decompress(body)
    say(status, head['content-encoding'], head.get('content-length'), head['vary'], body == bytes(i % 251 for i in range(length)))
client = Client()
stream = client.begin('/chunks/5000', more=[('accept-encoding', 'gzip'), ('x-answer', '{TEXT}')])
client.finish(stream)
say(client.trailers[stream]['x-total'])
"
    );
    let said = python_http2(&site, ("http", running.http), &script);
    assert_eq!(said.trim(), "200 gzip None Accept-Encoding True\n200 gzip None Accept-Encoding True\n5000");
    let script = "
const [url, answer] = process.argv.slice(1)
fetch(url, { headers: { 'X-Answer': answer } }).then(async r => {
  const body = Buffer.from(await r.arrayBuffer())
  console.log(r.headers.get('content-encoding'), body.length, body.every((byte, i) => byte == i % 251))
})";
    // fetch names the host itself.
    site.put("services/a/default", "true");
    let url = format!("http://{}/bytes/300000", running.http);
    wait("node", || {
        let said = finish(Command::new("node").args(["-e", script, &url, TEXT])).stdout;
        said.trim() == "gzip 300000 true"
    });
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--compressed", "-H", &format!("X-Answer: {TEXT}"), "-w", "%{size_download} ", "-o"]);
    let file = site.home().join("body");
    let size = finish(curl.arg(&file).arg(&url)).ok();
    assert!(std::fs::read(file).expect("written") == pattern(0, 300_000));
    assert!(size.trim().parse::<usize>().is_ok_and(|size| size < 150_000), "{size}");
}

#[test]
fn instances_of_http_2() {
    if engine().differs("compression") {
        return;
    }
    // More than all windows of the instance's connection and stream, and nothing that is sent on before its end.
    let instance = Http2Instance::scripted(
        "
def serve(instance, number):
    while True:
        stream, head = instance.asked()
        body = b'all the same ' * 100000
        instance.head(stream, more=[('content-type', 'text/plain')])
        while body:
            room = min(instance.h2.local_flow_control_window(stream), instance.h2.max_outbound_frame_size, len(body))
            if not room: instance.next(); continue
            instance.h2.send_data(stream, body[:room]); body = body[room:]
            instance.flush()
        instance.h2.send_headers(stream, [('x-total', '1300000')], end_stream=True)
        instance.flush()
",
    );
    let (_site, running) = serving(&instance.instance, &[ON[0], ("services/a/protocol", "h2")]);
    for accept in ["gzip", "br", "zstd"] {
        let mut connection = running.connect();
        let answer = ask(&mut connection, ("GET", "/"), accept, "X: y", "");
        assert_eq!((answer.header("content-encoding"), answer.trailer("x-total")), (Some(accept), Some("1300000")));
        assert!(decoded(Some(accept), &answer.body) == b"all the same ".repeat(100_000), "{accept}");
    }
}

/// How long the body of [`noisy`] is, bytes, and a part of it.
const NOISE: usize = 100_000_000;
const PART: usize = 100_000;

/// Text that can be halved at best, of this length.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let hex = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[(state >> 60) as usize]
    });
    hex.take(length).collect()
}

/// An instance whose body is long: parts of [`noise`], all the same, and too far apart to be found again.
fn noisy() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let address = listener.local_addr().expect("bound").to_string();
    let part = noise(PART);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let part = part.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                request_head(&mut BufReader::new(stream.try_clone()?))?;
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nContent-Length: {NOISE}\r\n\r\n").as_bytes())?;
                for _ in 0..NOISE / part.len() {
                    stream.write_all(&part)?;
                }
                Ok(())
            });
        }
    });
    address
}

#[test]
fn a_slow_reader_costs_bounded_memory() {
    let backend = Backend::naming("quick");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &noisy()),
        ("services/a/compress", "on"),
        // They stand still for as long as the others are read.
        ("services/a/timeout/server", "1h"),
        ("config/timeout/client", "1h"),
        ("services/b/domain", "b.test"),
        ("services/b/one", &backend.instance()),
    ]);
    let running = Launch::on(&site).args(&["--workers", "1"]).start();
    running.wait_ready();
    let before = running.process.resident();
    let mut readers: Vec<_> = (0..8).map(|_| running.connect()).collect();
    for (reader, accept) in readers.iter_mut().zip(["gzip", best()].iter().cycle()) {
        reader.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: {accept}\r\n\r\n")).expect("open");
    }
    let load = Load::new().keep_alive(2, running.http, "b.test");
    wait("some traffic beside", || load.done() > 200);
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes for 8 readers that stand still");
    let (whole, beside) = (noise(PART), load.done());
    for mut reader in readers.drain(..2) {
        let answer = reader.response("GET").expect("the whole body");
        let body = decoded(answer.header("content-encoding"), &answer.body);
        assert!(body.len() == NOISE && body.chunks(PART).all(|part| part == whole), "{}", body.len());
    }
    assert!(load.done() > beside + 200, "{} others beside 200 MB", load.done() - beside);
    load.finish().assert_clean(200);
    let grown = running.process.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes after them");
}

#[test]
fn beyond_a_bound_answers_pass_as_they_are() {
    if engine().differs("compression") {
        return;
    }
    let begin = format!("HTTP/1.1 200 OK\r\n{TEXT}\r\nContent-Length: 90000\r\n\r\nbegin");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/compress", "on")]);
    site.put("services/a/one", Raw::answering(begin, Then::Hang).instance());
    let running = Launch::on(&site).args(&["--workers", "1"]).start();
    running.wait_ready();
    let ask = |running: &Pointsman| {
        let mut connection = running.connect();
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n").expect("open");
        let head = connection.read_head().expect("a head");
        (connection, head)
    };
    let mut open: Vec<_> = (0..256).map(|_| ask(&running)).collect();
    assert!(open.iter().all(|(_, head)| head.contains("Content-Encoding: gzip\r\n")));
    let (_one_more, head) = ask(&running);
    assert!(head.contains("Content-Length: 90000\r\n") && head.contains("Vary: Accept-Encoding\r\n"), "{head}");
    assert_eq!(running.metric("pointsman_compress_passed_total", &["service=\"a\""]), 1.0);
    // It leaves with a reset.
    let (left, _) = open.swap_remove(0);
    SockRef::from(left.stream()).set_linger(Some(Duration::ZERO)).expect("open");
    drop(left);
    wait("a place", || ask(&running).1.contains("Content-Encoding: gzip\r\n"));
}

#[test]
fn the_access_log_has_the_bytes_that_were_sent() {
    if engine().differs("compression") {
        return;
    }
    let backend = Backend::naming("one");
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance()), ON[0]]);
    let file = site.home().join("access.log");
    let arguments = ["--access-log", file.to_str().expect("text"), "--access-log-format", "httplog"];
    let running = Launch::on(&site).args(&arguments).start();
    running.wait_ready();
    let mut connection = running.connect();
    connection
        .send(format!("GET /bytes/300000 HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: br\r\nX-Answer: {TEXT}\r\n\r\n"))
        .expect("open");
    let head = connection.read_head().expect("a head").len();
    let mut sent = head;
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        rest.extend(connection.read_some(1 << 16).expect("the body"));
    }
    sent += rest.len();
    wait("its line", || std::fs::read_to_string(&file).is_ok_and(|log| log.contains(&format!(" 200 {sent} "))));
    assert!(sent < 100_000, "{sent}");
}
