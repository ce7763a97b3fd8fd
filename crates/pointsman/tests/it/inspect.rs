//! What operators look with: `check`, `explain`, `routes`, `status`, `ls --values`.

use std::io::Read as _;
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{
    Backend, Engine, Finished, Launch, Pointsman, Site, echo_tcp, engine, free_address, free_port, get, get_ok, run,
    run_unread, wait,
};

/// Runs a command on a folder of keys.
fn on(site: &Site, arguments: &[&str]) -> Finished {
    let store = site.folder().display().to_string();
    run(&[arguments, &["--store", &store, "--prefix", "/"]].concat())
}

/// Asks a running balancer.
fn ask(running: &Pointsman, arguments: &[&str]) -> Finished {
    run(&[arguments, &["--admin", &running.admin.to_string()]].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_tree_that_nobody_reads_is_named_once() {
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", "127.0.0.1:9001"),
        ("servcies/x/domain", "x.test"),
        ("servcies/y/domain", "y.test"),
        ("skydns/test/a", "secret words"),
        ("skydns/test/b", "x"),
        ("notes", "x"),
        ("barrier", "7"),
        ("config/health_uri", "/alive"),
    ]);
    let running = Pointsman::serving(&site);
    let checked = on(&site, &["check"]);
    let lines: Vec<_> = checked.stdout.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>()).collect();
    let expected = ["/notes", "/servcies", "/skydns"].map(|key| vec![key, "unknown key"]);
    assert_eq!((checked.code, lines), (Some(1), expected.to_vec()), "{checked:?}");
    assert!(checked.stdout.contains("did you mean services?") && !checked.stdout.contains("secret words"));
    let named = |key: &str| running.admin_page("/api/problems").contains(&format!("\"{key}\""));
    wait("the same of the balancer", || ["/notes", "/servcies", "/skydns"].into_iter().all(named));
    site.remove("servcies/x");
    assert!(named("/servcies"));
    ["servcies", "skydns", "notes"].into_iter().for_each(|key| site.remove(key));
    wait("no problem to be left", || running.admin_page("/api/problems") == "[]");
    let refused = on(&site, &["set", "servcies/x/domain", "x.test"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("did you mean services?"), "{refused:?}");
}

#[test]
fn check_prints_json() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/port", "eighty")]);
    let checked = on(&site, &["check", "--json"]);
    let page = json(&checked.stdout);
    assert_eq!((checked.code, page["problems"].as_array().map(Vec::len)), (Some(1), Some(1)), "{page}");
    assert_eq!(page["problems"][0]["kind"], "bad_value");
    assert_eq!(page["problems"][0]["key"], "/services/a/port");
    assert_eq!(page["last_good"], json("[]"));
}

#[test]
fn check_asks_haproxy_too() {
    let site = Site::with(&[
        ("services/good/domain", "good.test"),
        ("services/good/one", "127.0.0.1:9001"),
        ("services/bad/domain", "bad.test"),
        ("services/bad/custom_settings", "optoin httplog"),
        ("services/worse/domain", "worse.test"),
        ("services/worse/custom_settings", "timeout server soon"),
    ]);
    let http = free_address().to_string();
    let check = |more: &[&str]| on(&site, &[&["check", "--engine", "haproxy", "--http", &http], more].concat());
    let checked = check(&[]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for (line, service) in checked.stdout.lines().zip(["bad", "worse"]) {
        assert!(line.starts_with(&format!("/services/{service}/custom_settings = ")), "{checked:?}");
        assert!(line.contains("rejected: HAProxy refuses it: "), "{checked:?}");
    }
    assert_eq!(checked.stdout.lines().count(), 2, "{checked:?}");
    let without = check(&["--haproxy", "/nowhere/haproxy"]);
    assert_eq!(without.code, Some(2), "{without:?}");
    assert!(without.stderr.contains("not by HAProxy: --haproxy: ") && without.stderr.contains("/nowhere/haproxy"));
    site.remove("services/bad");
    site.remove("services/worse");
    let checked = check(&[]);
    assert_eq!((checked.code, &*checked.stdout), (Some(0), ""), "{checked:?}");
}

/// Without `--engine`, keys are judged for the engine that the balancers have.
#[test]
fn check_knows_the_engine_of_the_balancers() {
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", "10.0.0.1:80"),
        ("services/a/custom_settings", "http-request set-header X-A b"),
    ]);
    let running = Pointsman::serving(&site);
    wait("its status", || on(&site, &["status"]).code == Some(0));
    let checked = on(&site, &["check"]);
    let expected = match engine() {
        Engine::Native => (Some(1), false),
        Engine::HaProxy => (Some(0), true),
    };
    assert_eq!((checked.code, checked.stderr.contains("judged for the HAProxy engine")), expected, "{checked:?}");
    let native = on(&site, &["check", "--engine", "native"]);
    assert!(native.code == Some(1) && native.stdout.contains("unsupported"), "{native:?}");
    drop(running);
}

