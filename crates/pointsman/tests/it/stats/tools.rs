//! hatop, the Prometheus exporter, Telegraf's parsing and the rules of checks, on this program.

use std::process::Command;

use serde_json::Value;

use super::{Scene, ask, rows, scene, serving};
use crate::harness::{Backend, Connection, Process, Site, engine, finish, free_address, get, get_ok, wait};

/// Starts hatop on a terminal of its own, waits for words on its screen, types a command and waits for more words.
const HATOP: &str = "
import fcntl, os, select, signal, struct, subprocess, sys, termios, time
path, wanted, typed, after = sys.argv[1:5]
ours, theirs = os.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 160, 0, 0))
def terminal():
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
hatop = subprocess.Popen(['hatop', '-s', path, '-i', '1'], stdin=theirs, stdout=theirs, stderr=theirs,
    preexec_fn=terminal, env={**os.environ, 'TERM': 'xterm', 'LANG': 'C.UTF-8'})
os.close(theirs)
screen = b''
def read():
    global screen
    if select.select([ours], [], [], 0.1)[0]:
        try:
            screen += os.read(ours, 65536)
        except OSError:
            # It has ended.
            pass
def wait(words):
    until = time.monotonic() + 60
    while not all(word.encode() in screen for word in words.split(',')):
        assert time.monotonic() < until and hatop.poll() is None, screen
        read()
try:
    wait(wanted)
    screen = b''
    os.write(ours, b'5')
    wait('CLI')
    os.write(ours, typed.encode() + b'\\r')
    wait(after)
    # It exits with 0 then. INT may be ignored by all children of whoever runs this.
    hatop.send_signal(signal.SIGTERM)
    until = time.monotonic() + 30
    while hatop.poll() is None and time.monotonic() < until:
        read()
    print(hatop.poll())
finally:
    hatop.kill()
";

#[test]
fn hatop_shows_and_changes_servers() {
    let scene = scene("level admin");
    let socket = scene.socket.display().to_string();
    let hatop = |wanted: &str, typed: &str, after: &str| {
        let script = ["-c", HATOP, &socket, wanted, typed, after];
        let printed = finish(Command::new("python3").args(script)).ok();
        assert_eq!(printed.trim(), "0", "hatop's exit status");
    };
    hatop("services:shop,web-1,db-1,Pointsman", "get weight services:shop/web-1", "3 (initial 3)");
    hatop("web-1", "disable server services:shop/web-1;get weight services:shop/web-1", "3 (initial 3)");
    assert!(scene.key("web-1").ends_with(" weight=3 drain"), "{}", scene.key("web-1"));
}

#[test]
fn the_prometheus_exporter_reads_both() {
    let scene = scene("");
    scene.requests(&["/", "/status/500"]);
    let page = format!("http://{}/haproxy?stats;csv", scene.running.admin);
    for source in [page, format!("unix:{}", scene.socket.display())] {
        let address = free_address();
        let mut command = Command::new("prometheus-haproxy-exporter");
        command.args([&format!("--haproxy.scrape-uri={source}"), &format!("--web.listen-address={address}")]);
        let process = Process::start(&mut command);
        wait("the exporter", || get(address, "localhost", "/metrics").is_ok_and(|answer| answer.status == 200));
        let text = get_ok(address, "localhost", "/metrics").text();
        for line in [
            "haproxy_up 1",
            "haproxy_exporter_csv_parse_failures_total 0",
            "haproxy_server_up{backend=\"services:shop\",server=\"web-1\"} 1",
            "haproxy_backend_up{backend=\"services:shop\"} 1",
            "haproxy_backend_http_responses_total{backend=\"services:shop\",code=\"5xx\"} 1",
            "haproxy_server_sessions_total{backend=\"services:shop\",server=\"web-1\"} 2",
            "haproxy_frontend_http_requests_total{frontend=\"http\"} 2",
        ] {
            assert!(text.lines().any(|have| have == line), "{source}: no {line} in\n{text}\n{}", process.log());
        }
    }
}

/// What Telegraf's input `haproxy` makes of a value: its columns of text, one signed number, and unsigned numbers.
fn telegraf_reads(column: &str, value: &str) -> bool {
    match column {
        "pxname" | "svname" | "status" | "check_status" | "last_chk" | "mode" | "tracked" | "agent_status"
        | "last_agt" | "addr" | "cookie" | "check_desc" | "agent_desc" | "algo" | "-" => true,
        "type" => ["0", "1", "2", "3"].contains(&value),
        "lastsess" => value.parse::<i64>().is_ok(),
        _ => value.parse::<u64>().is_ok(),
    }
}

