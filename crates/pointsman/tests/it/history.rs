//! `history`, `diff`, `rollback`, `export` and `import`: what changed, and the way back, in every store; what is compacted, changed
//! by others, secret, damaged or cannot be written.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::{Store, assert_no};
use crate::harness::{Api, Backend, Engine, Etcd, Finished, Pointsman, engine, get, run, wait};
use crate::upgrade::Successors;

/// A store, a balancer of it, and its `--state`.
struct Scene {
    store: Store,
    state: TempDir,
    backend: Backend,
    running: Pointsman,
}

impl Scene {
    fn each() -> Vec<Self> {
        Store::each().into_iter().map(Self::of).collect()
    }

    fn etcd() -> Self {
        Self::of(Store::etcd(Api::V3))
    }

    fn of(store: Store) -> Self {
        let state = TempDir::new().expect("a temporary folder");
        let running = store.launch("one").state(state.path()).start();
        running.wait_ready();
        store.wait_members(1);
        Self { store, state, backend: Backend::naming("web"), running }
    }

    fn run(&self, line: &str) -> Finished {
        self.store.run(&format!("{line} --state {}", self.state.path().display()))
    }

    /// Sets a key, and waits until the journal has the change.
    #[track_caller]
    fn set(&self, key: &str, value: &str) {
        self.store.run(&format!("set {key} {value} --wait")).ok();
        self.wait_noted(key, value);
    }

    /// The same with a value of several words, without a look at the journal.
    #[track_caller]
    fn set_words(&self, key: &str, value: &str) {
        set_words(&self.store, key, value);
    }

    #[track_caller]
    fn wait_noted(&self, key: &str, value: &str) {
        wait(&format!("{key} = {value} in the journal"), || {
            let text = fs::read_to_string(journal(self.state.path())).unwrap_or_default();
            text.lines().last().is_some_and(|line| line.contains(key) && line.contains(value))
        });
    }

    /// The revision of the last change.
    #[track_caller]
    fn last(&self) -> u64 {
        let rows = rows(&self.run("history --json"));
        rows.last().expect("a change")["revision"].as_u64().expect("a number")
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        self.store.etcd.as_ref().expect("it is etcd").etcdctl3(arguments)
    }
}

#[track_caller]
fn set_words(store: &Store, key: &str, value: &str) {
    let flags: Vec<&str> = store.flags.iter().map(String::as_str).collect();
    run(&[&["set", key, value], &flags[..]].concat()).ok();
}

/// A user list.
fn user(password: &str) -> String {
    format!("user ann insecure-password {password}")
}

/// The path of the journal, whether it is there or not.
fn journal(state: &Path) -> PathBuf {
    let files = fs::read_dir(state.join("memory")).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()));
    let found = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "journal"));
    found.unwrap_or_else(|| state.join("none"))
}

