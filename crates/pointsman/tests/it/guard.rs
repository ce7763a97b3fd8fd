//! What is taken away at once is served on: a wiped prefix, another cluster, too many instances of a service. It is let in by
//! a release, by keys that come back, or when its time is over. Ordinary changes are never held.

use std::time::Duration;

use crate::harness::{Api, Backend, Etcd, Launch, Load, Pointsman, Site, get, holds, run, span, wait};

const PREFIX: &str = "/haproxy-g";

/// A balancer on etcd, with a service `a.test` of 12 instances.
struct Scene {
    etcd: Etcd,
    one: Backend,
    api: Api,
    running: Pointsman,
}

impl Scene {
    fn new(api: Api, flags: &[&str]) -> Self {
        Self::with(api, flags, |_, _| {})
    }

    /// The same, with what this writes.
    fn with(api: Api, flags: &[&str], more: impl FnOnce(&Etcd, &Backend)) -> Self {
        let (etcd, one) = (Etcd::start(), Backend::naming("one"));
        write(&etcd, api, &one);
        more(&etcd, &one);
        let number = if api == Api::V2 { "2" } else { "3" };
        let store = ["--store", &etcd.url(), "--etcd-api", number, "--id", "g", "--name", "g"];
        let running = Launch::new().args(&store).args(flags).start();
        running.wait_backend("a.test", "/", "one");
        Self { etcd, one, api, running }
    }

    fn put(&self, key: &str, value: &str) {
        self.etcd.put(self.api, &format!("{PREFIX}/{key}"), value);
    }

    /// Removes every key of the prefix.
    fn wipe(&self) {
        match self.api {
            Api::V2 => self.etcd.etcdctl2(&["rm", "--recursive", PREFIX]),
            Api::V3 => self.etcd.etcdctl3(&["del", "--prefix", PREFIX]),
        };
    }

    /// Runs a command on this store; its output.
    fn command(&self, words: &[&str]) -> (Option<i32>, String) {
        let number = if self.api == Api::V2 { "2" } else { "3" };
        let (url, admin) = (self.etcd.url(), self.running.admin.to_string());
        let store = ["--store", &url, "--etcd-api", number, "--id", "g"];
        // The status is in the store only.
        let is_of_store = matches!(words[0], "status" | "rm" | "set" | "plan");
        let admin = if is_of_store { &[][..] } else { &["--admin", &admin] };
        let done = run(&[words, &store, admin].concat());
        (done.code, done.stdout + &done.stderr)
    }
}

/// Writes the service.
fn write(etcd: &Etcd, api: Api, one: &Backend) {
    let put = |key: &str, value: &str| etcd.put(api, &format!("{PREFIX}/{key}"), value);
    put("services/a/domain", "a.test");
    (0..12).for_each(|number| put(&format!("services/a/i{number}"), &one.instance()));
}

fn held(running: &Pointsman, what: &str) -> f64 {
    running.metric("pointsman_guard_held", &[&format!("what=\"{what}\"")])
}

#[test]
fn a_wiped_prefix_is_served_on_until_it_is_released_v2() {
    wiped_and_released(Api::V2);
}

#[test]
fn a_wiped_prefix_is_served_on_until_it_is_released_v3() {
    wiped_and_released(Api::V3);
}

fn wiped_and_released(api: Api) {
    let scene = Scene::new(api, &[]);
    let running = &scene.running;
    let nothing = scene.command(&["guard"]);
    assert_eq!(nothing, (Some(0), "nothing is held\n".to_owned()));
    let load = Load::new().keep_alive(2, running.http, "a.test").open_close(1, running.http, "a.test");
    scene.wipe();
    running.wait_problem("held", &["1 of 1 service and 12 of 12 instances, more than 50%, were taken away at once"]);
    assert_eq!(["services", "instances", "keys"].map(|what| held(running, what)), [1.0, 12.0, 13.0]);
    // What comes meanwhile is served.
    scene.put("services/b/domain", "b.test");
    scene.put("services/b/one", &scene.one.instance());
    running.wait_backend("b.test", "/", "one");
    assert_eq!((held(running, "instances"), running.metric("pointsman_guard_holds_total", &[])), (12.0, 1.0));
    wait("status to say so", || scene.command(&["status"]).1.contains("pointsman guard release"));
    let (code, said) = scene.command(&["guard"]);
    assert!(code == Some(1) && said.contains("g: holds 1 service and 12 instances, 13 keys"), "{said}");
    assert!(said.contains("services/a/i7"), "{said}");
    let (code, explained) = scene.command(&["explain", "http://a.test/"]);
    assert!(code == Some(0) && explained.contains("held by the guard"), "{explained}");
    assert!(running.admin_page("/api/guard").contains("services/a/i11"));
    load.finish().assert_clean(50);
    let released = scene.command(&["guard", "release"]);
    assert_eq!(released, (Some(0), "released: every balancer serves the store's keys\n".to_owned()));
    running.wait_gone("a.test", "/");
    running.wait_backend("b.test", "/", "one");
    assert_eq!(held(running, "keys"), 0.0);
    assert!(running.process.log().contains("the guard holds nothing any more: released"));
    assert_eq!(scene.command(&["guard", "release"]).1, "nothing is held\n");
}