/// What a check of the kind of `check_haproxy` says: servers and backends that are down are critical, and so are nine
/// tenths of the sessions that are allowed.
fn check_haproxy(csv: &str) -> Result<(), String> {
    for (name, row) in rows(csv) {
        let status = &*row["status"];
        let is_well = match (&*row["svname"], status) {
            ("FRONTEND", status) => status == "OPEN",
            ("BACKEND", status) => status == "UP",
            (_, status) => status.starts_with("UP") || ["no check", "DRAIN", "MAINT"].contains(&status),
        };
        let number = |column: &str| row[column].parse::<u64>().ok();
        let is_full = number("scur").zip(number("slim")).is_some_and(|(now, most)| most > 0 && now * 10 > most * 9);
        if !is_well || is_full {
            return Err(format!("CRITICAL {name} {status}"));
        }
    }
    Ok(())
}

#[test]
fn telegraf_and_checks_understand_every_row() {
    let scene = scene("");
    scene.requests(&["/"]);
    let csv = Connection::open(scene.running.admin).request("GET", "localhost", "/haproxy?stats;csv").expect("open");
    assert_eq!((csv.status, csv.header("content-type")), (200, Some("text/plain")));
    let csv = csv.text();
    for (name, row) in rows(&csv) {
        let odd: Vec<_> =
            row.iter().filter(|(column, value)| !value.is_empty() && !telegraf_reads(column, value)).collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
    assert_eq!(check_haproxy(&csv), Ok(()));
}

#[test]
fn checks_are_told_in_haproxys_codes() {
    let (well, ill, refused) = (Backend::naming("well"), Backend::naming("ill"), free_address());
    let site = Site::with(&[
        ("config/health_check_interval", "200ms"),
        ("services/a/domain", "a.test"),
        ("services/a/health_check_uri", "/health"),
        ("services/a/one", &well.instance()),
        ("services/b/domain", "b.test"),
        ("services/b/health_check_uri", "/status/503"),
        ("services/b/one", &ill.instance()),
        ("services/c/domain", "c.test"),
        ("services/c/health_check", "tcp"),
        ("services/c/one", &refused.to_string()),
    ]);
    let (running, socket) = serving(&site, "stats.sock", "");
    let row = |name: &str| rows(&ask(&socket, "show stat")).remove(name).expect("a row");
    wait("the checks", || ["b", "c"].iter().all(|name| row(&format!("services:{name}/one"))["status"] == "DOWN"));
    wait("the check that passes", || row("services:a/one")["status"] == "UP");
    assert_eq!(row("services:b/BACKEND")["status"], "DOWN");
    let critical = check_haproxy(&running.admin_page("/haproxy?stats;csv")).expect_err("two are down");
    assert!(critical.contains("DOWN"), "{critical}");
    if !engine().differs("explained-keys") {
        let facts = |name: &str| ["check_status", "check_code", "check_desc"].map(|column| row(name)[column].clone());
        wait("what the check said", || facts("services:a/one")[0] == "L7OK");
        assert_eq!(facts("services:a/one"), ["L7OK", "200", "Layer7 check passed"]);
        assert_eq!(facts("services:b/one"), ["L7STS", "503", "Layer7 wrong status"]);
        assert_eq!(facts("services:c/one"), ["L4CON", "", "Layer4 connection problem"]);
        assert_eq!(
            ["check_rise", "check_fall", "check_health"].map(|column| row("services:a/one")[column].clone()),
            ["2", "3", "4"]
        );
        let state = ask(&socket, "show servers state services:b");
        let line: Vec<_> = state.lines().nth(2).expect("a server").split(' ').collect();
        assert_eq!([line[5], line[10], line[11], line[13]], ["0", "17", "2", "6"], "{state}");
    }
}

#[test]
fn the_page_has_haproxys_address() {
    let scene = scene("");
    let request = |target: &str| get(scene.running.admin, "localhost", target).expect("an answer");
    let page = request("/haproxy?stats");
    assert_eq!((page.status, page.header("location")), (302, Some("/")));
    assert_eq!(request("/haproxy").status, 302);
    let json = request("/haproxy?stats;json");
    assert_eq!(json.header("content-type"), Some("application/json"));
    let all: Value = serde_json::from_str(&json.text()).expect("JSON");
    let first = &all[0][0];
    assert_eq!(
        (&first["objType"], &first["field"]["name"], &first["value"]["value"]),
        (&"Frontend".into(), &"pxname".into(), &"http".into())
    );
    assert!(request("/haproxy?stats;typed").text().starts_with("F.1.0.0.pxname.1:KNS:str:http\n"));
    let quiet = request("/haproxy?stats;csv;norefresh");
    assert!(quiet.text().starts_with("# pxname,svname,"));
    let of_other_site = get(scene.running.admin, "evil.test", "/haproxy?stats;csv").expect("an answer");
    assert_eq!(of_other_site.status, 421);
}

#[test]
fn the_page_and_the_socket_have_the_same_rows() {
    let Scene { running, socket, site: _site, .. } = scene("");
    let names: Vec<_> = rows(&ask(&socket, "show stat")).into_keys().collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("services:shop/")).count(), 3, "{names:?}");
    let page: Vec<_> = rows(&running.admin_page("/haproxy?stats;csv")).into_keys().collect();
    assert_eq!(page, names);
}