#[test]
fn a_reader_that_leaves_changes_no_exit_code() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/port", "eighty")]);
    let (store, nobody) = (site.folder().display().to_string(), free_address().to_string());
    let running = Pointsman::serving(&site);
    let admin = running.admin.to_string();
    let place = ["--store", &store, "--prefix", "/"];
    let compiling = [&place[..], &["--admin", &nobody]].concat();
    for (command, flags, expected) in [
        (&["check"][..], &compiling[..], 1),
        (&["check", "--json"], &compiling, 1),
        (&["routes"], &compiling, 0),
        (&["explain", "http://a.test/"], &compiling, 1),
        (&["render"], &compiling, 0),
        (&["ls", "-r", "--values"], &place, 0),
        (&["get", "services/a/domain"], &place, 0),
        (&["get", "services/a/nothing"], &place, 1),
        (&["set", "services/a/port", "eighty"], &place, 1),
        (&["status"], &["--store", "/nonexistent/keys"], 1),
        (&["health"], &["--admin", &admin], 0),
        (&["health"], &["--admin", &nobody], 2),
        (&["version"], &[], 0),
        (&["--help"], &[], 0),
    ] {
        let code = run_unread(&[command, flags].concat());
        assert_eq!(code, Some(expected), "{command:?}");
    }
}

#[test]
fn ls_hides_secrets() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMAMAAAA=\n-----END PRIVATE KEY-----";
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/basic_auth_secrets", "user ann insecure-password hunter2"),
        ("services/a/custom_settings", "stats auth ann:hunter2"),
        ("certs/shop", pem),
    ]);
    let listed = on(&site, &["ls", "-r", "--values"]).ok();
    assert!(listed.contains("services/a/domain = a.test"), "{listed}");
    assert_eq!(listed.matches(" = (secret; --secrets shows it)").count(), 3, "{listed}");
    assert!(!listed.contains("hunter2") && !listed.contains("PRIVATE"), "{listed}");
    let one = on(&site, &["ls", "--values", "/services/a/basic_auth_secrets"]).ok();
    assert!(!one.contains("hunter2"), "{one}");
    let all = on(&site, &["ls", "-r", "--secrets"]).ok();
    assert!(all.matches("hunter2").count() == 2 && all.contains("PRIVATE"), "{all}");
}

#[test]
fn explain_names_services_that_are_not_served() {
    let backend = Backend::naming("up");
    let up = backend.instance();
    let site = Site::with(&[
        ("services/bad/domain", "bad.test"),
        ("services/bad/port", "eighty"),
        ("services/bad/one", &*up),
        ("services/other/domain", "other.test"),
        ("services/other/port", "ninety"),
        ("services/fine/domain", "fine.test"),
        ("services/fine/one", &*up),
        ("tcp-services/db/port", "5432"),
        ("tcp-services/db/balance", "fastest"),
    ]);
    let running = Pointsman::serving(&site);
    let explained = ask(&running, &["explain", "http://bad.test/"]);
    assert_eq!(explained.code, Some(1), "{explained:?}");
    let line = "  withheld services/bad: /services/bad/port = \"eighty\": bad value: ";
    assert!(explained.stdout.contains(line) && !explained.stdout.contains("other"), "{explained:?}");
    let fine = ask(&running, &["explain", "http://fine.test/"]).ok();
    assert!(!fine.contains("withheld"), "{fine}");
    let db = ask(&running, &["explain", "tcp://127.0.0.1:5432"]);
    assert_eq!(db.code, Some(1), "{db:?}");
    assert!(db.stdout.contains("  withheld tcp-services/db: /tcp-services/db/balance"), "{db:?}");
    site.put("services/bad/port", "80");
    wait("it to be served", || ask(&running, &["explain", "http://bad.test/"]).code == Some(0));
}