#[test]
fn whoever_waits_for_a_change_that_is_held_is_told() {
    let scene = Scene::new(Api::V3, &[]);
    let (_, said) = scene.command(&["plan", "--rm", "services"]);
    assert!(said.contains("the guard would hold this: 1 of 1 service and 12 of 12 instances"), "{said}");
    let (code, said) = scene.command(&["rm", "-r", "services", "--wait"]);
    assert!(code == Some(1) && said.contains("but the guard holds what was removed"), "{said}");
    assert!(said.contains("pointsman guard release") && said.contains("12 of 12 instances"), "{said}");
    scene.running.wait_backend("a.test", "/", "one");
    // What comes meanwhile is served, and whoever waits for that is not told of it.
    let (code, said) = scene.command(&["set", "services/b/domain", "b.test", "--wait"]);
    assert!(code == Some(0) && !said.contains("guard"), "{said}");
}

#[test]
fn an_empty_etcd_in_its_place_is_held_until_the_keys_are_back_v2() {
    replaced(Api::V2);
}

#[test]
fn an_empty_etcd_in_its_place_is_held_until_the_keys_are_back_v3() {
    replaced(Api::V3);
}

fn replaced(api: Api) {
    let mut scene = Scene::new(api, &[]);
    let load = Load::new().keep_alive(2, scene.running.http, "a.test").open_close(1, scene.running.http, "a.test");
    scene.etcd.kill();
    scene.etcd.wipe();
    scene.etcd.resume();
    scene.etcd.wait_up();
    scene.running.wait_problem("held", &["12 of 12 instances"]);
    write(&scene.etcd, api, &scene.one);
    wait("every key to be back", || held(&scene.running, "keys") == 0.0);
    load.finish().assert_clean(50);
    let log = scene.running.process.log();
    assert!(log.contains("the guard holds nothing any more: every key is back"), "{log}");
    // From here on, it guards again.
    scene.wipe();
    wait("the next hold", || scene.running.metric("pointsman_guard_holds_total", &[]) == 2.0);
    scene.running.wait_backend("a.test", "/", "one");
}

#[test]
fn a_hold_ends_when_its_time_is_over() {
    let mut scene = Scene::new(Api::V3, &["--guard-hold", "15s"]);
    scene.wipe();
    scene.running.wait_problem("held", &["12 of 12 instances"]);
    scene.running.wait_backend("a.test", "/", "one");
    scene.running.wait_gone("a.test", "/");
    scene.running.process.wait_log("--guard-hold is over");
}

#[test]
fn half_passes_and_more_is_held() {
    for (last, is_held) in [(49, false), (51, true)] {
        let scene = Scene::with(Api::V3, &[], |etcd, one| {
            let put = |key: &str, value: &str| etcd.put(Api::V3, &format!("{PREFIX}/services/b/{key}"), value);
            put("domain", "b.test");
            (0..100).for_each(|number| put(&format!("i{number:02}"), &one.instance()));
        });
        let range = [format!("{PREFIX}/services/b/i00"), format!("{PREFIX}/services/b/i{last}")];
        scene.etcd.etcdctl3(&["del", &range[0], &range[1]]);
        match is_held {
            true => scene.running.wait_problem("held", &["services/b", "51 of 100 instances"]),
            false => wait("them to go", || scene.running.metric("pointsman_table_instances", &[]) == 63.0),
        }
        let (instances, holds) = if is_held { (112.0, 1.0) } else { (63.0, 0.0) };
        assert_eq!(scene.running.metric("pointsman_table_instances", &[]), instances);
        assert_eq!(scene.running.metric("pointsman_guard_holds_total", &[]), holds);
    }
}

