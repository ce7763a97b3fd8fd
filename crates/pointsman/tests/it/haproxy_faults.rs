//! Faults of HAProxy and of its input: the old configuration keeps serving, the problem names the key, and the next
//! good change is applied without manual help.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{
    Backend, Engine, Launch, Load, PATIENCE, Pointsman, Response, Site, free_port, get, get_ok, is_haproxy, signal,
    wait, wait_within,
};

/// The time limit for recovery from a fault of HAProxy itself.
const MENDING: Duration = Duration::from_secs(40);

/// HAProxy in front of one service; fields drop in order, the program first.
struct Scene {
    running: Pointsman,
    backend: Backend,
    site: Site,
}

impl Scene {
    fn new() -> Self {
        Self::launched(|launch, _| launch)
    }

    /// With additional flags.
    fn launched(more: impl FnOnce(Launch, &Site) -> Launch) -> Self {
        let (backend, site) = (Backend::naming("one"), Site::new());
        site.put("services/a/domain", "a.test");
        site.put("services/a/one", backend.instance());
        let running = more(Launch::engine(Engine::HaProxy).store(&site), &site).start();
        running.wait_backend("a.test", "/", "one");
        Self { running, backend, site }
    }

    /// Adds a service, and one that needs a reload.
    #[track_caller]
    fn goes_on(&self, name: &str) {
        self.site.put(&format!("services/{name}/domain"), format!("{name}.test"));
        self.site.put(&format!("services/{name}/one"), self.backend.instance());
        self.site.put(&format!("services/{name}-x/domain"), format!("{name}-x.test"));
        self.site.put(&format!("services/{name}-x/custom_settings"), "http-response set-header X-Custom yes");
        self.site.put(&format!("services/{name}-x/one"), self.backend.instance());
        wait_within(&format!("{name} to be served"), MENDING, || {
            let custom = get(self.running.http, &format!("{name}-x.test"), "/").ok()?;
            let plain = get(self.running.http, &format!("{name}.test"), "/").ok()?;
            (custom.header("x-custom") == Some("yes") && plain.status == 200).then_some(())
        });
        assert_eq!(get_ok(self.running.http, "a.test", "/").header("x-backend"), Some("one"));
    }

    /// Makes a change to a serving service that needs a reload.
    fn ask_for_a_reload(&self) {
        self.site.put("services/a/custom_settings", "http-response set-header X-Reloaded yes");
    }

    #[track_caller]
    fn wait_reloaded(&self) {
        wait_within("what was asked for", MENDING, || {
            get(self.running.http, "a.test", "/").is_ok_and(|got| got.header("x-reloaded") == Some("yes")).then_some(())
        });
    }

    #[track_caller]
    fn wait_no_problem(&self) {
        wait_within("no problem any more", MENDING, || {
            (self.running.admin_page("/api/problems").trim() == "[]").then_some(())
        });
    }

    /// A script in place of HAProxy: this line of shell, then the real program.
    fn wrapper(site: &Site, line: &str) -> PathBuf {
        let path = site.home().join("haproxy-wrapper");
        write_program(&path, &format!("#!/bin/sh\n{line}\nexec haproxy \"$@\"\n"));
        path
    }
}

/// Written to another file and renamed, so that a partial file is never executed.
fn write_program(path: &std::path::Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("our own folder");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("our own file");
    fs::rename(&draft, path).expect("the same file system");
}

#[test]
fn a_setting_that_haproxy_rejects_keeps_the_old_form() {
    let scene = Scene::new();
    scene.site.put("services/a/custom_settings", "nonsense directive");
    scene.running.wait_problem("rejected", &["/services/a/custom_settings", "nonsense"]);
    assert_eq!(get_ok(scene.running.http, "a.test", "/").header("x-backend"), Some("one"));
    scene.goes_on("after");
    // Its instances still follow the keys.
    let two = Backend::naming("two");
    scene.site.put("services/a/one", two.instance());
    scene.running.wait_backend("a.test", "/", "two");
    scene.site.put("services/a/one", scene.backend.instance());
    scene.ask_for_a_reload();
    scene.wait_reloaded();
    scene.wait_no_problem();
}

