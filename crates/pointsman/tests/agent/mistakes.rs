//! Containers with mistakes: each is reported by name, harms no other, and is reported as resolved once fixed.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Process, holds, wait};
use crate::place::{Place, each};

/// Waits for a line of the log that contains all these words.
#[track_caller]
fn wait_said(agent: &Process, words: &[&str]) {
    wait(&format!("{words:?} in a line"), || {
        agent.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// Checks that a complaint appears, and is resolved after `mend`.
#[track_caller]
fn check(place: &Place, agent: &Process, name: &str, words: &[&str], mend: impl FnOnce()) {
    let name = place.named(name);
    wait_said(agent, &[&["WARN", &name], words].concat());
    assert!(!agent.log().lines().any(|line| line.contains("no longer") && line.contains(&name)));
    mend();
    wait_said(agent, &[&["INFO", "no longer a problem", &name], words].concat());
}

#[test]
fn what_is_wrong_is_said_until_it_is_mended() {
    each(|place| {
        let agent = place.agent();
        let docker = &place.docker;
        place.container("good", "service=shop", &[]);
        docker.run(&["--name", &place.named("stranger"), &place.image]);
        let nonsense = place.container("nonsense", "service=shop port=eighty", &[]);
        check(place, &agent, "nonsense", &["bad label", "pointsman.port", "eighty"], || {
            docker.docker(&["rm", "--force", &nonsense]);
        });
        place.wait_keys("services/shop/upstreams/good=80");
        place.container("nonsense", "service=shop port=81", &[]);
        let both = "services/shop/upstreams/good=80, services/shop/upstreams/nonsense=81";
        place.wait_keys(both);
        let (front, back) = (docker.network("front"), docker.network("back"));
        docker.docker(&[
            "create",
            "--network",
            &front,
            "--name",
            &place.named("torn"),
            "--label",
            &format!("pointsman-test={}", docker.run),
            "--label",
            &format!("pointsman.id={}", place.id()),
            "--label",
            "pointsman.service=shop",
            &place.image,
        ]);
        docker.docker(&["network", "connect", &back, &place.named("torn")]);
        docker.docker(&["start", &place.named("torn")]);
        check(place, &agent, "torn", &["no address", &front, &back], || {
            docker.docker(&["network", "disconnect", &back, &place.named("torn")]);
        });
        place.wait_keys(&format!("{both}, services/shop/upstreams/torn=80"));
        assert!(!agent.log().contains(&place.named("stranger")));
    });
}

#[test]
fn containers_that_end_while_they_are_looked_at_leave_nothing() {
    each(|place| {
        let mut agent = place.agent();
        place.container("stays", "service=shop", &[]);
        let expected = "services/shop/upstreams/stays=80";
        let workers: Vec<_> = (0..3).map(|worker| come_and_go(place, worker)).collect();
        for mut worker in workers {
            assert!(worker.wait().expect("ours").success());
        }
        place.wait_keys(expected);
        holds("nothing comes back", Duration::from_millis(500), || place.keys().as_deref() == Some(expected));
        assert!(agent.is_running());
        // A busy daemon may answer too late, which is said; that a container is gone is no mistake.
        let log = agent.log();
        let mut failed = log.lines().filter(|line| line.contains("cannot inspect a container"));
        assert!(failed.all(|line| line.contains("Timeout") || line.contains("no answer within")), "{log}");
    });
}

/// Ten containers, one after another: some end by themselves, some are removed at once, some never run.
fn come_and_go(place: &Place, worker: usize) -> std::process::Child {
    let (docker, image) = (&place.docker, &place.image);
    let labels = format!(
        "--label pointsman-test={} --label pointsman.id={} --label pointsman.service=shop --label \
         pointsman.domain=shop.test",
        docker.run,
        place.id()
    );
    let one = format!(
        "n={}-{worker}-$i; docker run -d --name $n {labels} {image}; docker rm -f $n; docker run -d --rm {labels} {image} \
         exit; docker create --name $n-c {labels} {image}; docker rm $n-c",
        docker.run
    );
    let script = format!("for i in 1 2 3; do {one}; done");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).env("DOCKER_HOST", docker.host());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh is there")
}