#[track_caller]
fn rows(finished: &Finished) -> Vec<Value> {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[test]
fn what_changed_is_listed_and_undone_in_every_store() {
    for scene in Scene::each() {
        let backend = scene.backend.instance();
        scene.set("services/shop/web-1", &backend);
        scene.set("services/shop/domain", "shop.test");
        scene.set("services/other/domain", "other.test");
        let good = scene.last();
        scene.set("services/shop/domain", "shpo.test");
        let bad = scene.last();
        assert!(bad > good);
        let history = scene.run("history shop");
        let text = history.stdout.clone();
        for line in [
            format!("+ services/shop/web-1 = {backend}"),
            "+ services/shop/domain = shop.test".to_owned(),
            "~ services/shop/domain = shop.test -> shpo.test".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {history:?}");
        }
        assert!(!text.contains("other") && history.code == Some(0), "{history:?}");
        assert_eq!(text.lines().count(), 4, "a head and three changes: {history:?}");
        let times = rows(&scene.run("history shop --json")).iter().filter(|row| row["at"].is_u64()).count();
        assert_eq!(times, 3, "each has its time");
        assert_eq!(scene.run("history nobody").code, Some(1));

        let diff = scene.run(&format!("diff {good} now"));
        assert_eq!((diff.code, &*diff.stdout), (Some(1), "~ services/shop/domain = shop.test -> shpo.test\n"));
        assert_eq!(scene.run(&format!("diff {bad} {bad}")).code, Some(0));
        assert_eq!(scene.run(&format!("diff {good} --only other")).code, Some(0));

        let dry = scene.run(&format!("rollback shop --to {good} --dry-run"));
        assert_eq!((dry.code, &*dry.stdout), (Some(0), "~ services/shop/domain = shpo.test -> shop.test\n"));
        assert_eq!(scene.run("get services/shop/domain").stdout, "shpo.test\n");
        let done = scene.run(&format!("rollback shop --to {good} --wait"));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stderr.contains("to take this back: pointsman rollback shop --to "), "{done:?}");
        assert_eq!(get(scene.running.http, "shop.test", "/").expect("it serves").status, 200);
        assert_eq!(get(scene.running.http, "shpo.test", "/").expect("it answers").status, 503);
        // Removals are undone, too, and what was added is removed.
        scene.wait_noted("services/shop/domain", "shop.test");
        let before = scene.last();
        scene.store.run("rm -r services/other --wait").ok();
        scene.wait_noted("services/other/domain", "other.test");
        scene.set("services/new/domain", "new.test");
        scene.run(&format!("rollback --to {before} --wait")).ok();
        assert_eq!(scene.run("get services/other/domain").stdout, "other.test\n");
        assert_eq!(scene.run("get services/new/domain").code, Some(1));
        let future = scene.run("rollback --to 99999");
        assert!(future.code == Some(2) && future.stderr.contains("has not come yet"), "{future:?}");
    }
}

#[test]
fn what_others_changed_since_is_not_rolled_back_without_force() {
    for scene in Scene::each() {
        scene.set("services/shop/domain", "a.test");
        let first = scene.last();
        scene.set("services/shop/domain", "b.test");
        scene.set("services/shop/domain", "c.test");
        let refused = scene.run(&format!("rollback shop --to {first}"));
        let words = ["services/shop/domain", "a.test -> b.test", "b.test -> c.test", "nothing was written", "--force"];
        assert_no(&refused, &words);
        assert_eq!(scene.run("get services/shop/domain").stdout, "c.test\n");
        assert_no(&scene.run(&format!("rollback shop --to {first} --dry-run")), &["would be refused"]);
        scene.run(&format!("rollback shop --to {first} --force")).ok();
        assert_eq!(scene.run("get services/shop/domain").stdout, "a.test\n");
    }
}

#[test]
fn secrets_are_never_shown_and_come_back_only_where_the_store_remembers_them() {
    for scene in Scene::each() {
        scene.set("services/shop/domain", "shop.test");
        let first = scene.last();
        for password in ["hunter2", "hunter3"] {
            scene.set_words("services/shop/basic_auth_secrets", &user(password));
        }
        wait("both in the journal", || {
            let text = fs::read_to_string(journal(scene.state.path())).unwrap_or_default();
            text.matches("basic_auth_secrets").count() == 2
        });
        let second = scene.last() - 1;
        for command in ["history".to_owned(), "history --json".to_owned(), format!("diff {first}")] {
            let told = scene.run(&command);
            assert!(told.stdout.contains("basic_auth_secrets"), "{told:?}");
            assert!(!format!("{told:?}").contains("hunter"), "{told:?}");
        }
        let written = fs::read_to_string(journal(scene.state.path())).expect("it is there");
        assert!(!written.contains("hunter"), "{written}");
        let back = scene.run(&format!("rollback shop --to {second}"));
        let is_told = scene.store.etcd.is_some() && scene.store.flags.contains(&"3".to_owned());
        match is_told {
            true => assert_eq!(back.code, Some(0), "{back:?}"),
            false => assert_no(&back, &["services/shop/basic_auth_secrets", "not kept: secret", "nothing was written"]),
        }
        assert!(!back.stderr.contains("to take this back") || is_told, "{back:?}");
        let now = user(if is_told { "hunter2" } else { "hunter3" });
        assert_eq!(scene.run("get services/shop/basic_auth_secrets").stdout, now + "\n");
    }
}