/// Whoever asks about plain HTTP is told what the balancer answers there.
#[test]
fn explain_tells_of_the_redirect_to_https() {
    let backend = Backend::naming("up");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/scheme", "https"),
        ("services/a/one", &*backend.instance()),
    ]);
    let running = Pointsman::serving(&site);
    let redirected = get(running.http, "a.test", "/x?y").expect("an answer");
    assert_eq!((redirected.status, redirected.header("location")), (301, Some("https://a.test/x?y")));
    for (url, expected) in [
        ("http://a.test/x?y", "301: plain HTTP is redirected to https://a.test/x?y, as services/a/scheme says"),
        ("a.test:8080/x", "301: plain HTTP is redirected to https://a.test/x, as services/a/scheme says"),
        ("https://a.test/x", "  services/a: host a.test"),
    ] {
        for explained in [ask(&running, &["explain", url]), on(&site, &["explain", url, "--admin", "off"])] {
            assert!(explained.code == Some(0) && explained.stdout.contains(expected), "{url}: {explained:?}");
        }
    }
}

#[test]
fn explain_names_what_came_close() {
    let port = free_port();
    // Out of the range of the tests' listeners.
    let other = port / 10;
    let db = port.to_string();
    let backend = Backend::naming("up");
    let up = backend.instance();
    let site = Site::with(&[
        ("services/shop/domain", "shop.test"),
        ("services/shop/path", "/cart"),
        ("services/shop/one", &*up),
        ("services/blog/domain", "bolg.test,*.bolg.test"),
        ("services/blog/one", &*up),
        ("tcp-services/db/port", &*db),
        ("tcp-services/db/one", &*up),
    ]);
    let running = Pointsman::serving(&site);
    let nobody = free_address().to_string();
    for (url, expected) in [
        ("http://shop.test/crat".to_owned(), vec!["services/shop has this host, but only path /cart".to_owned()]),
        (
            "blog.test".to_owned(),
            vec![
                "nearest host: bolg.test (services/blog)".to_owned(),
                "nearest host: *.bolg.test (services/blog)".to_owned(),
            ],
        ),
        (
            "/cart".to_owned(),
            vec![
                "services/blog takes any path, but only host bolg.test".to_owned(),
                "services/shop has this path, but only host shop.test".to_owned(),
            ],
        ),
        (
            format!("shop.test:{port}/"),
            vec![
                "services/shop has this host, but only path /cart".to_owned(),
                format!("tcp-services/db listens on 0.0.0.0:{port}; explain tcp://shop.test:{port}"),
            ],
        ),
        (format!("tcp://127.0.0.1:{other}"), vec![format!("nearest port: 0.0.0.0:{port} (tcp-services/db)")]),
        ("http://entirely.different/".to_owned(), vec![]),
    ] {
        for shown in [ask(&running, &["explain", &url]), on(&site, &["explain", &url, "--admin", &nobody])] {
            let near: Vec<_> = shown.stdout.lines().skip(2).map(str::trim).collect();
            assert_eq!(
                (shown.code, near),
                (Some(1), expected.iter().map(String::as_str).collect()),
                "{url}: {shown:?}"
            );
        }
    }
    let taken = json(&ask(&running, &["explain", "--json", "shop.test/cart"]).ok());
    assert!(taken["near"].is_null() && taken["chosen"]["service"] == "shop", "{taken}");
}

