//! `set` of several keys and `apply`, in every store: what is refused, what is written, in which order, at once or not at
//! all.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fleet::{Store, assert_no};
use crate::harness::{Api, Backend, Etcd, Finished, Process, Site, get, program_folder, run, shell, wait};

/// Files to apply.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("our own folder");
        path
    }
}

#[track_caller]
fn apply(store: &Store, file: &Path, flags: &str) -> Finished {
    store.run(&format!("apply {}{}{flags}", file.display(), if flags.is_empty() { "" } else { " " }))
}

/// That a command has succeeded, printed this, and ended its notes with that.
#[track_caller]
fn assert_done(finished: &Finished, printed: &str, note: &str) {
    assert_eq!((finished.code, &*finished.stdout), (Some(0), printed), "{finished:?}");
    assert!(finished.stderr.contains(note), "{note} in {finished:?}");
}

#[test]
fn a_value_that_no_balancer_could_use_is_refused() {
    for store in Store::each() {
        store.run("set services/shop/domain shop.test").ok();
        let refused = store.run("set services/shop/port 80x");
        assert_no(
            &refused,
            &["services/shop/port: \"80x\" is not a port between 1 and 65535", "nothing was written", "--force"],
        );
        assert_no(&store.run("set services/shop/web 10.0.0.1 services/shop/port 80x"), &["nothing was written"]);
        for key in ["port", "web"] {
            assert_no(&store.run(&format!("get services/shop/{key}")), &["there is no such key"]);
        }
        assert_no(&store.run("set services/shop/dmoain x.test"), &["unknown key", "did you mean domain?"]);
        let forced = store.run("set services/shop/port 80x --force");
        assert_done(&forced, "", "warning: services/shop/port was written, but \"80x\" is not a port");
        assert_eq!(store.run("get services/shop/port").ok(), "80x\n");
        // A bad key beside it hinders nobody, and it can always be removed.
        assert_done(&store.run("set services/shop/web 10.0.0.1"), "", "");
        store.run("rm services/shop/port").ok();
        store.run("set tcp-services/a/port 5432 tcp-services/a/one 10.0.0.1").ok();
        assert_no(&store.run("set tcp-services/b/port 5432"), &["tcp-services/b/port: port taken: "]);
        assert_no(&store.run("set service/shop/web 10.0.0.1"), &["unknown key", "did you mean services?"]);
        // Keys that only one engine has are judged like all others.
        for (key, value) in [
            ("rate_limit", "5"),
            ("forward_auth", "127.0.0.1:9"),
            ("limit/queue", "x"),
            ("limit/requests", "x"),
            ("timeout/request", "x"),
            ("errors/999", "x"),
        ] {
            assert_no(&store.run(&format!("set services/shop/{key} {value}")), &[key, "nothing was written"]);
        }
        assert_done(&store.run("set services/shop/split/canary 5%"), "", "no target: there is no service canary");
        let hash = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$tnSYvahCwPBHKZUspmcxMfb0.WiB9W.zEaKlOBL35rC";
        let file = Files::new();
        let file = file.write("users", &format!("services/shop/basic_auth_secrets = user a password {hash}"));
        let shown = "+ services/shop/basic_auth_secrets = (hidden)\n";
        assert_done(&apply(&store, &file, "--dry-run"), shown, "the native engine would not serve the service");
        // No message repeats a misplaced value.
        let key = "-----BEGIN-PRIVATE-KEY-----";
        let secret = store.run(&format!("set services/shop/domain shop.test {key} x"));
        assert!(secret.code == Some(2) && !secret.stderr.contains(key), "{secret:?}");
        let secret = store.run(&format!("set services/shop/domain shop.test services/shop/auth {key}:99999"));
        assert!(secret.code == Some(1) && !secret.stderr.contains(key), "{secret:?}");
        let odd = store.run("set services/shop/a 10.0.0.1 services/shop/b");
        assert!(odd.code == Some(2) && odd.stderr.contains("the last key has no value"), "{odd:?}");
    }
}

