//! Commands on the runtime socket: escapes, answers one for one, servers that come and go, sockets that say nothing.

use std::path::Path;
use std::time::Duration;

use pointsman_haproxy::answers::{self, Refusal, refusal};
use pointsman_haproxy::apply::Applier;
use pointsman_haproxy::command::Command;
use pointsman_haproxy::running::Running;
use pointsman_haproxy::runtime::{Fault, Runtime, with_payload, word};
use pointsman_haproxy::tickets::{FILE, TicketKeys};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::site::{PATIENCE, Site};

const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/shop.test.pem");

#[tokio::test]
async fn every_key_survives_the_command_line() {
    let mut site = Site::new().await;
    let (process, generation, runtime) = site.serve().await;
    let map = generation.folder.join("paths.map");
    let map = map.to_str().unwrap();
    let keys = [
        "plain",
        r"a\.b",
        r"(?m)\A@a\x2etest\n[^\n]*?(?:\d+;)",
        "a;b",
        "a\"b",
        "it's",
        "#c",
        "<<",
        "a<<",
        "<<b",
        "\\",
        r"x\",
        r"\\",
        "?",
        "*",
        "@1",
        "ünï",
        "\x01",
        "$(x)",
        "a|b",
        "-",
        "%[src]",
        r"\;",
        "&&",
    ];
    let commands = |verb: &str, value: &str| -> Vec<String> {
        keys.iter().map(|key| format!("{verb} map {map} {} {value}", word(key)).trim_end().to_owned()).collect()
    };
    for answer in runtime.ask(&commands("add", "services:web|5|0")).await.unwrap() {
        assert_eq!(refusal(&answer), None);
    }
    assert_eq!(entries(&runtime, map).await, pairs(&keys, "services:web|5|0"));
    runtime.ask(&commands("set", "new")).await.unwrap();
    assert_eq!(entries(&runtime, map).await, pairs(&keys, "new"));
    for answer in runtime.ask(&commands("del", "")).await.unwrap() {
        assert_eq!(refusal(&answer), None);
    }
    assert_eq!(entries(&runtime, map).await, pairs(&[], ""));
    let lines: Vec<_> = keys.iter().map(|key| format!("{key} new")).collect();
    let payload = with_payload(&format!("add map {map}"), lines.iter().map(String::as_str));
    assert_eq!(refusal(&runtime.ask_one(payload).await.unwrap()), None);
    assert_eq!(entries(&runtime, map).await, pairs(&keys, "new"));
    process.kill().await;
}

