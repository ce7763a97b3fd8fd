//! Clients that leave before they are answered: whose work ends, whose is finished, and who gives way.

use std::net::Ipv4Addr;

use crate::harness::{
    Backend, Connection, Engine, Pointsman, Raw, Site, Then, engine, free_port, get_ok, serving, wait, wait_within,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An instance that reads requests and thinks for ever.
fn thinking() -> Raw {
    Raw::answering("", Then::Hang)
}

fn asking(running: &Pointsman, request: &str) -> Connection {
    let mut connection = running.connect();
    connection.send(request).expect("open");
    connection
}

fn active(running: &Pointsman) -> f64 {
    running.metric("pointsman_active", &["service=\"a\""])
}

fn open(running: &Pointsman) -> f64 {
    running.metric("pointsman_connections_open", &[])
}

#[test]
fn clients_that_reset_while_the_instance_thinks_are_freed() {
    let instance = thinking();
    let (_site, running) = serving(&instance.instance(), &[("config/timeout/server", "10m")]);
    let clients: Vec<_> = (0..460).map(|_| asking(&running, GET)).collect();
    wait("all requests at the instance", || instance.heads() == 460);
    wait("all to be counted", || active(&running) == 460.0);
    clients.into_iter().for_each(Connection::reset);
    wait("nearly all to be freed", || active(&running) < 10.0 && open(&running) < 10.0);
    if engine() == Engine::Native {
        wait("the fault", || running.metric("pointsman_faults_total", &["client_gone"]) == 460.0);
    }
}

#[test]
fn a_client_that_resets_while_it_queues_is_never_served() {
    let instance = thinking();
    let one = format!("{} maxconn=1", instance.instance());
    let keys = [("config/timeout/server", "10m"), ("config/timeout/connect", "10m")];
    let (_site, running) = serving(&one, &keys);
    let at_work = asking(&running, GET);
    wait("the first at work", || instance.heads() == 1);
    let queueing = asking(&running, "POST /left HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nxx");
    wait("both", || open(&running) >= 2.0);
    queueing.reset();
    wait("the one that queued to be freed", || open(&running) < 2.0);
    at_work.reset();
    wait("the slot to be free", || active(&running) == 0.0);
    let _next = asking(&running, GET);
    wait("the next one at work", || instance.heads() == 2);
    assert_eq!(instance.heads(), 2, "what was left behind in the queue came to the instance");
}

#[test]
fn a_client_of_a_tcp_service_that_resets_while_it_queues_is_freed() {
    let instance = thinking();
    let site = Site::with(&[("tcp-services/t/one", &format!("{} maxconn=1", instance.instance()))]);
    let port = free_port();
    site.put("tcp-services/t/port", port.to_string());
    site.put("config/timeout/connect", "10m");
    let running = Pointsman::serving(&site);
    let address = (Ipv4Addr::LOCALHOST, port).into();
    wait("the port", || Connection::try_open(address).is_ok());
    wait("nobody", || open(&running) == 0.0);
    let mut first = Connection::open(address);
    first.send(GET).expect("open");
    wait("the first at work", || instance.heads() == 1);
    let mut queueing = Connection::open(address);
    queueing.send(GET).expect("open");
    wait("both", || open(&running) == 2.0);
    queueing.reset();
    wait("the one that queued to be freed", || open(&running) == 1.0);
    assert_eq!(instance.heads(), 1);
    drop(first);
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    let abort = if engine().differs("half-closed") { "false" } else { "true" };
    let backend = Backend::naming("one");
    let (_site, running) = serving(&backend.instance(), &[("services/a/abort", abort)]);
    let mut connection = asking(&running, "GET /wait/300 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    connection.finish_sending();
    let answer = connection.response("GET").expect("an answer");
    assert_eq!((answer.status, answer.text().starts_with("one")), (200, true), "{}", answer.text());
}

#[test]
fn clients_that_half_closed_give_way_where_places_are_full() {
    if engine().differs("half-closed") {
        return;
    }
    let (first, second) = (thinking(), thinking());
    let keys = [
        ("config/limit/connections", "20"),
        ("config/timeout/server", "10m"),
        ("services/b/domain", "b.test"),
        ("services/b/two", &second.instance()),
    ];
    let (_site, running) = serving(&first.instance(), &keys);
    let clients: Vec<_> = (0..20).map(|_| asking(&running, GET)).collect();
    wait("all requests at the instance", || first.heads() == 20);
    clients.iter().for_each(Connection::finish_sending);
    let refused = || running.metric("pointsman_faults_total", &["too_many_connections"]);
    let mut others: Vec<Connection> = Vec::new();
    for count in 1..=20 {
        // One that comes before the half-closes are seen, or to a worker that has none left, is turned away.
        let other = wait_within("a place", crate::harness::PATIENCE, || {
            let before = refused();
            let other = asking(&running, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
            wait("a decision", || second.heads() == count || refused() > before);
            (second.heads() == count).then_some(other)
        });
        others.push(other);
    }
    wait("all to give way", || running.metric("pointsman_faults_total", &["gave_way"]) == 20.0);
    assert!(clients.into_iter().all(|mut client| client.is_closed()));
}

#[test]
fn what_a_client_left_behind_is_finished_where_the_service_asks_for_it() {
    if engine().differs("left-behind") {
        return;
    }
    let backend = Backend::naming("one");
    let one = format!("{} maxconn=1", backend.instance());
    let keys = [("services/a/abort", "false"), ("config/timeout/connect", "10m")];
    let (_site, running) = serving(&one, &keys);
    let at_work = asking(&running, "GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
    wait("the first at work", || backend.whole() == 1);
    let queueing = asking(&running, "POST /left HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nxx");
    wait("both", || open(&running) >= 2.0);
    queueing.reset();
    at_work.reset();
    backend.let_go();
    wait("all to be finished", || backend.whole() == 2 && active(&running) == 0.0);
    assert_eq!(get_ok(running.http, "a.test", "/").text(), "one /\n");
    assert_eq!(running.metric("pointsman_faults_total", &["client_gone"]), 2.0);
}