/// A name that nearly is a key is not taken for an instance; one that would protect the service never is.
#[test]
fn a_misspelt_setting_is_no_instance() {
    let site = Site::with(&[("services/shop/domain", "shop.test"), ("services/shop/web", "10.0.0.1")]);
    let store = ["--store", &site.folder().to_string_lossy()].map(str::to_owned);
    let on = |words: &[&str]| run(&[words, &[&*store[0], &*store[1]]].concat());
    for (key, value, expected) in [
        ("services/shop/basic_auth", "user ann insecure-password x", "it protects nothing"),
        ("services/shop/basicauth", "10.0.0.1", "the service is open without it; did you mean basic_auth_secrets?"),
        ("tcp-services/db/client_ca", "ca.test", "it protects nothing"),
        ("services/shop/upstream", "web.test:80", "did you mean upstreams/<instance>?"),
        ("services/shop/upstream/red", "10.0.0.1", "did you mean upstreams/red?"),
        ("services/shop/check_uri", "/alive", "did you mean health_check_uri?"),
        ("services/shop/domain_name", "shop.test", "did you mean domain?"),
        ("services/shop/timeout_server", "5s", "did you mean timeout/server?"),
        ("services/shop/timeout/foo", "5s", "unknown key: timeout/ has connect, queue, request, server and tunnel"),
        ("config/timeout/foo", "5s", "unknown key: timeout/ has connect, queue, request, head,"),
        ("config/foo", "5s", "unknown key: no balancer reads it"),
    ] {
        assert_no(&on(&["set", key, value]), &[&format!("{key}: unknown key: "), expected, "nothing was written"]);
        assert_eq!(on(&["get", key]).code, Some(1), "{key}");
    }
    for (key, value) in
        [("web-2", "web.test"), ("upstream", "10.0.0.2:80"), ("port-9", "web.test:80"), ("internal", "web.test")]
    {
        assert_done(&on(&["set", &format!("services/shop/{key}"), value]), "", "");
    }
    // What got in another way: the same words, and no instance.
    assert_done(
        &on(&["set", "services/shop/whitelist", "10.0.0.1", "--force"]),
        "",
        "but it is an unknown key: it protects nothing",
    );
    let checked = on(&["check"]);
    let line =
        "/services/shop/whitelist = \"10.0.0.1\": unknown key: it protects nothing, and the service is open without it";
    assert!(checked.code == Some(1) && checked.stdout.starts_with(line), "{checked:?}");
    let routes = on(&["routes", "--admin", "off"]).ok();
    assert!(!routes.contains(" whitelist ") && routes.contains(" upstream "), "{routes}");
}

#[test]
fn a_service_is_written_key_by_key_in_any_order() {
    for store in Store::each() {
        for key in
            ["services/a/web 10.0.0.1:80", "services/a/port 80", "services/a/path /x", "services/a/domain a.test"]
        {
            assert_done(&store.run(&format!("set {key}")), "", "");
        }
        for key in ["tcp-services/t/one 10.0.0.1", "tcp-services/t/balance first", "tcp-services/t/port 5432"] {
            let set = store.run(&format!("set {key}"));
            assert_eq!((set.code, &*set.stderr), (Some(0), ""), "{key}");
        }
    }
}

/// The ports that keys cannot have are those of the balancers that run, not those of this command's own settings.
#[test]
fn ports_of_live_balancers_are_taken_and_no_others() {
    for store in Store::each() {
        let one = store.balancer("one");
        store.wait_members(1);
        for taken in [one.http, one.admin] {
            let refused = store.run(&format!("set tcp-services/db/port {} tcp-services/db/one 10.0.0.1", taken.port()));
            assert_no(
                &refused,
                &["port taken: the balancer itself listens on", &taken.to_string(), "nothing was written"],
            );
            let forced = store.run(&format!("set tcp-services/db/port {} --force", taken.port()));
            assert_done(&forced, "", "port taken: the balancer itself listens on");
            let checked = store.run("check");
            assert!(checked.code == Some(1) && checked.stdout.contains("port taken"), "{checked:?}");
        }
        // 80 is the default of --http.
        assert_done(&store.run("set tcp-services/db/port 80 tcp-services/db/one 10.0.0.1"), "", "");
        assert_done(&store.run("check"), "", "no problems");
        one.process.signal("TERM");
        wait("the balancer to be forgotten", || store.run("status").code == Some(1));
        let checked = store.run("check");
        assert!(checked.stdout.contains("port taken: the balancer itself listens on 0.0.0.0:80"), "{checked:?}");
    }
}