/// The entries of a map but for the one that was there from the start.
async fn entries(runtime: &Runtime, map: &str) -> Vec<(String, String)> {
    let answer = runtime.ask_one(format!("show map {map}")).await.expect("an answer");
    let found = answers::entries(&answer).filter(|(key, _)| *key != "/x");
    found.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn pairs(keys: &[&str], value: &str) -> Vec<(String, String)> {
    keys.iter().map(|key| ((*key).to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn commands_are_answered_one_for_one() {
    let mut site = Site::new().await;
    let (process, _, runtime) = site.serve().await;
    let commands = [
        "set server b/s1 weight 5",
        "set server b/none state maint",
        "show servers state b",
        "set server b/s1 weight 500",
        "set server none/s1 state maint",
        "del map /no/such.map key",
        "set server b/s2 state ready",
        "set server b/s1 state drain",
        "no such command",
        "show servers state b",
    ];
    let answers = runtime.ask(&commands.map(String::from)).await.unwrap();
    assert_eq!(refusal(&answers[0]), None);
    assert_eq!(refusal(&answers[1]), Some(Refusal::NoSuchServer));
    assert_eq!(states(&answers[2]), ["b/s1 127.0.0.1:1 5/1 false false", "b/s2 127.0.0.1:2 7/7 true false"]);
    assert!(matches!(refusal(&answers[3]), Some(Refusal::Other(words)) if words.contains("256")));
    assert_eq!(refusal(&answers[4]), Some(Refusal::NoSuchBackend));
    assert_eq!(refusal(&answers[5]), Some(Refusal::NoSuchMap));
    assert_eq!((refusal(&answers[6]), refusal(&answers[7])), (None, None));
    assert!(matches!(refusal(&answers[8]), Some(Refusal::Unknown(_))));
    assert_eq!(states(&answers[9]), ["b/s1 127.0.0.1:1 5/1 false true", "b/s2 127.0.0.1:2 7/7 false false"]);
    process.kill().await;
}

/// What a worker is told while it runs equals what it would have read at its start, and faults quote none of it.
#[tokio::test]
async fn keys_of_tickets_are_replaced_while_it_runs() {
    let mut site = Site::new().await;
    if !site.program.version.tls {
        return;
    }
    let keys = |bytes: [u8; 3]| TicketKeys::derive(&bytes.map(|byte| [byte; 32]).to_vec().into()).expect("three");
    let scratch = TempDir::new().expect("a folder");
    let file = scratch.path().join(FILE);
    let (first, second) = (keys([2, 3, 1]), keys([7, 8, 9]));
    std::fs::write(&file, first.file()).expect("our own folder");
    let socket = scratch.path().join("tls.sock");
    let bind = format!("unix@{} ssl crt {PEM} tls-ticket-keys {}", socket.display(), file.display());
    let tail = format!("frontend tls\n  bind {bind}\n");
    let (_, runtime) = site.activate(&tail);
    let mut process = site.start();
    process.ready(&runtime, PATIENCE).await.expect("serving");
    let applier = Applier { runtime: &runtime, folder: scratch.path() };
    for wanted in [&first, &second, &keys([8, 9, 7])] {
        let set = Command::SetTicketKeys(wanted.clone());
        assert_eq!(applier.apply(&[set], &Running::default()).await.expect("taken"), 3);
        let shown = runtime.ask_one(format!("show tls-keys {}", file.display())).await.expect("an answer");
        let shown = shown.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').nth(1));
        assert_eq!(shown.collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
    }
    let elsewhere = Applier { runtime: &runtime, folder: Path::new("/none") };
    let refused = elsewhere.apply(&[Command::SetTicketKeys(second.clone())], &Running::default()).await;
    process.kill().await;
    let silent = applier.apply(&[Command::SetTicketKeys(second.clone())], &Running::default()).await;
    for failure in [refused.expect_err("no such file"), silent.expect_err("nobody there")] {
        let said = format!("{failure} {failure:?} {second:?}");
        assert!(said.contains("tls-key") && second.iter().all(|key| !said.contains(key)), "{said}");
    }
}

fn states(answer: &str) -> Vec<String> {
    let line = |state: answers::ServerState| {
        let answers::ServerState { backend, server, address, port, weight, initial_weight, .. } = &state;
        let (maintenance, drain) = (state.maintenance, state.drain);
        format!("{backend}/{server} {address}:{port} {weight}/{initial_weight} {maintenance} {drain}")
    };
    answers::servers(answer).into_iter().map(line).collect()
}

#[tokio::test]
async fn servers_come_and_go_while_it_runs() {
    let mut site = Site::new().await;
    if !site.program.version.has_dynamic_servers() {
        return;
    }
    let (process, _, runtime) = site.serve().await;
    let rows = [
        ("add server b/n1 127.0.0.1:3 check inter 60s weight 9 maxconn 3", None),
        ("add server b/n1 127.0.0.1:3", Some("ServerExists")),
        ("add server none/n1 127.0.0.1:3", Some("NoSuchBackend")),
        ("add server b/n2 127.0.0.1:3 bogus", Some("Other")),
        ("enable health b/n1", None),
        ("set server b/n1 state ready", None),
        ("set server b/n1 addr 127.0.0.2 port 4", None),
        ("set server b/n1 addr 127.0.0.2 port 4", None),
        ("set server b/n1 addr nowhere port 4", Some("Other")),
        ("del server b/n1", Some("ServerInUse")),
        ("set server b/n1 state maint", None),
        ("del server b/n1", None),
        ("del server b/n1", Some("NoSuchServer")),
    ];
    let commands = rows.map(|(command, _)| command.to_owned());
    for (answer, (command, expected)) in std::iter::zip(runtime.ask(&commands).await.unwrap(), rows) {
        let found = refusal(&answer).map(|refusal| format!("{refusal:?}"));
        let found = found.as_deref().map(|name| name.split('(').next().unwrap());
        assert_eq!(found, expected, "{command}: {answer:?}");
    }
    process.kill().await;
}

#[tokio::test]
async fn answers_of_megabytes_come_whole() {
    let mut site = Site::new().await;
    let (process, generation, runtime) = site.serve().await;
    let map = generation.folder.join("paths.map").display().to_string();
    let key = "k".repeat(100);
    let lines: Vec<_> = (0..30_000).map(|number| format!("{key}{number} services:{number}|0|0")).collect();
    // As many as fit into HAProxy's buffer.
    let batches =
        lines.chunks(100).map(|lines| with_payload(&format!("add map {map}"), lines.iter().map(String::as_str)));
    for answer in runtime.ask(&batches.collect::<Vec<_>>()).await.unwrap() {
        assert_eq!(refusal(&answer), None);
    }
    assert_eq!(entries(&runtime, &map).await.len(), lines.len());
    let long = format!("add map {map} {} v", "k".repeat(1 << 20));
    let refused = runtime.ask(&["show info".into(), long]).await;
    assert!(matches!(&refused, Err(Fault::Closed { command, .. }) if command.len() < 300), "{refused:?}");
    assert!(matches!(runtime.ask_one("show info;show stat").await, Err(Fault::Malformed { .. })));
    process.kill().await;
}

#[tokio::test]
async fn a_socket_that_does_not_answer_is_a_fault() {
    let state = TempDir::new().unwrap();
    let path = state.path().join("s");
    let runtime = Runtime::new(&path).with_deadline(Duration::from_millis(200));
    assert!(matches!(runtime.ask_one("show info").await, Err(Fault::Unreachable { .. })));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(1).unwrap();
    // Also once its queue is full.
    for _ in 0..4 {
        assert!(matches!(runtime.ask_one("show info").await, Err(Fault::Silent { .. })));
    }
    drop(listener);
    assert!(matches!(runtime.ask_one("show info").await, Err(Fault::Unreachable { .. })));
}
