//! `plan`: what a change would do to the routes, to problems, and to the last requests. It writes nothing.

use std::fs;

use serde_json::Value;

use crate::harness::{Backend, Engine, Finished, Launch, Pointsman, Site, engine, free_address, get, run, wait};

/// A folder with two services, and its balancer, which keeps its last requests.
struct Scene {
    site: Site,
    running: Pointsman,
    backend: Backend,
}

impl Scene {
    fn new() -> Self {
        let backend = Backend::naming("one");
        let site = Site::with(&[
            ("services/shop/domain", "shop.test"),
            ("services/shop/one", &*backend.instance()),
            ("services/api/domain", "api.test"),
            ("services/api/one", &backend.instance()),
        ]);
        let running = Launch::engine(Engine::Native).store(&site).args(&["--recent-requests", "10000"]).start();
        running.wait_ready();
        Self { site, running, backend }
    }

    /// Sends requests, and waits until they are kept.
    fn ask(&self, host: &str, path: &str, count: usize) {
        let kept = || self.running.admin_page("/api/requests?from=0").matches("\"kind\"").count();
        let before = kept();
        for _ in 0..count {
            get(self.running.http, host, path).expect("it answers");
        }
        wait("the requests to be kept", || kept() >= before + count);
    }

    fn plan(&self, words: &[&str]) -> Finished {
        let (folder, admin) = (self.site.folder().display().to_string(), self.running.admin.to_string());
        let place = ["--store", &folder, "--prefix", "/", "--admin", &admin];
        run(&[&["plan"], words, &place].concat())
    }
}

#[test]
fn the_last_requests_are_asked_again() {
    let scene = Scene::new();
    scene.ask("shop.test", "/cart", 5);
    scene.ask("shop.test", "/", 2);
    scene.ask("api.test", "/", 3);
    let plan = scene.plan(&["services/shop/domain", "shpo.test"]);
    assert_eq!(plan.code, Some(1), "{plan:?}");
    for line in [
        "keys: 1 changed",
        "~ services/shop/domain = shop.test -> shpo.test",
        "routes: 0 gained, 0 lost, 1 changed",
        "~ services/shop: shop.test -> shpo.test",
        "problems: 0 new, 0 gone",
        "of the last 10 requests, 7 would get something else; 7 of them are served now",
        "5 GET shop.test/cart  services/shop -> 503: no service matches",
        "2 GET shop.test/  services/shop -> 503: no service matches",
    ] {
        assert!(plan.stdout.contains(line), "{line} in {plan:?}");
    }
    assert_eq!(get(scene.running.http, "shop.test", "/").expect("it answers").status, 200, "nothing was written");

    // A better one: to another service, which answers.
    let better = scene.plan(&["services/cart/path", "/cart", "services/cart/one", &scene.backend.instance()]);
    assert!(better.stdout.contains("routes: 1 gained, 0 lost, 0 changed"), "{better:?}");
    assert!(better.stdout.contains("would get the same"), "a host goes before a path: {better:?}");
    let cart = ["services/cart/domain", "shop.test", "services/cart/path", "/cart", "services/cart/one"];
    let better = scene.plan(&[&cart[..], &[&scene.backend.instance()]].concat());
    assert_eq!(better.code, Some(0), "{better:?}");
    assert!(better.stdout.contains("5 GET shop.test/cart  services/shop -> services/cart"), "{better:?}");

    let gone = scene.plan(&["--rm", "services/api", "--json"]);
    let json: Value = serde_json::from_str(&gone.stdout).unwrap_or_else(|error| panic!("{error}: {gone:?}"));
    assert_eq!((gone.code, &json["keys"], &json["requests"]["refused"]), (Some(1), &2.into(), &3.into()), "{json}");
    assert_eq!(json["routes"]["lost"][0]["service"], "services/api");
    assert_eq!(json["requests"]["groups"][0]["status"], 200);
}

#[test]
fn problems_and_shadows_are_foreseen() {
    let scene = Scene::new();
    let same = scene.plan(&["services/twin/domain", "shop.test", "services/twin/one", "127.0.0.1:1"]);
    assert!(same.code == Some(1) && same.stdout.contains("shadowed: 1"), "{same:?}");
    let bad = scene.plan(&["services/shop/port", "eighty"]);
    assert_eq!(bad.code, Some(1), "{bad:?}");
    for line in ["a balancer could not use this", "! services/shop/port: \"eighty\" is not a port", "problems: 1 new"] {
        assert!(bad.stdout.contains(line), "{line} in {bad:?}");
    }
    scene.site.put("services/shop/port", "eighty");
    let mended = scene.plan(&["services/shop/port", "80"]);
    assert!(mended.code == Some(0) && mended.stdout.contains("problems: 0 new, 1 gone"), "{mended:?}");
    // The files of `apply` and `export`.
    let file = scene.site.home().join("change");
    for text in
        ["[services.shop]\nport = 80\n", "# pointsman export 1\nservices/shop/port = 80\n", "services/shop/port 80\n"]
    {
        fs::write(&file, text).expect("our own folder");
        let mended = scene.plan(&[&file.to_string_lossy()]);
        assert!(mended.code == Some(0) && mended.stdout.contains("problems: 0 new, 1 gone"), "{text}: {mended:?}");
    }
}

#[test]
fn without_kept_requests_the_rest_is_told() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", "127.0.0.1:1")]);
    let running = Launch::engine(engine()).store(&site).start();
    running.wait_ready();
    let folder = site.folder().display().to_string();
    let plan = |admin: &str| {
        run(&["plan", "services/a/domain", "b.test", "--store", &folder, "--prefix", "/", "--admin", admin])
    };
    for (admin, why) in
        [(running.admin.to_string(), "no requests are kept"), (free_address().to_string(), "no balancer answers")]
    {
        let told = plan(&admin);
        assert!(told.code == Some(0) && told.stdout.contains("~ services/a: a.test -> b.test"), "{told:?}");
        assert!(told.stderr.contains(why) && !told.stdout.contains("requests"), "{told:?}");
    }
}