/// Link-local instances are a problem that only the balancer's own settings decide, so `set` warns of it.
#[test]
fn a_wait_fails_if_the_change_became_a_problem() {
    for store in Store::each() {
        let _one = store.balancer("one");
        store.wait_members(1);
        store.run("set services/shop/domain shop.test services/shop/web 10.0.0.1:80 --wait").ok();
        let denied = store.run("set services/shop/other 169.254.1.1:80 --wait");
        let line = "services/shop/other = \"169.254.1.1:80\": denied: ";
        assert_no(
            &denied,
            &["warning: services/shop/other: denied", "the change is a problem", "on 1 balancer: ", line],
        );
        // Somebody else's problem is none of this change.
        store.run("set services/shop/third 10.0.0.3:80 --wait").ok();
        store.run("rm services/shop/other --wait").ok();
    }
}

#[test]
fn a_file_is_applied_once() {
    for store in Store::each() {
        let (one, web, files) = (store.balancer("one"), Backend::naming("web"), Files::new());
        store.wait_members(1);
        let text = format!(
            "[services.shop]\ndomain = \"shop.test\"\nport = 80\nupstreams.web = \"{}\"\n\"timeout/server\" = \"5s\"\n\
             tls_cert = \"\"\nkeep_virtual_path = true\n",
            web.instance()
        );
        let file = files.write("shop.toml", &text);
        let dry = apply(&store, &file, "--dry-run");
        assert_done(&dry, &format!("{}\n", added(&web)), "dry run, nothing was written: keys: 6 added");
        assert_eq!(store.run("ls").ok(), "");
        assert_done(&apply(&store, &file, "--wait"), &format!("{}\n", added(&web)), "keys: 6 added");
        assert_eq!(get(one.http, "shop.test", "/").expect("it serves").header("x-backend"), Some("web"));
        assert_done(&apply(&store, &file, "--wait"), "", "nothing to change: the store holds these keys already");
        let changed = files.write("changed.toml", &text.replace("= 80\n", "= 81\n").replace("true", "false"));
        let differences = "~ services/shop/keep_virtual_path = true -> false\n~ services/shop/port = 80 -> 81\n";
        assert_done(&apply(&store, &changed, ""), differences, "keys: 2 changed");
        let bad = files.write("bad", "# lines\nservices/shop/port 82\nservices/shop/priority high\n");
        assert_no(&apply(&store, &bad, ""), &["\"high\" is not an integer", "nothing was written"]);
        assert_no(&apply(&store, &bad, "--dry-run"), &["\"high\" is not an integer"]);
        assert_eq!(store.run("get services/shop/port").ok(), "81\n");
        assert_done(
            &apply(&store, &bad, "--force"),
            "~ services/shop/port = 81 -> 82\n+ services/shop/priority = high\n",
            "warning: services/shop/priority was written, but \"high\" is not an integer",
        );
        let broken = apply(&store, &files.write("broken.toml", "[services.shop\n"), "");
        assert!(broken.code == Some(2) && broken.stderr.contains("broken.toml"), "{broken:?}");
        assert_eq!(apply(&store, Path::new("/nowhere"), "").code, Some(2));
        assert_done(&piped(&store, "services/shop/port 83"), "~ services/shop/port = 82 -> 83\n", "keys: 1 changed");
    }
}

/// What `ls` prints, `apply` takes: values of several lines and secrets too, and without keys of our own.
#[test]
fn what_ls_prints_is_a_backup() {
    for store in Store::each() {
        let (_one, files) = (store.balancer("one"), Files::new());
        store.wait_members(1);
        let text = "[services.shop]\ndomain = 'shop.test'\nurl_reg = '^/a=\\d+$'\nupstreams.web = '10.0.0.1 weight=2'\n\
                    custom_settings = \"acl a path = /x\\nacl b path /y\"\n\
                    basic_auth_secrets = 'user ann insecure-password x'\n";
        apply(&store, &files.write("shop.toml", text), "--force").ok();
        store.run("wait").ok();
        let listed = store.run("ls -r --secrets").ok();
        assert!(!listed.contains("barrier"), "{listed}");
        let backup = files.write("lb.keys", &listed);
        assert_done(&apply(&store, &backup, ""), "", "nothing to change");
        let value = store.run("get services/shop/custom_settings").ok();
        store.run("rm -r services/shop").ok();
        apply(&store, &backup, "").ok();
        assert_eq!(store.run("get services/shop/custom_settings").ok(), value);
        assert_eq!(store.run("ls -r --secrets").ok(), listed);
        // One that an older `ls` made.
        let older = files.write("older.keys", &format!("barrier = 1\n{listed}"));
        assert_done(&apply(&store, &older, "--prune services"), "", "nothing to change");
        let refused = store.run("set barrier 7");
        assert!(refused.code == Some(2) && refused.stderr.contains("`wait` and --wait write this key"), "{refused:?}");
    }
}