#[test]
fn keys_under_a_lease_are_left_to_their_owners() {
    let scene = Scene::etcd();
    scene.set("services/shop/domain", "shop.test");
    let first = scene.last();
    let granted = scene.ctl(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).expect("its id").to_owned();
    let key = "/haproxy-haproxy-1/services/shop/upstreams/r1";
    scene.ctl(&["put", &format!("--lease={lease}"), key, &scene.backend.instance()]);
    scene.set("services/shop/domain", "b.test");
    let history = scene.run("history shop");
    assert!(history.stdout.contains(&format!("(lease {lease})")), "{history:?}");
    let back = scene.run(&format!("rollback --to {first}"));
    assert_eq!((back.code, &*back.stdout), (Some(0), "~ services/shop/domain = b.test -> shop.test\n"), "{back:?}");
    assert!(back.stderr.contains("1 key under a lease") && back.stderr.contains("upstreams/r1"), "{back:?}");
    assert_eq!(scene.run("get services/shop/upstreams/r1").code, Some(0));
    // Nor are they exported, or taken over by an import.
    let exported = scene.store.run("export");
    assert!(
        !exported.stdout.contains("upstreams/r1") && exported.stderr.contains("1 key under a lease"),
        "{exported:?}"
    );
    let exported = scene.store.run("export --leased").ok();
    assert!(exported.contains("services/shop/upstreams/r1 = "), "{exported}");
    let file = scene.state.path().join("all.keys");
    fs::write(&file, exported.replace(&scene.backend.instance(), "127.0.0.1:1")).expect("our own folder");
    let imported = scene.store.run(&format!("import {}", file.display()));
    assert!(imported.stderr.contains("1 key under a lease left"), "{imported:?}");
    assert_eq!(scene.run("get services/shop/upstreams/r1").stdout, scene.backend.instance() + "\n");
}

#[test]
fn what_etcd_has_compacted_comes_from_the_journal_or_is_named() {
    let scene = Scene::etcd();
    scene.set("services/shop/domain", "a.test");
    let first = scene.last();
    scene.set("services/shop/domain", "b.test");
    scene.set("services/shop/path", "/x");
    let last = scene.last();
    scene.ctl(&["compact", &last.to_string()]);
    // Without the journal.
    let bare = |line: &str| scene.store.run(&format!("{line} --state {}/nothing", scene.state.path().display()));
    let history = bare("history");
    assert!(history.stderr.contains(&format!("etcd's record begins after revision {last}")), "{history:?}");
    assert!(history.stderr.contains("there is no journal of a balancer"), "{history:?}");
    let back = bare(&format!("rollback shop --to {first}"));
    assert_eq!(back.code, Some(2), "{back:?}");
    let says = format!("revision {first}: it is compacted: etcd remembers the keys since revision {last}");
    assert!(back.stderr.contains(&says) && back.stderr.contains("there is no journal"), "{back:?}");
    // With it.
    let history = scene.run("history shop");
    assert!(history.stdout.contains("~ services/shop/domain = a.test -> b.test"), "{history:?}");
    let diff = scene.run(&format!("diff {first}"));
    assert_eq!(diff.stdout, "~ services/shop/domain = a.test -> b.test\n+ services/shop/path = /x\n");
    scene.run(&format!("rollback shop --to {first} --wait")).ok();
    assert_eq!(scene.run("get services/shop/domain").stdout, "a.test\n");
    assert_eq!(scene.run("get services/shop/path").code, Some(1));
}

