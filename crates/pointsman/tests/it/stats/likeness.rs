//! Answers beside those of a real HAProxy: the same bytes wherever both have the same to say.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{ask, rows, scene};
use crate::harness::{Process, engine, free_port, get, wait};

/// A HAProxy with the names that ours gives its proxies, and its socket.
fn haproxy(home: &Path, ports: [u16; 2]) -> (Process, PathBuf) {
    let (file, socket) = (home.join("haproxy.cfg"), home.join("real.sock"));
    let [web, tcp] = ports;
    let text = format!(
        "global
    stats socket {} level admin
defaults
    timeout client 5s
    timeout server 5s
    timeout connect 5s
    mode http
frontend http
    bind 127.0.0.1:{web}
frontend tcp:127.0.0.1:5432
    mode tcp
    bind 127.0.0.1:{tcp}
backend services:my:20shop
    server web-1 127.0.0.1:1
backend services:shop
    server web-1 127.0.0.1:1 weight 3
    server web-2 127.0.0.1:1 backup
backend tcp-services:db
    mode tcp
    server db-1 127.0.0.1:1
",
        socket.display()
    );
    std::fs::write(&file, text).expect("our own folder");
    let process = Process::start(Command::new("haproxy").args(["-db", "-f"]).arg(&file));
    // It is there before anybody listens.
    wait("HAProxy's socket", || UnixStream::connect(&socket).is_ok());
    (process, socket)
}

/// What the words of a line are, without the values.
fn names(info: &str) -> Vec<&str> {
    info.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect()
}

/// Fields by object and name, without their values.
fn fields(json: &str) -> Vec<String> {
    let all: Vec<Vec<Value>> = serde_json::from_str(json.trim()).unwrap_or_else(|error| panic!("{error}: {json}"));
    let field = |field: &Value| {
        let what = |name: &str| field[name].to_string();
        format!(
            "{} {} {} {} {}",
            what("objType"),
            what("field"),
            what("processNum"),
            what("tags"),
            field["value"]["type"]
        )
    };
    all.iter().flatten().map(field).collect()
}

#[test]
fn answers_are_those_of_haproxy() {
    let scene = scene("level admin");
    let (process, real) = haproxy(scene.site.home(), [free_port(), free_port()]);
    let both = |lines: &str| [scene.ask(lines), ask(&real, lines)];
    let version = ask(&real, "show info");
    if version.contains("Version: 2.6.") {
        let [ours, real] = both("show stat").map(|csv| csv.lines().next().expect("a header").to_owned());
        assert_eq!(ours, real, "the columns");
    }
    let [ours, theirs] = both("show stat").map(|csv| rows(&csv).into_keys().collect::<Vec<_>>());
    let theirs: Vec<_> = theirs.iter().map(|name| name.replace(":5432", &format!(":{}", scene.tcp))).collect();
    assert_eq!(ours, theirs);
    let [ours, theirs] = both("show servers state").map(|text| text.lines().take(2).collect::<String>());
    assert_eq!(ours, theirs);
    let [ours, theirs] = both("show info");
    let (ours, theirs) = (names(&ours), names(&theirs));
    assert!(ours.len() > 20 && ours.iter().all(|name| theirs.contains(name)), "{ours:?}");
    for what in ["show stat -1 7 -1 json", "show stat services:shop 7 -1 json", "show stat http 1 -1 json"] {
        let [ours, theirs] = both(what).map(|json| fields(&json));
        let odd: Vec<_> = ours.iter().filter(|field| !theirs.contains(field)).collect();
        assert!(odd.is_empty(), "{odd:#?}");
    }
    drop(process);
}

#[test]
fn refusals_and_the_prompt_are_those_of_haproxy() {
    let scene = scene("level admin");
    let (process, real) = haproxy(scene.site.home(), [free_port(), free_port()]);
    for lines in [
        "set server",
        "set server no/web-1 state drain",
        "set server services:shop/no state drain",
        "set server services:shop/web-1 state odd",
        "set server services:shop/web-1 weight",
        "set server services:shop/web-1 weight odd",
        "set server services:shop/web-1 weight 257",
        "set server services:shop/web-1 weight 5%%",
        "set server services:shop/web-1 state ready",
        "set weight services:shop 1",
        "disable server",
        "disable server services:shop",
        "disable server services:shop/no",
        "enable server no/no",
        "get weight services:shop/web-1",
        "get weight no/web-1",
        "get weight",
        "set timeout cli",
        "set timeout cli odd",
        "set timeout cli 0",
        "set timeout cli 7",
        "set timeout odd 7",
        "show servers state no",
        "show stat no 7 -1",
        "show stat domain odd",
        "show errors no",
        "prompt",
        "prompt\nget weight services:shop/web-1;get weight services:shop/web-1",
        "prompt;get weight services:shop/web-1",
        "prompt\nprompt\nget weight services:shop/web-1",
        "prompt\nset timeout cli 5\nget weight no/no\nquit\nget weight no/no",
        "get weight services:shop/web-1;disable server no/no;get weight services:shop/web-1",
        "get weight services:shop/web-1\nget weight services:shop/web-1",
        "get  weight   services:shop/web-1 ",
        "quit",
    ] {
        assert_eq!(scene.ask(lines), ask(&real, lines), "{lines}");
    }
    for lines in ["odd", "", "SHOW STAT", "show sess", "@1 show stat", "set server services:shop/web-1 odd"] {
        let answers = [scene.ask(lines), ask(&real, lines)];
        let lead =
            ["Unknown command", "usage: set server"].iter().any(|lead| answers.iter().all(|one| one.starts_with(lead)));
        assert!(lead || lines == "show sess" && answers[0].starts_with("Unknown command"), "{lines}: {answers:?}");
    }
    let date = |text: String| text.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(date(scene.ask("show errors")), date(ask(&real, "show errors")));
    drop(process);
}