fn added(web: &Backend) -> String {
    format!(
        "+ services/shop/domain = shop.test\n+ services/shop/keep_virtual_path = true\n+ services/shop/port = 80\n\
         + services/shop/timeout/server = 5s\n+ services/shop/tls_cert = (hidden)\n\
         + services/shop/upstreams/web = {}",
        web.instance()
    )
}

fn piped(store: &Store, line: &str) -> Finished {
    let program = program_folder().join("pointsman");
    shell(&format!("echo '{line}' | {} apply - {}", program.display(), store.flags.join(" ")))
}

#[test]
fn what_a_file_does_not_name_is_pruned_but_for_what_has_an_owner() {
    for store in Store::each() {
        let files = Files::new();
        store.run("set services/shop/domain shop.test services/shop/old 10.0.0.1 services/shop/port 80").ok();
        store.run("set services/other/domain other.test services/shopping/domain shopping.test").ok();
        let mut register = Command::new(program_folder().join("pointsman"));
        register.args(["register", "shop", "--name", "kept", "--address", "10.0.0.9", "--check", "none"]);
        let _register = Process::start(register.args(&store.flags).args(["--", "sleep", "1000"]));
        let is_registered = || store.run("get services/shop/upstreams/kept").code == Some(0);
        wait("the registration", is_registered);
        let file = files.write("shop", "services/shop/domain shop.test\nservices/shop/new 10.0.0.2\n");
        let all = "+ services/shop/new = 10.0.0.2\n- services/shop/old = 10.0.0.1\n- services/shop/port = 80\n";
        assert_done(&apply(&store, &file, "--prune services/shop --dry-run"), all, "1 added, 2 removed");
        assert_done(&apply(&store, &file, "--prune services/shop/"), all, "keys: 1 added, 2 removed");
        assert_done(&apply(&store, &file, "--prune services/shop"), "", "nothing to change");
        assert!(is_registered());
        for (key, value) in [("other", "other.test\n"), ("shopping", "shopping.test\n")] {
            assert_eq!(store.run(&format!("get services/{key}/domain")).ok(), value);
        }
        assert_eq!(store.run("get services/shop/port").code, Some(1));
        assert_eq!(apply(&store, &file, "--prune /").code, Some(2));
        assert_no(&store.run("set services/shop/upstreams/kept 10.0.0.8"), &["its owner", "nothing was written"]);
        assert_eq!(store.run("get services/shop/upstreams/kept").ok(), "10.0.0.9\n");
        let empty = apply(&store, &files.write("empty", ""), "--prune services");
        assert!(empty.code == Some(2) && empty.stderr.contains("has no key below it"), "{empty:?}");
        assert_done(&apply(&store, &file, "--prune services/none --force"), "", "there is nothing below");
        let both = "- services/other/domain = other.test\n- services/shopping/domain = shopping.test\n";
        assert_done(
            &apply(&store, &file, "--prune services/other --prune services/shopping --force"),
            both,
            "2 removed",
        );
    }
}

/// The revisions at which these keys were last written.
fn revisions(etcd: &Etcd, keys: &[&str]) -> Vec<u64> {
    let revision = |key: &&str| {
        let said = etcd.etcdctl3(&["get", &format!("/haproxy-haproxy-1/{key}"), "-w", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        said["kvs"][0]["mod_revision"].as_u64().expect("it is there")
    };
    keys.iter().map(revision).collect()
}

#[test]
fn etcd_v3_takes_a_file_in_one_transaction() {
    let (store, files) = (Store::etcd(Api::V3), Files::new());
    let lines = |count: usize| {
        (0..count).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "services/s{number}/domain s{number}.test");
            text
        })
    };
    let etcd = store.etcd.as_ref().expect("a store in etcd");
    for count in [2, 128, 129, 4096] {
        apply(&store, &files.write("many", &lines(count)), "").ok();
        let of = revisions(etcd, &["services/s0/domain", &format!("services/s{}/domain", count - 1)]);
        assert_eq!(of[0], of[1], "{count} keys");
        store.run("rm -r services").ok();
    }
    for flags in ["", "--dry-run"] {
        let refused = apply(&store, &files.write("more", &lines(5200)), flags);
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{}", refused.stderr);
        assert!(refused.stderr.contains("at most 4096 in one transaction"), "{}", refused.stderr);
    }
    let long = (0..300).fold(String::new(), |text, number| text + &format!("config/errors/{number} {:6000}x\n", "x"));
    let large = files.write("large", &long);
    let dry = apply(&store, &large, "--dry-run --force");
    assert!(dry.code == Some(0) && dry.stderr.contains("etcd takes 1536 KiB at once"), "{}", dry.stderr);
    let refused = apply(&store, &large, "--force");
    assert!(refused.code == Some(2) && !refused.stderr.contains("300 added"), "{}", refused.stderr);
    assert_eq!(store.run("ls").ok(), "");
}