#[test]
fn a_damaged_journal_is_said_and_goes_on() {
    let scene = Scene::of(Store::each().into_iter().next().expect("a folder"));
    scene.set("services/shop/domain", "a.test");
    let first = scene.last();
    scene.set("services/shop/domain", "b.test");
    let path = journal(scene.state.path());
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, text.replacen("a.test", "x.test", 1)).expect("our own file");
    let history = scene.run("history");
    assert!(history.stderr.contains("1 line of the journal damaged and left out"), "{history:?}");
    assert!(!history.stdout.contains("x.test = "), "{history:?}");
    let back = scene.run(&format!("rollback --to {first}"));
    assert!(back.code == Some(2) && back.stderr.contains("the journal begins at "), "{back:?}");
    scene.set("services/shop/domain", "c.test");
    assert!(scene.run("history").stdout.contains("b.test -> c.test"));
}

#[test]
fn a_journal_that_cannot_be_written_is_a_problem_until_it_can() {
    let scene = Scene::etcd();
    scene.set("services/shop/domain", "a.test");
    let path = journal(scene.state.path());
    let aside = path.with_extension("aside");
    // A folder in the file's place fails for every user, as a full or read-only disk does.
    fs::rename(&path, &aside).and_then(|()| fs::create_dir(&path)).expect("our own folder");
    scene.store.run("set services/shop/domain b.test --wait").ok();
    scene.running.wait_problem("state", &["--state", "cannot write", ".journal"]);
    let history = scene.run("history");
    assert!(history.stdout.contains("a.test -> b.test"), "etcd remembers it: {history:?}");
    fs::remove_dir(&path).and_then(|()| fs::rename(&aside, &path)).expect("our own folder");
    wait("the problem to end", || !scene.running.admin_page("/api/problems").contains(".journal"));
    scene.wait_noted("services/shop/domain", "b.test");
}

#[test]
fn a_full_disk_loses_no_change() {
    // A private mount, invisible to others, which ends with the program.
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$STATE\" && exec \"$@\"";
    let (store, state) = (Store::etcd(Api::V2), TempDir::new().expect("a temporary folder"));
    let launch = store.launch("one").state(state.path()).env("STATE", &state.path().to_string_lossy());
    let running = launch.under(&["unshare", "--mount", "sh", "-c", mount, "sh"]).start();
    running.wait_ready();
    store.run("set services/shop/domain a.test --wait").ok();
    let within = PathBuf::from(format!("/proc/{}/root{}", running.process.id(), state.path().display()));
    let noted = |text: &str| fs::read_to_string(journal(&within)).is_ok_and(|journal| journal.contains(text));
    wait("the journal", || noted("a.test"));
    let filler = within.join("filler");
    assert!(fs::write(&filler, vec![b'x'; 8 << 20]).is_err(), "the disk is full");
    // Longer than what is left of the file's last page.
    let page = "x".repeat(8000);
    set_words(&store, "services/shop/errors/503", &page);
    running.wait_listed("state", &["cannot write", ".journal", "No space left"]);
    fs::remove_file(&filler).expect("it is there");
    wait("the change in the journal", || noted(&page));
    let history = store.run(&format!("history --state {}", within.display()));
    assert!(history.stdout.contains("+ services/shop/errors/503 = xxx"), "{history:?}");
    assert!(!history.stderr.contains("damaged") && !history.stderr.contains("lacks"), "{history:?}");
}

#[test]
fn what_changed_while_the_balancer_was_away_is_noted_at_its_start() {
    let Scene { store, state, mut running, .. } = Scene::of(Store::etcd(Api::V2));
    store.run("set services/shop/domain a.test --wait").ok();
    wait("the snapshot", || {
        let text = fs::read(journal(state.path()).with_extension("snapshot")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains("a.test")
    });
    running.end();
    store.run("set services/shop/domain b.test").ok();
    let running = store.launch("one").state(state.path()).start();
    running.wait_ready();
    wait("the change in the journal", || {
        let history = store.run(&format!("history --state {}", state.path().display()));
        history.stdout.contains("~ services/shop/domain = a.test -> b.test")
    });
}

/// What `history --json` tells of a key: its revisions, and the values before and after.
fn told(history: &Finished, key: &str) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |row: &Value| (row["revision"].as_u64().unwrap_or_default(), text(&row["before"]), text(&row["after"]));
    rows(history).iter().filter(|row| row["key"] == key).map(row).collect()
}

