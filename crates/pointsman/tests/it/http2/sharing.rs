//! Requests that share a connection: none waits for another, none ends with another, and changes end none.

use std::process::Command;

use super::scene;
use crate::harness::{PATIENCE, engine, finish, python_http2_running, wait, wait_within};

#[test]
fn none_waits_for_another() {
    let scene = scene(&[]);
    let mut script = python_http2_running(
        &scene.site,
        ("https", scene.https),
        r"
c = Client()
held = [c.begin('/hold') for _ in range(60)]
quick = c.ask('/bytes/10')
say(quick[0], sum(c.is_over(stream) for stream in held))
c.until(lambda: all(c.is_over(stream) for stream in held))
say({c.heads[stream][':status'] for stream in held})
",
    );
    wait("the quick one", || script.log().contains("200 0"));
    wait("all others", || scene.running.metric("pointsman_active", &["\"a\""]) >= 60.0);
    scene.backend.let_go();
    assert_eq!(script.wait_exit(PATIENCE).code(), Some(0), "{}", script.log());
    assert!(script.log().contains("{'200'}"), "{}", script.log());
}

#[test]
fn a_reader_that_stops_holds_up_no_other() {
    let scene = scene(&[]);
    let said = scene.clear(
        r"
c = Client({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
c.opens = False
held = c.begin('/bytes/1000000')
c.until(lambda: len(c.bodies.get(held, b'')) == 10_000)
say([len(c.ask('/bytes/100')[2]) for _ in range(50)] == [100] * 50)
c.opens = True
c.h2.acknowledge_received_data(10_000, held); c.h2.increment_flow_control_window(20_000); c.flush()
say(len(c.finish(held)[2]))
",
    );
    assert_eq!(said, "True\n1000000\n");
}

#[test]
fn a_request_that_its_client_breaks_off_ends_alone() {
    let scene = scene(&[]);
    let mut script = python_http2_running(
        &scene.site,
        ("http", scene.running.http),
        r"
c = Client()
left, other = c.begin('/hold'), c.begin('/hold')
c.until(lambda: left in c.bodies and other in c.bodies)
wait_file('counted')
c.h2.reset_stream(left, 8); c.flush()
say('left')
status, _, body = c.finish(other)
say(status, body == pattern(len(body)), c.trailers[other]['x-total'] == str(len(body)))
",
    );
    wait("two requests", || scene.running.metric("pointsman_active", &["\"a\""]) >= 2.0);
    std::fs::write(scene.site.home().join("counted"), "").expect("inside our own folder");
    wait("the instance to be left too", || scene.running.metric("pointsman_active", &["\"a\""]) == 1.0);
    scene.backend.let_go();
    assert_eq!(script.wait_exit(PATIENCE).code(), Some(0));
    assert!(script.log().contains("200 True True"), "{}", script.log());
}

#[test]
fn changes_end_no_stream() {
    let scene = scene(&[]);
    let mut script = python_http2_running(
        &scene.site,
        ("https", scene.https),
        r"
c = Client()
held = [c.begin('/hold') for _ in range(20)]
asked = 0
while not os.path.exists(os.path.join(home, 'changed')):
    assert c.ask('/bytes/100')[0] == '200'
    asked += 1
say('asked', asked > 0)
c.until(lambda: all(c.is_over(stream) for stream in held))
say([c.bodies[stream] == pattern(len(c.bodies[stream])) for stream in held] == [True] * 20, len(c.trailers))
",
    );
    wait("the streams", || scene.running.metric("pointsman_active", &["\"a\""]) >= 20.0);
    for round in 0..20 {
        scene.site.put("services/a/one", format!("{} weight={}", scene.backend.instance(), round % 5 + 1));
        let service = format!("s{round}");
        scene.site.put(&format!("services/{service}/domain"), "s.test");
        wait("the change", || scene.running.admin_page("/api/table").contains(&format!("\"{service}\"")));
    }
    std::fs::write(scene.site.home().join("changed"), "").expect("inside our own folder");
    wait("the script to see it", || script.log().contains("asked True"));
    scene.backend.let_go();
    assert_eq!(script.wait_exit(PATIENCE).code(), Some(0), "{}", script.log());
    assert!(script.log().contains("True 20"), "{}", script.log());
}

#[test]
fn a_drain_finishes_what_runs() {
    if engine().differs("http2-drain") {
        return;
    }
    let mut scene = scene(&[]);
    let mut script = python_http2_running(
        &scene.site,
        ("https", scene.https),
        r"
c, idle = Client(), Client()
assert idle.ask()[0] == '200'
held = c.begin('/hold')
c.until(lambda: held in c.bodies)
say('holds')
idle.until(lambda: False)
say('idle', idle.goaway)
c.until(lambda: c.goaway is not None)
say('told', c.goaway)
open(os.path.join(home, 'told'), 'w')
status, _, body = c.finish(held)
say(status, c.trailers[held]['x-total'] == str(len(body)))
c.until(lambda: False)
say('closed', c.closed)
",
    );
    wait("the stream", || script.log().contains("holds"));
    scene.running.process.signal("TERM");
    wait_within("the client to be told", PATIENCE, || scene.site.home().join("told").exists().then_some(()));
    scene.backend.let_go();
    assert_eq!(script.wait_exit(PATIENCE).code(), Some(0), "{}", script.log());
    let log = script.log();
    assert!(["idle 0", "told 0", "200 True", "closed True"].iter().all(|line| log.contains(line)), "{log}");
    assert_eq!(scene.running.process.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_load_generator_is_served() {
    let scene = scene(&[]);
    h2load_ok(&format!("http://{}/", scene.running.http));
    h2load_ok(&format!("https://{}/", scene.https));
}

#[track_caller]
fn h2load_ok(url: &str) {
    let mut command = Command::new("h2load");
    command.args(["-n", "3000", "-c", "4", "-m", "50", "-H", ":authority: a.test", url]);
    let said = finish(&mut command).ok();
    assert!(said.contains("3000 succeeded, 0 failed, 0 errored"), "{said}");
}
