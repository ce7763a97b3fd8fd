//! The commands other than `run`: their output, changes and exit codes, on every store.

use crate::harness::{Backend, Etcd, Finished, Launch, Pointsman, Raw, Site, Then, free_address, get, run, wait};

/// The location of the keys, as arguments.
struct Place {
    arguments: Vec<String>,
    _site: Site,
    _etcd: Option<Etcd>,
}

impl Place {
    fn directory() -> Self {
        let site = Site::new();
        let arguments = ["--store", &site.folder().to_string_lossy()].map(str::to_owned).into();
        Self { arguments, _site: site, _etcd: None }
    }

    fn etcd(api: &str) -> Self {
        let etcd = Etcd::start();
        let arguments = ["--store", &etcd.url(), "--etcd-api", api, "--id", "c"].map(str::to_owned).into();
        Self { arguments, _site: Site::new(), _etcd: Some(etcd) }
    }

    /// Runs a command there; returns its exit code and output.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let finished = self.finish(arguments);
        (finished.code, finished.stdout)
    }

    fn finish(&self, arguments: &[&str]) -> Finished {
        let place: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        run(&[arguments, &place].concat())
    }
}

#[test]
fn keys_are_edited_in_a_directory() {
    edits(&Place::directory(), true);
}

#[test]
fn keys_are_edited_in_etcd_v2() {
    edits(&Place::etcd("2"), true);
}

#[test]
fn keys_are_edited_in_etcd_v3() {
    edits(&Place::etcd("3"), false);
}

fn edits(place: &Place, directories: bool) {
    let ok = |text: &str| (Some(0), text.to_owned());
    assert_eq!(place.run(&["get", "services/a/domain"]).0, Some(1));
    assert_eq!(place.run(&["set", "services/a/domain", "a.test"]).0, Some(0));
    assert_eq!(place.run(&["set", "services/a/one", "127.0.0.1:1 weight=2"]).0, Some(0));
    assert_eq!(place.run(&["set", "services/b/domain", "b.test"]).0, Some(0));
    assert_eq!(place.run(&["get", "services/a/domain"]), ok("a.test\n"));
    assert_eq!(place.run(&["get", "services/a/one"]), ok("127.0.0.1:1 weight=2\n"));
    assert_eq!(place.run(&["set", "services/a/domain", "other.test"]).0, Some(0));
    assert_eq!(place.run(&["get", "services/a/domain"]), ok("other.test\n"));
    let listed = place.run(&["ls", "--recursive"]).1;
    let of_a = place.run(&["ls", "--recursive", "services/a"]).1;
    for key in ["services/a/domain", "services/a/one", "services/b/domain"] {
        assert!(listed.contains(key), "{key} in {listed}");
        assert_eq!(of_a.contains(key), key.starts_with("services/a/"), "{key} in {of_a}");
    }
    assert_eq!(place.run(&["rm", "services/a/one"]).0, Some(0));
    assert_eq!(place.run(&["get", "services/a/one"]).0, Some(1));
    assert_ne!(place.run(&["rm", "services/a/one"]).0, Some(0));
    assert_eq!(place.run(&["rm", "--recursive", "services/b"]).0, Some(0));
    assert!(!place.run(&["ls", "--recursive"]).1.contains("services/b/domain"));
    if directories {
        assert_eq!(place.run(&["mkdir", "services/empty"]).0, Some(0));
    }
}

#[test]
fn a_key_that_is_set_is_served() {
    let (backend, site) = (Backend::naming("one"), Site::new());
    let running = Pointsman::serving(&site);
    let store = site.folder().to_string_lossy().into_owned();
    for (key, value) in [("services/a/domain", "a.test"), ("services/a/one", &backend.instance())] {
        run(&["set", key, value, "--store", &store]).ok();
    }
    running.wait_backend("a.test", "/", "one");
    run(&["rm", "-r", "services/a", "--store", &store]).ok();
    running.wait_gone("a.test", "/");
}

/// Two services, each with an instance that answers: `explain` says no if none is up.
fn two_services() -> (Site, [Backend; 2]) {
    let backends = [Backend::naming("one"), Backend::naming("two")];
    let site = Site::with(&[
        ("services/shop/domain", "shop.test"),
        ("services/shop/path", "/cart"),
        ("services/shop/one", &*backends[0].instance()),
        ("services/all/domain", "shop.test"),
        ("services/all/one", &backends[1].instance()),
    ]);
    (site, backends)
}