/// That each change begins where the one before it ended.
#[track_caller]
fn assert_chain(told: &[(u64, String, String)]) {
    for pair in told.windows(2) {
        assert!(pair[0].2 == pair[1].1 && pair[0].0 <= pair[1].0, "{pair:?} of {told:?}");
    }
}

#[test]
fn programs_that_take_over_in_a_burst_write_one_journal() {
    for store in [Store::etcd(Api::V3), Store::folder()] {
        let Scene { store, state, running, .. } = Scene::of(store);
        let (state_flag, key) = (state.path().display().to_string(), "services/shop/domain");
        let mut successors = Successors::default();
        let is_over = AtomicBool::new(false);
        let last = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    count += 1;
                    store.put(key, &format!("n{count}.test"));
                    std::thread::sleep(Duration::from_millis(2));
                }
                count
            });
            // Also if an upgrade fails: the writer would never end.
            let over = EndsOnDrop(&is_over);
            for _ in 0..4 {
                successors.took(&run(&["upgrade", "--state", &state_flag]));
                wait("its socket", || state.path().join("takeover.sock").exists());
            }
            drop(over);
            writing.join().expect("it ends")
        });
        let end = format!("n{last}.test");
        let noted = || fs::read_to_string(journal(state.path())).unwrap_or_default();
        wait("the last change in the journal", || noted().lines().last().is_some_and(|line| line.contains(&end)));
        let is_etcd = store.etcd.is_some();
        if let Some(etcd) = &store.etcd {
            let now = etcd.etcdctl3(&["get", "--write-out=json", "x"]);
            let now: Value = serde_json::from_str(&now).expect("JSON");
            etcd.etcdctl3(&["compact", &now["header"]["revision"].to_string()]);
        }
        let history = store.run(&format!("history --json -n 100000 --state {state_flag}"));
        let told = told(&history, key);
        assert_chain(&told);
        let number = |name: &str| name.trim_start_matches('n').trim_end_matches(".test").parse().unwrap_or(0);
        let numbers: Vec<u64> = told.iter().map(|(_, _, after)| number(after)).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "nothing goes back: {numbers:?}");
        assert_eq!(numbers.last(), Some(&last));
        // Changes at once may be one, not more.
        assert!(!is_etcd || numbers.len() as u64 <= last, "{}", numbers.len());
        drop(running);
    }
}

/// Sets it when it goes.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn two_programs_of_one_folder_write_one_journal() {
    // Two HAProxy programs of one folder would have the same sockets.
    if engine() == Engine::HaProxy {
        return;
    }
    for store in Store::each() {
        let scene = Scene::of(store);
        let second = scene.store.launch("two").state(scene.state.path()).start();
        second.wait_ready();
        scene.store.wait_members(2);
        for value in ["a.test", "b.test", "c.test"] {
            scene.set("services/shop/domain", value);
        }
        let Scene { store, state, mut running, .. } = scene;
        // The second one goes on where the first one ends.
        running.end();
        for value in ["d.test", "e.test"] {
            store.run(&format!("set services/shop/domain {value} --wait")).ok();
        }
        let noted = || fs::read_to_string(journal(state.path())).unwrap_or_default();
        wait("the last change in the journal", || noted().lines().last().is_some_and(|line| line.contains("e.test")));
        let changes = noted().lines().filter(|line| line.contains("\"change\"") && line.contains("/domain")).count();
        assert!((4..=5).contains(&changes), "{}", noted());
        let told =
            told(&store.run(&format!("history --json --state {}", state.path().display())), "services/shop/domain");
        assert_chain(&told);
    }
}

