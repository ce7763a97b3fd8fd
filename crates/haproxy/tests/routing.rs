//! The maps and rules against the table, with a real HAProxy between: same requests, same service, same bytes taken off.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pointsman_haproxy::maps::MapName;
use pointsman_haproxy::names;
use pointsman_haproxy::routing::{self, Steps};
use pointsman_table::{Protocol, Service, Table};
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;

#[path = "support/tables.rs"]
mod tables;

use tables::{REQUEST_HOSTS, TARGETS, services, table};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A HAProxy that answers each request with its route, one socket a table.
struct HaProxy {
    process: Child,
    folder: TempDir,
}

impl HaProxy {
    fn start(tables: &[Arc<Table>]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config =
            String::from("global\n    tune.bufsize 32768\ndefaults\n    mode http\n    timeout client 20s\n");
        for (at, table) in tables.iter().enumerate() {
            config += &frontend(folder.path(), at, table);
        }
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, &config).expect("a new file");
        let log = fs::File::create(folder.path().join("log")).expect("a new file");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path).stderr(log).stdout(Stdio::null());
        Self { process: command.spawn().expect("haproxy is in PATH"), folder }
    }

    fn connect(&mut self, table: usize) -> Connection {
        let (path, start) = (self.folder.path().join(format!("{table}.sock")), Instant::now());
        loop {
            if let Ok(stream) = UnixStream::connect(&path) {
                stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
                return Connection(BufReader::new(stream));
            }
            let ended = self.process.try_wait().expect("a child");
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes a table's maps to a folder of its own, and returns the section that uses them.
fn frontend(folder: &Path, at: usize, table: &Table) -> String {
    let maps = routing::maps(table.services());
    let maps_folder = folder.join(format!("maps, of {at}"));
    fs::create_dir(&maps_folder).expect("a new folder");
    for name in MapName::ALL {
        fs::write(maps_folder.join(name.file()), maps.text(name)).expect("a new file");
    }
    let mut section = format!("frontend f{at}\n    bind unix@{}/{at}.sock\n", folder.display());
    section += &routing::rules(&Steps::of(&maps), maps_folder.to_str().expect("UTF-8"), "src");
    section += "    http-request return status 200 content-type text/plain lf-string ";
    section += "'%[var(txn.route),field(1,|)]|%[var(txn.route),field(2,|)]|%[var(txn.strip)]'\n";
    section
}

struct Connection(BufReader<UnixStream>);

impl Connection {
    fn ask_all(&mut self, requests: &[String]) -> Vec<String> {
        // Few at a time, so that neither side waits for the other to read.
        let few = requests.chunks(20);
        few.flat_map(|requests| {
            self.0.get_mut().write_all(requests.concat().as_bytes()).expect("HAProxy reads");
            requests.iter().map(|_| self.answer()).collect::<Vec<_>>()
        })
        .collect()
    }

    /// An answer's body if it is a 200, else its status.
    fn answer(&mut self) -> String {
        let (status, mut length) = (self.line(), 0);
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", text)) => length = text.parse().expect("a number"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("HAProxy answers");
        let status = status.split(' ').nth(1).unwrap_or_default();
        if status == "200" { String::from_utf8(body).expect("names are ASCII") } else { status.to_owned() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("HAProxy answers");
        line.trim_end().to_owned()
    }
}

/// `*` is a target of OPTIONS alone (RFC 9112 §3.2.4); newer versions of HAProxy refuse it otherwise.
fn request(host: &str, target: &str) -> String {
    let method = if target == "*" { "OPTIONS" } else { "GET" };
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// What HAProxy is to answer.
fn expected(table: &Table, host: &str, target: &str) -> String {
    let Some(route) = table.route(host, target) else { return "||".into() };
    let name = &table.services()[route.service as usize].name;
    format!("{0}|{1}|{1}", names::backend(Protocol::Http, name.as_str()), route.strip)
}

/// Asks all of this of every table.
fn compare(tables: &[Arc<Table>], requests: &[(&str, &str)]) -> Result<(), String> {
    let mut haproxy = HaProxy::start(tables);
    let texts: Vec<_> = requests.iter().map(|(host, target)| request(host, target)).collect();
    let mut wrong = String::new();
    for (at, table) in tables.iter().enumerate() {
        let answers = haproxy.connect(at).ask_all(&texts);
        for ((host, target), answer) in requests.iter().zip(answers) {
            let expected = expected(table, host, target);
            if answer != expected {
                writeln!(wrong, "table {at}: {host}{target}: {answer} is not {expected}").expect("a string takes all");
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:.2000}\n{}", haproxy.log())) }
}

fn lines(keys: &str) -> Arc<Table> {
    let lines = keys.lines().filter_map(|line| line.split_once('='));
    table(lines.map(|(key, value)| (key.trim(), value.trim())))
}

fn random_table(keys: &[(String, String)]) -> Arc<Table> {
    table(keys.iter().map(|(key, value)| (&**key, &**value)))
}

/// An expression that uses all that there is.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => select(&["a", "B", "/", "x", "0", "-", ".", r"\.", r"\?", "_", "ab", "/a", " ", "é", ",", "#", "\"", "'"][..]),
        2 => select(&["[a-c]", "[^a]", "[^/?]", r"\d", r"\w", r"\W", r"\s", "[[:punct:]]", r"[\x00-/]", r"[^\n]", "[a&&b]"][..]),
        2 => select(&["^", "$", r"\b", r"\B", r"\A", r"\z", "(?m:^)", "(?m:$)", "(?Rm:^)", "(?Rm:$)"][..]),
        1 => select(&[r"\b{start}", r"\b{end}", r"\b{start-half}", r"\b{end-half}", r"(?u:\b)", r"(?u:\B)"][..]),
        1 => select(&["(?-i:A)", "(?u:[é-ü])", r"(?u:[^b])", "(?s:.)", "(?R:.)", "", r"(?u:\w)", "(?-i)b"][..]),
    ];
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 4, |inner| {
        let repeat =
            select(&["*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}", "*?", "+?", "??", "{1,2}?", "{0}", "{0,40}"][..]);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 1..5).prop_map(|parts| parts.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join("|"))),
            1 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| parts.join("|")),
            2 => (inner, repeat).prop_map(|(part, repeat)| format!("(?:{part}){repeat}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 12, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn random_tables(all in prop::collection::vec(services(), 16)) {
        let tables: Vec<_> = all.iter().map(|keys| random_table(keys)).collect();
        let requests: Vec<_> = REQUEST_HOSTS.iter().flat_map(|host| TARGETS.iter().map(move |target| (*host, *target))).collect();
        prop_assert_eq!(compare(&tables, &requests), Ok(()), "{:#?}", all);
    }

    #[test]
    fn random_expressions(
        expressions in prop::collection::vec(expression(), 150),
        targets in prop::collection::vec("/[aAbBxX0/.?_ -]{0,3}[ab/]{0,4}|/[!-~]{0,6}", 10),
    ) {
        let keys = |(at, expression): (usize, &String)| {
            [(format!("s{at}/domain"), format!("h{at}.test")), (format!("s{at}/url_reg"), expression.clone())]
        };
        let table = random_table(&expressions.iter().enumerate().flat_map(keys).collect::<Vec<_>>());
        // Those that PCRE would take too long for are refused before.
        let taken = |service: &&Arc<Service>| routing::unsupported(service).is_empty();
        let taken: Vec<_> = table.services().iter().filter(taken).map(|service| service.name.as_str()).collect();
        let hosts: Vec<_> = taken.iter().map(|name| format!("{}.test", name.replace('s', "h"))).collect();
        let targets: Vec<_> = targets.iter().map(|target| target.replace([' ', '#'], "-")).chain(["*".into()]).collect();
        let requests: Vec<_> = hosts.iter().flat_map(|host| targets.iter().map(move |target| (&**host, &**target))).collect();
        prop_assert_eq!(compare(&[table], &requests), Ok(()), "{:#?}", expressions);
    }
}

#[test]
fn hostile_requests() {
    let keys = format!(
        "all/default = true
        shop/domain = shop.test, *.shop.test, [2001:db8::1]
        api/domain = shop.test
        api/path = /api
        php/domain = shop.test
        php/url_reg = \\.php$
        strip/domain = shop.test
        strip/virtual_path = /strip
        wide/domain = wide.test
        wide/url_reg = ^{}$",
        ".".repeat(360)
    );
    let (table, long) = (lines(&keys), format!("/{}", "a/".repeat(8000)));
    let deep = format!("{}shop.test", "a.".repeat(120));
    let deeper = format!("{}shop.test", "a.".repeat(123));
    let (php, stripped, api) = (format!("{long}x.php"), format!("/strip{long}"), format!("/api?{long}"));
    let wide = "/".repeat(360);
    assert_eq!(expected(&table, "wide.test", &wide), "services:wide|0|0");
    let hosts = [
        "shop.test",
        "SHOP.test.:443",
        "x.shop.test",
        "[2001:DB8::1]:80",
        "[2001:db8::2]",
        "other",
        "wide.test",
        &deep,
        &deeper,
    ];
    let targets = [
        "/", "/api", "/api/", "/api?x", "/api;x", "/api%2f", "/apix", "//api", "/x.php", "/x.php?y", "/x.PHP",
        "/a|b*c", "/strip", "/strip?x", "*", "/api|", "/shop|", &long, &php, &stripped, &api, &wide,
    ];
    let requests: Vec<_> = hosts.iter().flat_map(|host| targets.iter().map(move |target| (*host, *target))).collect();
    assert_eq!(compare(&[table], &requests), Ok(()));
}

/// Newer versions of HAProxy refuse such a host; to others it is one that nobody has, not the id of a scope.
#[test]
fn a_host_that_is_a_scope() {
    let table = lines("any/path = /x\n rest/default = true");
    let mut haproxy = HaProxy::start(&[table]);
    let answers = haproxy.connect(0).ask_all(&[request("@", "/y")]);
    assert!(["services:rest|0|0", "400"].contains(&&*answers[0]), "{answers:?}");
}

#[test]
fn priorities_of_all_sizes() {
    let table = |first: &str, second: &str| {
        lines(&format!("host/domain = a.test\n host/priority = {first}\n any/path = /\n any/priority = {second}"))
    };
    let all = ["-9223372036854775808", "-10", "-9", "-1", "0", "1", "9", "10", "9223372036854775807"];
    let tables: Vec<_> = all.iter().flat_map(|first| all.iter().map(|second| table(first, second))).collect();
    assert_eq!(compare(&tables, &[("a.test", "/"), ("b.test", "/")]), Ok(()));
}

#[test]
fn requests_of_other_forms() {
    let keys = "any/path = /x
        root/domain = a.test
        rest/default = true
        star/url_reg = ^\\*$";
    let mut haproxy = HaProxy::start(&[lines(keys)]);
    let rows = [
        ("GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n", "services:root|0|0"),
        ("GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", "services:root|0|0"),
        ("GET http://b.test/x?y HTTP/1.1\r\nHost: b.test\r\n\r\n", "services:any|0|0"),
        ("OPTIONS * HTTP/1.1\r\nHost: b.test\r\n\r\n", "services:star|0|0"),
        ("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "services:any|0|0"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "services:rest|0|0"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "services:rest|0|0"),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) =
        rows.iter().map(|(request, answer)| (request.to_string(), *answer)).unzip();
    assert_eq!(haproxy.connect(0).ask_all(&requests), expected);
}