#[test]
fn routes_and_explain_ask_the_running_balancer() {
    let (site, [one, two]) = two_services();
    let running = Pointsman::serving(&site);
    let ask = |arguments: &[&str]| run(&[arguments, &["--admin", &running.admin.to_string()]].concat());
    let routes = ask(&["routes"]).ok();
    for text in ["shop", "shop.test", "/cart", &one.instance(), &two.instance()] {
        assert!(routes.contains(text), "{text} in {routes}");
    }
    explains(&ask, &two);
    let routes: serde_json::Value = serde_json::from_str(&ask(&["routes", "--json"]).ok()).expect("JSON");
    assert_eq!(routes["services"].as_array().expect("a list").len(), 2);
}

#[test]
fn routes_and_explain_read_the_store_where_nothing_runs() {
    let (site, [one, two]) = two_services();
    let (store, nobody) = (site.folder().to_string_lossy().into_owned(), free_address().to_string());
    let ask = |arguments: &[&str]| run(&[arguments, &["--store", &store, "--admin", &nobody]].concat());
    assert!(ask(&["routes"]).ok().contains(&one.instance()));
    explains(&ask, &two);
}

fn explains(ask: &dyn Fn(&[&str]) -> Finished, all_one: &Backend) {
    let cart = ask(&["explain", "http://shop.test/cart/1"]).ok();
    let (shop, all) = (cart.find("shop: "), cart.find("all: "));
    assert!(shop.is_some() && shop < all, "shop takes it and all is passed over: {cart}");
    assert!(ask(&["explain", "shop.test/"]).ok().contains(&all_one.instance()));
    assert_eq!(ask(&["explain", "http://nobody.test/"]).code, Some(1));
}

#[test]
fn health_says_whether_traffic_should_come() {
    let health = |arguments: &[&str]| run(&[&["health"], arguments].concat());
    let finished = health(&["--admin", &free_address().to_string()]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("nothing answers on 127.0.0.1:"), "{}", finished.stderr);
    assert_eq!(health(&["--admin", "off"]).code, Some(2));

    let waiting = Launch::new().args(&["--store", &format!("http://{}", free_address()), "--id", "h"]).start();
    let reason = "the store was not read yet\nthe store: cannot reach etcd at ";
    wait("the reason", || waiting.admin_page("/readyz").starts_with(reason));
    let finished = health(&["--admin", &waiting.admin.to_string()]);
    assert!(finished.code == Some(1) && finished.stdout.starts_with(reason), "{finished:?}");

    let site = Site::new();
    let running = Pointsman::serving(&site);
    // Settings that are invalid but not needed: `run` may have got other values as flags.
    let config = site.home().join("pointsman.toml");
    std::fs::write(&config, format!("admin = \"{}\"\nstore = \"http://127.0.0.1\"\n", running.admin)).expect("ours");
    let finished = health(&["--config", &config.to_string_lossy()]);
    assert_eq!((finished.code, &*finished.stdout), (Some(0), "ready\n"));

    let stranger = Raw::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Then::Close);
    let finished = health(&["--admin", &stranger.instance()]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("is not a balancer: 404"), "{}", finished.stderr);
}

#[test]
fn wrong_usage_names_the_flag_and_what_would_be_right() {
    for (arguments, texts) in [
        (&["run", "--http", "80x"][..], &["--http", "80x"][..]),
        (&["run", "--etcd-api", "4"], &["--etcd-api", "4", "possible values: auto, 2, 3"]),
        (&["run", "--store", "http://127.0.0.1:2379"], &["--id", "--prefix"]),
        (&["run", "--htpt", ":1"], &["--htpt", "--http"]),
        (&["run", "--etcd-cert", "/nowhere.pem"], &["--etcd-key"]),
        (&["run", "--config", "/nowhere.toml"], &["/nowhere.toml"]),
        (&["nonsense"], &["nonsense"]),
    ] {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.stderr);
        for text in texts {
            assert!(finished.stderr.contains(text), "no {text} for {arguments:?} in {}", finished.stderr);
        }
    }
}