#[test]
fn a_balancer_of_other_keys_is_not_taken_for_the_named_store() {
    let keys = |name: &'static str| {
        Site::with(&[
            (&*format!("services/{name}/domain"), "shop.test"),
            (&*format!("services/{name}/one"), "127.0.0.1:9001"),
        ])
    };
    let (served, named) = (keys("served"), keys("named"));
    let running = Pointsman::serving(&served);
    let (here, there) = (served.folder().display().to_string(), named.folder().display().to_string());
    let config = named.home().join("settings.toml");
    std::fs::write(&config, format!("store = \"{there}\"\n")).expect("our own folder");
    let config = config.display().to_string();
    let id = ["--store", &*here, "--id", "other"];
    for (flags, expected) in [
        (&[][..], "services/served"),
        (&["--store", &*here][..], "services/served"),
        (&["--store", &*there], "services/named"),
        (&["--config", &*config], "services/named"),
        (&id, ""),
    ] {
        for command in [&["routes"][..], &["explain", "shop.test"]] {
            let shown = ask(&running, &[command, flags].concat());
            let is_other = expected != "services/served";
            assert!(shown.stdout.contains(expected) && !(is_other && shown.stdout.contains("served")), "{shown:?}");
            let warning = format!("warning: the balancer on {} serves / in {here}; this comes from ", running.admin);
            assert_eq!(shown.stderr.contains(&warning), is_other, "{flags:?}: {shown:?}");
            assert!(shown.stderr.lines().count() == usize::from(is_other), "{shown:?}");
        }
    }
    let missing = "/nonexistent/keys";
    for command in [&["ls"][..], &["check"], &["routes"], &["explain", "shop.test"]] {
        let refused = run(&[command, &["--store", missing]].concat());
        assert!(
            refused.code == Some(2) && refused.stderr.contains("there is no folder /nonexistent/keys"),
            "{refused:?}"
        );
    }
    let nobody = run(&["drain", "shop/web", "--store", &here, "--id", "other"]);
    let expected = format!("shop/web: there is no such instance below /haproxy-other in {here}");
    assert!(nobody.code == Some(1) && nobody.stderr.contains(&expected), "{nobody:?}");
}

#[test]
fn explain_fails_if_the_answer_is_a_refusal() {
    let backend = Backend::naming("up");
    let up = backend.instance();
    let site = Site::with(&[
        ("config/health_uri", "/alive"),
        ("services/empty/domain", "empty.test"),
        ("services/drained/domain", "drained.test"),
        ("services/drained/one", &*format!("{up} drain")),
        ("services/bad/domain", "bad.test"),
        ("services/bad/one", "127.0.0.1:99999"),
        ("services/spare/domain", "spare.test"),
        ("services/spare/one", &*format!("{up} backup")),
        ("services/fine/domain", "fine.test"),
        ("services/fine/one", &*up),
    ]);
    let running = Pointsman::serving(&site);
    let nobody = free_address().to_string();
    for (url, code, text) in [
        ("empty.test", 1, "503: the service has no instances"),
        ("drained.test", 1, "503: no instance takes new work"),
        ("bad.test", 1, "503: the service has no instances"),
        ("spare.test", 0, "only backups are left"),
        ("fine.test", 0, "one of"),
        ("nobody.test/alive?x", 0, "200: the balancer itself answers this path"),
        ("nobody.test/alive/x", 1, "503: no service matches"),
    ] {
        for shown in [ask(&running, &["explain", url]), on(&site, &["explain", url, "--admin", &nobody])] {
            assert!(shown.code == Some(code) && shown.stdout.contains(text), "{url}: {shown:?}");
        }
    }
}

#[test]
fn explain_names_what_haproxy_holds_back() {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/one", &*backend.instance()),
        ("services/a/custom_settings", "optoin httplog"),
    ]);
    let running = Launch::engine(Engine::HaProxy).store(&site).start();
    running.wait_ready();
    let line = "  problem: /services/a/custom_settings = \"optoin httplog\": rejected: HAProxy refuses it: ";
    wait("the refusal", || ask(&running, &["explain", "http://a.test/"]).stdout.contains(line));
}

