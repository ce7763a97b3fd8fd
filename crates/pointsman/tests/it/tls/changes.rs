//! Connections and sessions while certificates change.

use super::{CERTS, certificate, scene};
use crate::harness::{PATIENCE, engine, python_tls_running, wait};

#[test]
fn no_change_closes_a_connection() {
    let scene = scene(CERTS, &[]);
    let script = "
kept = [Client() for _ in range(20)]
say('first', sum(c.ask('/x')[0] == 200 for c in kept))
download = Client(); download.send('/hold'); download.head()
say('ready')
wait_file('changed')
say('second', sum(c.ask('/x')[0] == 200 for c in kept))
say('asked')
body = b''
while not body.endswith(b'\\r\\n\\r\\n'): body += download.file.read1()
say('whole', b'X-Total' in body or b'x-total' in body)
";
    let mut clients = python_tls_running(&scene.site, scene.https, script);
    clients.wait_log("ready");
    let shown = |name: &str| scene.shown(&format!("-servername {name}"));
    scene.site.put("certs/a", certificate(&scene.site, "renewed", "DNS:a.test", "ec"));
    wait("the renewed one", || shown("a.test") == "renewed");
    if !engine().differs("closed-at-reload") {
        scene.site.put("certs/b", certificate(&scene.site, "b", "DNS:b.test", "rsa"));
        wait("one more", || shown("b.test") == "b");
        scene.site.remove("certs/b");
        wait("it to go", || shown("b.test") == "renewed");
        scene.site.remove("certs/a");
        wait("none to be left", || shown("a.test").is_empty());
        scene.site.put("certs/a", certificate(&scene.site, "again", "DNS:a.test", "ec"));
        wait("the last one", || shown("a.test") == "again");
    }
    std::fs::write(scene.site.home().join("changed"), "").expect("our own folder");
    clients.wait_log("asked");
    scene.backend.let_go();
    assert_eq!(clients.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(clients.log(), "first 20\nready\nsecond 20\nasked\nwhole True\n");
}

#[test]
fn sessions_are_resumed_after_a_change() {
    let scene = scene(CERTS, &[]);
    let script = "
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    mine = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mine.check_hostname, mine.verify_mode = False, ssl.CERT_NONE
    mine.minimum_version = mine.maximum_version = version
    def client(session=None):
        c = Client(session=session, context=mine)
        c.ask('/x')
        return c
    session = client().socket.session
    again = client(session)
    say(version.name, 'before', again.socket.session_reused)
    wait_file(version.name)
    say(version.name, 'after', client(again.socket.session).socket.session_reused)
";
    let mut clients = python_tls_running(&scene.site, scene.https, script);
    for version in ["TLSv1_2", "TLSv1_3"] {
        clients.wait_log(&format!("{version} before True"));
        scene.site.put("certs/a", certificate(&scene.site, version, "DNS:a.test", "ec"));
        wait("the renewed one", || scene.shown("-servername a.test") == version);
        std::fs::write(scene.site.home().join(version), "").expect("our own folder");
        clients.wait_log(&format!("{version} after True"));
    }
    assert_eq!(clients.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn handshakes_are_counted_by_version_and_resumption() {
    if engine().differs("tls-faults") {
        return;
    }
    let scene = scene(CERTS, &[]);
    let script = "
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    mine = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mine.check_hostname, mine.verify_mode = False, ssl.CERT_NONE
    mine.minimum_version = mine.maximum_version = version
    first = Client(context=mine)
    first.ask('/x')
    for _ in range(2): Client(session=first.socket.session, context=mine).ask('/x')
";
    scene.python(script);
    let rows = [("1.2", "false", 1.0), ("1.2", "true", 2.0), ("1.3", "false", 1.0), ("1.3", "true", 2.0)];
    for (version, resumed, count) in rows {
        let counted = scene.running.metric("pointsman_tls_handshakes_total", &[version, resumed]);
        assert_eq!(counted, count, "{version} {resumed}");
    }
}