#[test]
fn etcd_v2_gets_what_brings_traffic_last() {
    let (store, files) = (Store::etcd(Api::V2), Files::new());
    store.run("set services/gone/domain gone.test services/gone/web 10.0.0.1").ok();
    let file = files
        .write("shop.toml", "[services.shop]\ndomain = 's.test'\npath = '/x'\nweb = '10.0.0.1'\nbalance = 'first'\n");
    apply(&store, &file, "--prune services").ok();
    let etcd = store.etcd.as_ref().expect("a store in etcd");
    let index = |key: &str| {
        let said = etcd.etcdctl2(&["-o", "extended", "get", &format!("/haproxy-haproxy-1/services/shop/{key}")]);
        let index = said.lines().find_map(|line| line.strip_prefix("Modified-Index: ")).expect("its index");
        index.trim().parse::<u64>().expect("a number")
    };
    let order = ["web", "path", "domain"].map(index);
    assert!(order.is_sorted() && index("balance") < order[1], "{order:?}");
    assert_eq!(store.run("get services/gone/web").code, Some(1));
}

/// Somebody else's keys may be out of reach: a change is then judged alone.
#[test]
fn who_cannot_read_every_key_still_writes_some() {
    let site = Site::with(&[("services/large/domain", &"x".repeat(2 << 20))]);
    let store = ["--store", &site.folder().to_string_lossy()].map(str::to_owned);
    let set = |words: &[&str]| run(&[&["set"], words, &[&*store[0], &*store[1]]].concat());
    let done = set(&["services/a/domain", "a.test"]);
    assert!(done.code == Some(0) && done.stderr.contains("judging the change without the other keys"), "{done:?}");
    assert_no(&set(&["services/a/port", "80x"]), &["is not a port"]);
}

/// A role of etcd for one service is enough to apply its file.
#[test]
fn who_may_read_one_service_prunes_it() {
    let (etcd, files) = (Etcd::start(), Files::new());
    for line in [
        "user add root:secret",
        "role add shop",
        "role grant-permission shop --prefix=true readwrite /haproxy-haproxy-1/services/shop/",
        "user add ann:secret",
        "user grant-role ann shop",
        "user grant-role root root",
        "put /haproxy-haproxy-1/services/shop/old 10.0.0.1",
        "auth enable",
    ] {
        etcd.etcdctl3(&line.split(' ').collect::<Vec<_>>());
    }
    let file = files.write("shop", "services/shop/domain shop.test\n").display().to_string();
    let (url, user) = (etcd.url(), ["--etcd-api", "3", "--etcd-user", "ann:secret"]);
    let pruned = |place: &str| {
        run(&[&["apply", &file, "--prune", place, "--store", &url, "--id", "haproxy-1"], &user[..]].concat())
    };
    let printed = "+ services/shop/domain = shop.test\n- services/shop/old = 10.0.0.1\n";
    assert_done(&pruned("services/shop"), printed, "keys: 1 added, 1 removed");
    assert_eq!(pruned("services").code, Some(2), "it may not be read");
}

#[test]
fn a_folder_takes_all_files_or_none() {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    let store = ["--store".to_owned(), site.folder().display().to_string()];
    let failed = run(&["set", "services/a/web", "10.0.0.1", "services/a", "x", "--force", &store[0], &store[1]]);
    assert!(failed.code == Some(2) && failed.stderr.contains("is a folder of keys"), "{failed:?}");
    let left: Vec<_> = std::fs::read_dir(site.folder().join("services/a")).expect("its folder").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