#[test]
fn explain_takes_the_address_of_a_tcp_service() {
    let port = free_port().to_string();
    let site = Site::with(&[
        ("tcp-services/db/port", &*port),
        ("tcp-services/db/one", &echo_tcp("hi").to_string()),
        ("tcp-services/late/port", &*port),
        ("tcp-services/late/one", "127.0.0.1:9001"),
    ]);
    let running = Pointsman::serving(&site);
    for host in ["127.0.0.1", "db.test", "[::ffff:127.0.0.1]"] {
        let explained = ask(&running, &["explain", &format!("tcp://{host}:{port}")]).ok();
        assert!(explained.contains(&format!("  tcp-services/db: listens on 0.0.0.0:{port}")), "{explained}");
        assert!(
            explained.contains("    one 127.0.0.1:") && explained.contains("  not tcp-services/late: "),
            "{explained}"
        );
    }
    assert_eq!(ask(&running, &["explain", "tcp://127.0.0.1:1"]).code, Some(1));
    let mistyped = ask(&running, &["explain", "tcp://127.0.0.1"]);
    assert!(mistyped.stderr.starts_with("pointsman: \"tcp://127.0.0.1\" is not an address; write tcp://HOST:PORT"));
    assert_eq!(mistyped.code, Some(2), "{mistyped:?}");
}

#[test]
fn the_problems_of_a_service_are_shown_with_it() {
    let backend = Backend::naming("up");
    let up = backend.instance();
    let site = Site::with(&[
        ("services/shop/domain", "shop.test"),
        ("services/shop/web-1", &*up),
        ("services/shop/web-3", "127.0.0.1:99999"),
        ("services/fine/domain", "fine.test"),
        ("services/fine/one", &*up),
    ]);
    let running = Pointsman::serving(&site);
    let nobody = free_address().to_string();
    let instance = "problem: /services/shop/web-3 = \"127.0.0.1:99999\": bad instance: ";
    for asked in [&["explain", "shop.test"][..], &["routes"]] {
        for shown in [ask(&running, asked), on(&site, &[asked, &["--admin", &nobody]].concat())] {
            assert_eq!(shown.stdout.matches(instance).count(), 1, "{asked:?}: {shown:?}");
        }
    }
    site.put("services/shop/port", "80x");
    let port = "problem: /services/shop/port = \"80x\": bad value: ";
    wait("the port to be a problem", || ask(&running, &["routes"]).stdout.contains(port));
    let explained = ask(&running, &["explain", "shop.test"]).ok();
    assert!(explained.contains("  with its last good settings, ") && explained.contains(port), "{explained}");
    let fine = ask(&running, &["explain", "fine.test"]).ok();
    assert!(!fine.contains("problem: "), "{fine}");
    let table = json(&ask(&running, &["routes", "--json"]).ok());
    let count = |at: usize| table["services"][at]["problems"].as_array().map(Vec::len);
    assert_eq!((count(0), count(1)), (None, Some(2)), "{table}");
}

/// A balancer with one instance of each kind; the dead one was found to be dead.
fn set_apart() -> (Backend, Site, Pointsman) {
    let backend = Backend::naming("one");
    let of = |word: &str| format!("{} {word}", backend.instance());
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/alive", &*of("weight=2")),
        ("services/a/drained", &*of("drain")),
        ("services/a/light", &*of("weight=0")),
        ("services/a/spare", &*of("backup")),
        ("services/a/dead", &free_address().to_string()),
    ]);
    let running = Launch::on(&site).args(&["--name", "lb"]).start();
    running.wait_ready();
    wait("the dead one to be out", || {
        get_ok(running.http, "a.test", "/");
        running.metric("pointsman_instance_up", &["\"dead\""]) == 0.0
    });
    (backend, site, running)
}