#[test]
fn the_old_form_serves_on_after_restarts() {
    let mut scene = Scene::new();
    scene.site.put("services/a/custom_settings", "http-response set-header X-Custom good");
    let is_good = |scene: &Scene| {
        let custom = |got: &Response| got.header("x-custom") == Some("good");
        wait_within("the good form", MENDING, || get(scene.running.http, "a.test", "/").ok().filter(custom).map(drop));
    };
    is_good(&scene);
    for number in 0..3 {
        scene.site.put("services/a/custom_settings", format!("nonsense {number}"));
        scene.running.wait_problem("rejected", &["/services/a/custom_settings", &format!("nonsense {number}")]);
        is_good(&scene);
        // While it is away, an instance moves.
        scene.running.end();
        scene.backend = Backend::naming("one");
        scene.site.put("services/a/one", scene.backend.instance());
        scene.running = Launch::engine(Engine::HaProxy).store(&scene.site).start();
        scene.running.wait_problem("rejected", &["/services/a/custom_settings", &format!("nonsense {number}")]);
        is_good(&scene);
    }
    scene.ask_for_a_reload();
    scene.wait_reloaded();
    scene.wait_no_problem();
}

#[test]
fn two_rejected_settings_at_once_are_both_named() {
    let scene = Scene::new();
    scene.goes_on("b");
    scene.site.put("services/a/custom_settings", "nonsense directive");
    scene.site.put("services/b/custom_settings", "option no-such-option");
    scene.site.put("services/c/custom_settings", "http-request frobnicate");
    scene.site.put("services/c/domain", "c.test");
    scene.site.put("services/c/one", scene.backend.instance());
    for name in ["a", "b", "c"] {
        scene.running.wait_problem("rejected", &[&format!("/services/{name}/custom_settings")]);
    }
    for (host, status) in [("a.test", 200), ("b.test", 200), ("b-x.test", 200), ("c.test", 503)] {
        assert_eq!(get(scene.running.http, host, "/").expect("an answer").status, status, "{host}");
    }
    scene.goes_on("after");
    scene.site.remove("services/b/custom_settings");
    scene.site.remove("services/c/custom_settings");
    scene.running.wait_backend("c.test", "/", "one");
    scene.ask_for_a_reload();
    scene.wait_reloaded();
    scene.wait_no_problem();
}

#[test]
fn custom_settings_stay_in_their_section() {
    let scene = Scene::new();
    for text in ["backend stolen", "server x 127.0.0.1:1\nfrontend evil\n  bind :1", "global\n  stats socket /tmp/x"] {
        scene.site.put("services/bad/custom_settings", text);
        scene.site.put("services/bad/domain", "bad.test");
        scene.running.wait_problem("rejected", &["/services/bad/custom_settings"]);
        assert_eq!(get(scene.running.http, "bad.test", "/").expect("an answer").status, 503, "{text}");
        scene.site.remove("services/bad");
        scene.wait_no_problem();
    }
    scene.goes_on("after");
}

/// A template that fails in one of two ways if a service of that name exists.
const TEMPLATE: &str = "{{ global }}
{{ defaults }}
{{ frontends }}
{% for service in services %}
{% if service.name == 'refused' %}
nonsense
{% endif %}
{% if service.name == 'failing' %}
{{ no.such.thing }}
{% endif %}
{% endfor %}
{{ backends }}
";

#[test]
fn a_template_that_goes_wrong_is_named() {
    let scene = Scene::launched(|launch, site| {
        let path = site.home().join("template.cfg");
        fs::write(&path, TEMPLATE).expect("our own folder");
        launch.arg("--haproxy-template").arg(path)
    });
    for name in ["refused", "failing"] {
        scene.site.put(&format!("services/{name}/domain"), format!("{name}.test"));
        scene.site.put(&format!("services/{name}/one"), scene.backend.instance());
        scene.running.wait_problem("engine", &["--haproxy-template"]);
        assert_eq!(get_ok(scene.running.http, "a.test", "/").header("x-backend"), Some("one"));
        scene.site.remove(&format!("services/{name}"));
        scene.wait_no_problem();
    }
    scene.goes_on("after");
}