#[test]
fn figures_are_those_of_the_other_pages() {
    let scene = scene("");
    scene.requests(&["/", "/", "/status/404", "/status/500", "/bytes/5000"]);
    let stat = |row: &str, column: &str| scene.stat(row, column);
    let web = "services:shop/web-1";
    for row in [web, "services:shop/BACKEND"] {
        let columns = ["scur", "stot", "hrsp_2xx", "hrsp_4xx", "hrsp_5xx", "econ", "mode", "type"];
        let kind = if row == web { "2" } else { "1" };
        assert_eq!(columns.map(|column| stat(row, column)), ["0", "5", "3", "1", "1", "0", "http", kind], "{row}");
        assert!(stat(row, "bout").parse::<u64>().expect("a number") > 5000);
    }
    let facts = ["weight", "uweight", "act", "bck", "sid", "addr"].map(|column| stat(web, column));
    assert_eq!(facts[..5], ["3", "3", "1", "0", "1"]);
    assert!(facts[5].starts_with("127.0.0.1:"), "{facts:?}");
    let drained = ["status", "act", "bck"].map(|column| stat("services:shop/web-2", column));
    assert_eq!(drained, ["DRAIN", "0", "1"]);
    let backend = ["status", "weight", "act", "bck", "algo"].map(|column| stat("services:shop/BACKEND", column));
    assert_eq!(backend, ["UP", "3", "1", "0", "roundrobin"]);
    get(scene.running.http, "nobody.test", "/").expect("an answer");
    wait("the request without a service", || stat("http/FRONTEND", "req_tot") == "6");
    let front =
        ["status", "hrsp_2xx", "hrsp_5xx", "mode", "type", "svname"].map(|column| stat("http/FRONTEND", column));
    assert_eq!(front, ["OPEN", "3", "2", "http", "0", "FRONTEND"]);
    // Nobody counts these: they are empty, and not 0.
    for column in ["smax", "qmax", "dreq", "downtime", "lbtot", "eresp", "qtime", "h2_data_rcvd"] {
        assert_eq!(stat(web, column), "", "{column}");
    }
    let tcp = format!("tcp:127.0.0.1:{}/FRONTEND", scene.tcp);
    assert_eq!(["status", "mode"].map(|column| stat(&tcp, column)), ["OPEN", "tcp"]);
    wait("the relay", || std::net::TcpStream::connect(("127.0.0.1", scene.tcp)).is_ok());
    wait("its connection to be counted", || stat("tcp-services:db/db-1", "stot") != "0" && stat(&tcp, "stot") != "0");
    let state = scene.ask("show servers state services:shop");
    let lines: Vec<Vec<&str>> = state.lines().skip(2).map(|line| line.split(' ').collect()).collect();
    assert_eq!((lines[0].len(), lines[0][3], lines[0][5], lines[0][6]), (25, "web-1", "2", "0"), "{state}");
    assert_eq!((lines[1][3], lines[1][6]), ("web-2", "8"), "drained: {state}");
}

#[test]
fn rates_come_with_the_second_look() {
    let scene = scene("");
    scene.requests(&["/"]);
    wait("a rate", || {
        (0..20).for_each(|_| drop(get(scene.running.http, "a.test", "/")));
        scene.stat("services:shop/web-1", "rate").parse::<u64>().is_ok_and(|rate| rate > 0)
    });
    let mean = scene.stat("services:shop/BACKEND", "ttime");
    assert_eq!(mean.is_empty(), engine().differs("no-histogram"), "{mean}");
}

#[test]
fn parts_are_selected_as_in_haproxy() {
    let scene = scene("");
    let names = |lines: &str| rows(&scene.ask(lines)).into_keys().collect::<Vec<_>>();
    assert_eq!(names("show stat services:shop 4 -1"), ["services:shop/web-1", "services:shop/web-2"]);
    assert_eq!(names("show stat shop 4 2"), ["services:shop/web-2"]);
    assert_eq!(names("show stat services:my:20shop 2 -1"), ["services:my:20shop/BACKEND"]);
    let number = scene.stat("services:shop/BACKEND", "iid");
    assert_eq!(names(&format!("show stat {number} 2 -1")), ["services:shop/BACKEND"]);
    assert_eq!(names("show stat 999 7 -1"), [""; 0]);
    let typed = scene.ask("show stat services:shop 4 1 typed");
    assert!(typed.starts_with(&format!("S.{number}.1.0.pxname.1:KNS:str:services:shop\n")), "{typed}");
}