#[test]
fn instances_that_are_set_apart_are_shown_with_the_reason() {
    let (_backend, site, running) = set_apart();
    get(running.http, "a.test", "/status/500").expect("an answer");
    let explained = ask(&running, &["explain", "http://a.test/"]).ok();
    let (working, apart) = explained.split_once("  set apart\n").unwrap_or_else(|| panic!("{explained}"));
    assert!(working.contains("    alive 127.0.0.1:") && !working.contains("dead"), "{explained}");
    for words in ["drained ", "its value has the word drain", "light ", "its weight is 0", "spare ", "dead "] {
        assert!(apart.contains(words), "no {words} in {explained}");
    }
    wait("the failure to be counted", || {
        let routes = ask(&running, &["routes"]).ok();
        let dead = routes.lines().find(|line| line.contains(" dead ")).unwrap_or_else(|| panic!("{routes}"));
        let is_named = match engine() {
            Engine::Native => dead.contains(" down ") && dead.contains("it refused the connection"),
            Engine::HaProxy => dead.contains(" down ") && dead.contains("Connection refused"),
        };
        is_named && dead.contains("s ago")
    });
    let table = json(&ask(&running, &["routes", "--json"]).ok());
    let instances = table["services"][0]["instances"].as_array().expect("a list").clone();
    let of = |name: &str| instances.iter().find(|one| one["name"] == name).cloned().expect("it is listed");
    let dead = of("dead");
    assert_eq!(dead["state"], "down", "{dead}");
    assert!(dead["since"].as_u64() > Some(1_500_000_000), "{dead}");
    let alive = of("alive");
    assert!(alive["requests"].as_u64() >= Some(1) && alive["errors"] == 1, "{alive}");
    assert_eq!(
        (alive["since"].is_null(), &alive["weight"]),
        (engine().differs("explained-keys"), &2.into()),
        "{alive}"
    );
    // Nothing answers on --admin: the keys alone.
    let cold = on(&site, &["explain", "http://a.test/", "--admin", &free_address().to_string()]).ok();
    assert!(cold.contains("    dead 127.0.0.1:") && cold.contains("its weight is 0"), "{cold}");
}

#[test]
fn status_counts_instances_that_are_down() {
    let (_backend, site, _running) = set_apart();
    let members = || json(&on(&site, &["status", "--json"]).stdout);
    wait("one that is down", || members()[0]["down"] == 1);
    let status = on(&site, &["status"]).ok();
    assert!(status.lines().next().is_some_and(|head| head.contains(" down ")), "{status}");
    site.remove("services/a/dead");
    wait("none to be down", || members()[0]["down"] == 0);
}

#[test]
fn a_failover_is_a_retry() {
    let (backend, port) = (Backend::naming("alive"), free_port());
    let dead = free_address().to_string();
    let site = Site::with(&[
        ("services/a/domain", "a.test"),
        ("services/a/alive", &*backend.instance()),
        ("services/a/dead", &*dead),
        ("services/alone/domain", "alone.test"),
        ("services/alone/lost", &*dead),
        ("tcp-services/t/port", &port.to_string()),
        ("tcp-services/t/live", &echo_tcp("hi").to_string()),
        ("tcp-services/t/gone", &*dead),
    ]);
    let running = Pointsman::serving(&site);
    for _ in 0..8 {
        get_ok(running.http, "a.test", "/");
        get(running.http, "alone.test", "/").expect("an answer");
        let mut greeting = [0; 2];
        TcpStream::connect(("127.0.0.1", port))
            .and_then(|mut stream| stream.read_exact(&mut greeting))
            .expect("greeted");
    }
    let of = |name: &str, instance: &str| running.metric(&format!("pointsman_{name}"), &[instance]);
    for instance in ["\"dead\"", "\"gone\""] {
        wait("the failovers to be counted", || {
            let failures = of("connect_failures_total", instance);
            // HAProxy's own checks may have ejected it first.
            (failures >= 1.0 || engine().differs("checks")) && of("retries_total", instance) >= failures
        });
    }
    assert!(of("retries_total", "\"alive\"") == 0.0 && of("retries_total", "\"live\"") == 0.0);
    if engine() == Engine::Native {
        assert_eq!(of("retries_total", "\"dead\""), of("connect_failures_total", "\"dead\""));
        assert!(of("connect_failures_total", "\"lost\"") >= 1.0);
        assert_eq!(of("retries_total", "\"lost\""), 0.0, "there is no other instance to go to");
    }
}