#[test]
fn the_revision_below_the_compaction_and_none_at_all() {
    let scene = Scene::etcd();
    scene.set("services/shop/domain", "a.test");
    scene.set("services/shop/domain", "b.test");
    let last = scene.last();
    let below = last - 1;
    let nothing = scene.run("diff 0");
    assert!(nothing.code == Some(2) && nothing.stderr.contains("revision 0: etcd counts from 1"), "{nothing:?}");
    assert_eq!(scene.run("rollback --to 0").code, Some(2));
    scene.ctl(&["compact", &last.to_string()]);
    let diff = scene.run(&format!("diff {below}"));
    assert_eq!(diff.stdout, "~ services/shop/domain = a.test -> b.test\n", "{diff:?}");
    assert_no(&scene.run("rollback nosuch --to 2"), &["there is no key of nosuch"]);
}

#[test]
fn an_instance_that_only_the_journal_knows_is_left_as_it_is() {
    let scene = Scene::etcd();
    let granted = scene.ctl(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).expect("its id").to_owned();
    let key = "/haproxy-haproxy-1/services/shop/upstreams/r1";
    scene.ctl(&["put", &format!("--lease={lease}"), key, &scene.backend.instance()]);
    scene.set("services/shop/domain", "a.test");
    let first = scene.last();
    scene.ctl(&["lease", "revoke", &lease]);
    scene.set("services/shop/domain", "b.test");
    scene.ctl(&["compact", &scene.last().to_string()]);
    let refused = scene.run(&format!("rollback --to {first}"));
    assert_no(&refused, &["services/shop/upstreams/r1: it may have been under a lease", "nothing was written"]);
    scene.run(&format!("rollback --to {first} --force")).ok();
    assert_eq!(scene.run("get services/shop/domain").stdout, "a.test\n");
    assert_eq!(scene.run("get services/shop/upstreams/r1").code, Some(1));
}

#[test]
fn what_changed_since_the_balancer_ended_is_no_all_clear() {
    for store in [Store::folder(), Store::etcd(Api::V2)] {
        let scene = Scene::of(store);
        scene.set("services/shop/domain", "a.test");
        scene.set("services/shop/path", "/x");
        let last = scene.last();
        let Scene { store, state, mut running, .. } = scene;
        running.end();
        store.run("set services/shop/domain b.test").ok();
        let run = |line: &str| store.run(&format!("{line} --state {}", state.path().display()));
        let diff = run(&format!("diff {last}"));
        assert_eq!(diff.stdout, "~ services/shop/domain = a.test -> b.test\n", "{diff:?}");
        let history = run("history");
        assert!(history.stderr.contains("1 change since the journal's last line"), "{history:?}");
        run(&format!("rollback --to {last}")).ok();
        assert_eq!(run("get services/shop/domain").stdout, "a.test\n");
    }
}

#[test]
fn the_same_value_again_is_no_change() {
    let scene = Scene::etcd();
    scene.set("services/shop/domain", "a.test");
    let first = scene.last();
    scene.set("services/shop/domain", "b.test");
    scene.store.run("set services/shop/domain b.test --wait").ok();
    let history = scene.run("history shop");
    assert!(!history.stdout.contains("b.test -> b.test"), "{history:?}");
    scene.run(&format!("rollback shop --to {first}")).ok();
}