#[test]
fn wrong_words_are_answered_with_the_right_ones() {
    for place in [Place::directory(), Place::etcd("2"), Place::etcd("3")] {
        place.run(&["set", "services/shop/domain", "shop.test", "services/shop/one", "10.0.0.1"]);
        for (arguments, code, expected) in [
            (&["drain", "shop/one", "--wait", "60s"][..], 2, "tip: write the time as --wait=60s"),
            (&["set", "a/b", "c", "--wait", "60s"], 2, "write KEY VALUE in turns, and --wait=TIME"),
            (&["check", "shop.toml"], 2, "'pointsman apply shop.toml --dry-run' judges a file"),
            (&["rm", "services/shop"], 2, "services/shop is a folder; rm -r removes it with 2 keys\n"),
            (&["rm", "services/shop", "-r", "--dry-run"], 0, "dry run, nothing was removed: 2 keys\n"),
            (&["rm", "services/blog"], 1, "services/blog: there is no such key\n"),
            (&["set", "", "x"], 2, "key 1 is empty; name one, such as services/shop/domain"),
            (&["get", ""], 2, "the key is empty; name one"),
            (&["set", "services/shop/port", "8080", "--dry-run"], 0, "dry run, nothing was written: keys: 1 added"),
            (&["explain", "http://shop.test:99999/"], 2, "\"99999\" is not a port between 1 and 65535"),
            (&["explain", "tcp://shop.test:99999"], 2, "\"99999\" is not a port between 1 and 65535"),
        ] {
            let finished = place.finish(arguments);
            assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
            assert!(finished.stderr.contains(expected), "{arguments:?}: no {expected} in {}", finished.stderr);
        }
        assert_eq!(place.run(&["get", "services/shop/one"]).1, "10.0.0.1\n", "nothing was removed");
        assert_eq!(place.run(&["get", "services/shop/port"]).0, Some(1), "nothing was written");
    }
    for command in [&["wait"][..], &["get", "services/shop/domain"], &["status"]] {
        let finished = run(&[command, &["--store", "/nowhere/keys"]].concat());
        assert!(finished.stderr.contains("there is no") && finished.stderr.contains("/nowhere/keys"), "{finished:?}");
    }
    let site = Site::with(&[("keys.toml", "")]);
    let finished = run(&["check", "--store", &site.folder().join("keys.toml").to_string_lossy()]);
    assert!(
        finished.code == Some(2) && finished.stderr.contains("keys.toml is a file, and keys are files in a folder")
    );
}

/// A folder that no balancer follows has no revision to name.
#[test]
fn a_folder_has_no_revision() {
    let site = Site::with(&[("services/shop/domain", "shop.test"), ("services/shop/one", "10.0.0.1")]);
    let store = site.folder().to_string_lossy().into_owned();
    let on = |words: &[&str]| run(&[words, &["--store", &store, "--admin", "off"]].concat());
    for (words, expected) in [
        (&["check"][..], "no problems: 1 service, 1 instance\n"),
        (&["routes"], "SERVICE"),
        (&["render"], "# Written by pointsman from the keys. "),
    ] {
        let finished = on(words);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains(expected) && !said.contains("revision"), "{words:?}: {said}");
    }
}

#[test]
fn drain_tells_what_it_did_not_change_and_what_nobody_serves_any_more() {
    for place in [Place::directory(), Place::etcd("2"), Place::etcd("3")] {
        let shop =
            ["services/shop/domain", "shop.test", "services/shop/one", "10.0.0.1", "services/shop/two", "10.0.0.2"];
        place.run(&[&["set"], &shop[..]].concat());
        place.run(&["set", "tcp-services/db/port", "5432", "tcp-services/db/db-1", "10.0.0.3 weight=0"]);
        for (words, expected) in [
            ("undrain shop/one", "services/shop/one is not drained; nothing to undo\n"),
            ("undrain db/db-1", "tcp-services/db/db-1 is not drained, but has weight=0; `set` gives it another\n"),
            ("drain shop/one", ""),
            ("drain shop/one", "services/shop/one is drained already\n"),
            ("drain shop/two", "warning: no instance of services/shop is left that takes new work: it answers 503\n"),
            ("undrain shop/two", ""),
            (
                "drain db/db-1",
                "warning: no instance of tcp-services/db is left that takes new work: connections to it are closed\n",
            ),
        ] {
            let finished = place.finish(&words.split(' ').collect::<Vec<_>>());
            assert_eq!((finished.code, &*finished.stderr), (Some(0), expected), "{words}");
        }
    }
}

#[test]
fn settings_come_from_flag_environment_and_file_in_that_order() {
    let (site, file) = (Site::new(), free_address());
    let config = site.home().join("pointsman.toml");
    std::fs::write(&config, format!("admin = \"{file}\"\n")).expect("inside our own folder");
    let launch = || Launch::on(&site).arg("--config").arg(&config);
    let flagged = launch().env("POINTSMAN_ADMIN", "nonsense").start();
    assert_ne!(flagged.admin, file, "the flag beats the environment and the file");
    let mut bare = Launch::bare().arg("--config").arg(&config).arg("--store").arg(site.folder());
    bare = bare.args(&["--http", "127.0.0.1:0"]);
    let _running = bare.start_process();
    wait("the admin address of the file", || {
        get(file, "localhost", "/readyz").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn help_teaches() {
    let help = run(&["--help"]).ok();
    for command in ["run", "demo", "check", "set", "apply", "get", "ls", "rm", "mkdir", "routes", "explain"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in {help}");
    }
    let help = run(&["run", "--help"]).ok();
    assert!(help.contains("POINTSMAN_STORE") && help.contains("--etcd-ca") && help.contains("TERM"), "{help}");
}