#[test]
fn a_template_that_is_none_is_named_with_its_line() {
    let site = Site::new();
    let path = site.home().join("template.cfg");
    fs::write(&path, "{{ global }}\n{% if %}\n").expect("our own folder");
    let running = Launch::engine(Engine::HaProxy).store(&site).arg("--haproxy-template").arg(&path).start();
    running.wait_problem("engine", &["--haproxy-template", "line 2"]);
    assert_eq!(get(running.admin, "localhost", "/readyz").expect("admin answers").status, 503);
}

#[test]
fn a_check_that_hangs_is_given_up() {
    let scene = Scene::launched(|launch, site| {
        let flag = site.home().join("hang");
        let hang = format!("case \" $* \" in *' -c '*) test -e {} && exec sleep 600;; esac", flag.display());
        launch.arg("--haproxy").arg(Scene::wrapper(site, &hang))
    });
    fs::write(scene.site.home().join("hang"), "").expect("our own folder");
    scene.ask_for_a_reload();
    wait_within("the problem", MENDING, || {
        scene.running.admin_page("/api/problems").contains("\"engine\"").then_some(())
    });
    assert_eq!(get_ok(scene.running.http, "a.test", "/").header("x-reloaded"), None);
    fs::remove_file(scene.site.home().join("hang")).expect("it is there");
    scene.wait_reloaded();
    scene.wait_no_problem();
    scene.goes_on("after");
}

#[test]
fn a_master_that_is_killed_is_started_again() {
    let scene = Scene::new();
    for round in ["first", "second"] {
        let (master, before) = (scene.running.master(), scene.running.haproxies());
        signal(master, "KILL");
        wait_within("another master", MENDING, || {
            let now = scene.running.haproxies();
            (now.len() >= 2 && now[0] != master).then_some(())
        });
        wait("the old ones to be gone", || !before.iter().any(|id| is_haproxy(*id)));
        scene.running.wait_backend("a.test", "/", "one");
        scene.goes_on(round);
    }
}

#[test]
fn a_worker_that_is_killed_is_started_again() {
    let scene = Scene::new();
    for round in ["first", "second"] {
        let worker = scene.running.worker();
        signal(worker, "KILL");
        wait_within("another worker", MENDING, || {
            let now = scene.running.haproxies();
            (now.len() >= 2 && !now.contains(&worker)).then_some(())
        });
        scene.running.wait_backend("a.test", "/", "one");
        scene.goes_on(round);
    }
}

#[test]
fn a_worker_that_stands_still_is_replaced() {
    let scene = Scene::new();
    let worker = scene.running.worker();
    signal(worker, "STOP");
    scene.site.put("services/b/domain", "b.test");
    scene.site.put("services/b/one", scene.backend.instance());
    wait_within("b to be served", MENDING, || {
        // The stopped worker may have accepted this connection, so try another one.
        let mut connection = scene.running.connect();
        connection.stream().set_read_timeout(Some(Duration::from_secs(1))).expect("open");
        connection.request("GET", "b.test", "/").is_ok_and(|answer| answer.status == 200).then_some(())
    });
    signal(worker, "CONT");
    scene.goes_on("after");
    scene.wait_no_problem();
}

/// Answers like a HAProxy that is too old.
const TOO_OLD: &str = "#!/bin/sh\necho 'HAProxy version 2.2.9-2+deb11u6 2023/12/01 - https://haproxy.org/'\n";

#[test]
fn one_that_is_too_old_or_not_there_is_refused_at_start() {
    let site = Site::new();
    let path = site.home().join("haproxy-wrapper");
    for texts in [["--haproxy", "haproxy-wrapper"], ["2.2.9", "2.4"]] {
        let launch = Launch::engine(Engine::HaProxy).store(&site).arg("--haproxy").arg(&path);
        let mut process = launch.start_process();
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(2));
        wait(&format!("{texts:?}"), || texts.iter().all(|text| process.log().contains(text)));
        write_program(&path, TOO_OLD);
    }
}