#[test]
fn what_no_store_takes_is_not_exported_and_not_half_imported() {
    let scene = Scene::etcd();
    scene.ctl(&["put", "/haproxy-haproxy-1/services/shop//double", "x"]);
    put_bytes(scene.store.etcd.as_ref().expect("etcd"), "/haproxy-haproxy-1/services/shop/blob", b"\xff\x00x");
    scene.store.run("set services/shop/domain a.test").ok();
    let exported = scene.store.run("export");
    assert!(
        exported.stderr.contains("1 key with an empty part") && !exported.stdout.contains("double"),
        "{exported:?}"
    );
    let file = scene.state.path().join("all.keys");
    fs::write(&file, &exported.stdout).expect("our own folder");
    let folder = Store::folder();
    folder.run(&format!("import {}", file.display())).ok();
    assert_eq!(folder.run("export").stdout, exported.stdout, "byte by byte");
    let old = Store::etcd(Api::V2);
    let refused = old.run(&format!("import {}", file.display()));
    assert!(refused.code == Some(2) && refused.stderr.contains("UTF-8 text only"), "{refused:?}");
    assert_eq!(old.run("get services/shop/domain").code, Some(1), "nothing was written");
}

/// Writes a key that is no text.
fn put_bytes(etcd: &Etcd, key: &str, value: &[u8]) {
    let mut put = Command::new("etcdctl");
    put.env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.url(), "put", key])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut process = put.spawn().expect("etcdctl is installed");
    process.stdin.take().expect("a pipe").write_all(value).expect("it reads");
    assert!(process.wait().expect("it ends").success());
}

#[test]
fn an_export_is_imported_byte_by_byte() {
    let all = Store::each();
    let home = TempDir::new().expect("a temporary folder");
    let file = home.path().join("all.keys");
    for store in &all {
        store.run("set services/shop/domain shop.test services/shop/url_reg ^/x\\d+ config/timeout/connect 5s").ok();
        set_words(store, "services/shop/basic_auth_secrets", &user("hunter2"));
        store.run("set services/shop/odd= x --force");
        let lines = "services/shop/custom_settings = \"acl a path /x\\nacl b path /y\\n\"\nservices/shop/cookie = \n";
        fs::write(&file, format!("{lines}services/shop/owner = \" spaced \"\n")).expect("our own folder");
        store.run(&format!("apply {} --force", file.display())).ok();
        if let Some(etcd) = store.etcd.as_ref().filter(|_| store.flags.contains(&"3".to_owned())) {
            put_bytes(etcd, "/haproxy-haproxy-1/services/shop/blob", b"\xff\x00\n\xfe");
            etcd.etcdctl3(&["put", "/haproxy-haproxy-1/services/my shop/domain", "my.test"]);
        }
        let exported = store.run("export --secrets");
        assert!(exported.stderr.contains("1 secret in plain text"), "{exported:?}");
        assert_eq!(store.run("export --secrets").stdout, exported.stdout, "it is stable");
        fs::write(&file, &exported.stdout).expect("our own folder");
        // Into an empty prefix of the same store.
        let there = store.run(&format!("import {} --prefix /other", file.display()));
        assert_eq!(there.code, Some(0), "{there:?}");
        assert_eq!(store.run("export --secrets --prefix /other").stdout, exported.stdout);
        let again = store.run(&format!("import {}", file.display()));
        assert!(again.code == Some(0) && again.stderr.contains("nothing to change"), "{again:?}");

        let public = store.run("export");
        assert!(!public.stdout.contains("hunter2") && public.stderr.contains("1 secret left out"), "{public:?}");
        assert!(public.stdout.contains("# secret, left out: services/shop/basic_auth_secrets"), "{public:?}");
        fs::write(&file, &public.stdout).expect("our own folder");
        let there = store.run(&format!("import {} --prefix /third", file.display()));
        assert!(there.stderr.contains("services/shop/basic_auth_secrets is missing"), "{there:?}");
        for prune in ["", "--prune services"] {
            let here = store.run(&format!("import {} {prune}", file.display()));
            assert!(!here.stderr.contains("is missing"), "the store has it: {here:?}");
        }
        let left = store.run("export --secrets").stdout;
        assert!(left.contains("hunter2"), "what the file leaves out is not removed: {left}");
        assert_no(&store.run("export nobody"), &["there is no key of nobody"]);
    }
}