#[test]
fn ordinary_changes_pass_and_keys_say_what_is_ordinary() {
    let (site, one) = (Site::new(), Backend::naming("one"));
    let service = |name: &str, count: usize| {
        (0..count).for_each(|number| site.put(&format!("services/{name}/i{number}"), one.instance()));
        site.put(&format!("services/{name}/domain"), format!("{name}.test"));
    };
    (0..12).for_each(|number| service(&format!("s{number}"), 3));
    service("big", 20);
    site.put("services/big/guard", "off");
    let running = Pointsman::serving(&site);
    running.wait_backend("s0.test", "/", "one");
    // A rolling deploy.
    for number in 0..10 {
        site.put(&format!("services/big/new{number}"), one.instance());
        site.remove(&format!("services/big/i{number}"));
    }
    site.remove("services/s0");
    running.wait_gone("s0.test", "/");
    // As much as its own key allows.
    site.remove("services/big");
    running.wait_gone("big.test", "/");
    assert_eq!(running.metric("pointsman_guard_holds_total", &[]), 0.0);
    // A value that is none is a problem, and the flag's share counts.
    site.put("config/guard", "half");
    running.wait_problem("bad_value", &["config/guard", "expected a share from 1% to 100%, or off"]);
    site.clear();
    running.wait_listed("held", &["instances, more than 50%"]);
    running.wait_backend("s5.test", "/", "one");
    holds("it is served on", span(1, 10), || held(&running, "keys") > 0.0);
    assert!(running.admin_page("/api/problems").contains("guard release"));
}

#[test]
fn without_a_guard_everything_goes() {
    let scene = Scene::new(Api::V3, &["--guard", "off"]);
    scene.wipe();
    scene.running.wait_gone("a.test", "/");
    let wrong = run(&["run", "--guard", "half"]);
    assert!(
        wrong.code == Some(2) && wrong.stderr.contains("--guard: expected a share from 1% to 100%, or off"),
        "{wrong:?}"
    );
}

/// A loss in two parts, each of which would pass.
#[test]
fn a_loss_in_two_parts_is_one() {
    let scene = Scene::new(Api::V3, &[]);
    (12..20).for_each(|number| scene.put(&format!("services/a/i{number}"), &scene.one.instance()));
    let instances = || scene.running.metric("pointsman_table_instances", &[]);
    wait("twenty instances", || instances() == 20.0);
    // Somewhere in the middle of whatever counts losses.
    holds("nothing is held", Duration::from_secs(4), || held(&scene.running, "keys") == 0.0);
    let remove = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| scene.etcd.delete(Api::V3, &format!("{PREFIX}/services/a/i{number}")));
    };
    remove(0..6);
    wait("fourteen instances", || instances() == 14.0);
    holds("that passes", Duration::from_secs(2), || instances() == 14.0);
    remove(6..12);
    scene.running.wait_problem("held", &["12 of 20 instances"]);
    assert_eq!(instances(), 20.0);
}

#[test]
fn what_came_during_a_hold_is_held_as_well_v2() {
    lost_again(Api::V2);
}

#[test]
fn what_came_during_a_hold_is_held_as_well_v3() {
    lost_again(Api::V3);
}

fn lost_again(api: Api) {
    let scene = Scene::new(api, &[]);
    scene.wipe();
    scene.running.wait_problem("held", &["12 of 12 instances"]);
    scene.put("services/b/domain", "b.test");
    (0..15).for_each(|number| scene.put(&format!("services/b/i{number}"), &scene.one.instance()));
    scene.running.wait_backend("b.test", "/", "one");
    holds("they are in use", Duration::from_secs(2), || held(&scene.running, "instances") == 12.0);
    scene.wipe();
    wait("both to be held", || held(&scene.running, "instances") == 27.0);
    holds("both are served", span(1, 10), || {
        ["a.test", "b.test"]
            .iter()
            .all(|host| get(scene.running.http, host, "/").is_ok_and(|answer| answer.status == 200))
    });
    let (code, said) = scene.command(&["guard"]);
    assert!(code == Some(1) && said.contains("15 of 15 instances") && said.contains("12 of 12 instances"), "{said}");
    let released = scene.command(&["guard", "release"]);
    assert_eq!(released.0, Some(0), "{}", released.1);
    scene.running.wait_gone("a.test", "/");
    scene.running.wait_gone("b.test", "/");
}

/// Nobody can know whether keys are back while the store is away.
#[test]
fn the_time_of_a_hold_stands_still_while_the_store_is_away() {
    let mut scene = Scene::new(Api::V3, &["--guard-hold", "6s"]);
    scene.wipe();
    scene.running.wait_problem("held", &["12 of 12 instances"]);
    scene.etcd.kill();
    wait("the loss of etcd", || scene.running.metric("pointsman_store_up", &[]) == 0.0);
    holds("it is served on", Duration::from_secs(9), || held(&scene.running, "keys") == 13.0);
    scene.running.wait_backend("a.test", "/", "one");
    scene.etcd.resume();
    scene.etcd.wait_up();
    scene.running.wait_gone("a.test", "/");
    scene.running.process.wait_log("--guard-hold is over");
}