#[test]
fn one_that_became_too_old_is_named_until_it_is_replaced() {
    let scene = Scene::launched(|launch, site| launch.arg("--haproxy").arg(Scene::wrapper(site, "")));
    write_program(&scene.site.home().join("haproxy-wrapper"), TOO_OLD);
    signal(scene.running.master(), "KILL");
    wait_within("the problem", MENDING, || {
        scene.running.admin_page("/api/problems").contains("\"engine\"").then_some(())
    });
    scene.ask_for_a_reload();
    Scene::wrapper(&scene.site, "");
    scene.wait_reloaded();
    scene.wait_no_problem();
    scene.goes_on("after");
}

#[test]
fn a_port_that_it_may_not_open_is_named() {
    let scene = Scene::launched(|launch, _| {
        launch.under(&["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"])
    });
    scene.site.put("tcp-services/db/port", "127.0.0.1:81");
    scene.site.put("tcp-services/db/one", scene.backend.instance());
    scene.running.wait_problem("listen", &["/tcp-services/db/port", "81"]);
    scene.goes_on("after");
    let port = free_port();
    scene.site.put("tcp-services/db/port", port.to_string());
    wait("the port", || get(([127, 0, 0, 1], port).into(), "any.test", "/").is_ok());
    scene.wait_no_problem();
}

#[test]
fn an_address_of_another_machine_is_named() {
    let scene = Scene::new();
    scene.site.put("tcp-services/db/port", "192.0.2.1:5000");
    scene.site.put("tcp-services/db/one", scene.backend.instance());
    scene.running.wait_problem("listen", &["/tcp-services/db/port", "192.0.2.1:5000"]);
    scene.goes_on("after");
}

#[test]
fn a_full_disk_stops_nothing() {
    // A private mount, invisible to others, which ends with the program.
    let mount = "mount -t tmpfs -o size=4m tmpfs \"$STATE\" && exec \"$@\"";
    let scene = Scene::launched(|launch, site| {
        let state = site.home().join("state");
        fs::create_dir(&state).expect("our own folder");
        launch.env("STATE", &state.to_string_lossy()).under(&["unshare", "--mount", "sh", "-c", mount, "sh"])
    });
    let state = scene.site.home().join("state");
    let within = PathBuf::from(format!("/proc/{}/root{}", scene.running.process.id(), state.display()));
    let filler = within.join("filler");
    let filled = fs::write(&filler, vec![b'x'; 8 << 20]);
    assert!(filled.is_err(), "the disk is full");
    scene.ask_for_a_reload();
    wait_within("the problem", MENDING, || {
        scene.running.admin_page("/api/problems").contains("\"engine\"").then_some(())
    });
    assert_eq!(get_ok(scene.running.http, "a.test", "/").header("x-reloaded"), None);
    fs::remove_file(&filler).expect("it is there");
    scene.wait_reloaded();
    scene.wait_no_problem();
    scene.goes_on("after");
}

#[test]
fn what_a_killed_program_leaves_is_ended_by_the_next() {
    let Scene { mut running, backend, site } = Scene::new();
    let (all, address) = (running.haproxies(), running.http);
    running.process.kill();
    let running = Launch::engine(Engine::HaProxy).store(&site).args(&["--http", &address.to_string()]).start();
    running.wait_backend("a.test", "/", "one");
    wait("the old ones to be gone", || !all.iter().any(|id| is_haproxy(*id)));
    let scene = Scene { running, backend, site };
    scene.goes_on("after");
}

#[test]
fn faults_are_nobody_s_trouble_under_load() {
    let scene = Scene::new();
    let load = Load::new().open_close(2, scene.running.http, "a.test").keep_alive(2, scene.running.http, "a.test");
    wait("the load to run", || load.done() > 50);
    for number in 0..5 {
        scene.site.put("services/bad/domain", "bad.test");
        scene.site.put("services/bad/custom_settings", format!("nonsense {number}"));
        scene.running.wait_problem("rejected", &["/services/bad/custom_settings", &format!("nonsense {number}")]);
        scene.site.remove("services/bad");
        scene.wait_no_problem();
    }
    load.finish().assert_served(300);
}
