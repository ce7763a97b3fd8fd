//! `dns`: instances from a name or from SRV records, as the answers come and go.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::{Backend, Launch, Lie, NameServer, Pointsman, Site, Zone, engine, free_port, holds, wait};

/// With name servers of our own. HAProxy asks those of the machine.
fn serving(names: &NameServer, keys: &[(&str, &str)]) -> Option<(Pointsman, Site)> {
    if engine().differs("dns-lookups") {
        return None;
    }
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    let running = Launch::on(&site).args(&["--resolver", &names.flag(), "--workers", "1"]).start();
    running.wait_ready();
    Some((running, site))
}

/// Backends at several addresses of this machine, with the same port; each answers with its last byte.
fn backends(last: &[u8]) -> (Vec<Backend>, u16) {
    let port = free_port();
    let at = |last: &u8| Backend::at(&last.to_string(), (Ipv4Addr::new(127, 0, 0, *last), port).into());
    (last.iter().map(at).collect(), port)
}

fn at(last: &[u8]) -> Zone {
    Zone::At(last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last)).collect(), 1)
}

/// Who answers so many requests: `2=5 3=5`.
fn answers(running: &Pointsman, count: usize) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut connection = running.connect();
    for _ in 0..count {
        let answer = connection.request("GET", "a.test", "/").expect("an answer");
        let name = answer.header("x-backend").map_or_else(|| answer.status.to_string(), str::to_owned);
        *counts.entry(name).or_default() += 1;
        if answer.closes() {
            connection = running.connect();
        }
    }
    counts.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_address_is_an_instance() {
    let (_backends, port) = backends(&[2, 3, 4]);
    let names = NameServer::with(&[("web.test", at(&[3, 2]))]);
    let keys = [("services/a/dns", "web.test"), ("services/a/port", &port.to_string())];
    let Some((running, site)) = serving(&names, &keys) else { return };
    wait("both", || answers(&running, 10) == "2=5 3=5");
    let named = format!("127.0.0.2:{port}");
    assert!(running.admin_page("/api/table").contains(&format!("\"name\":\"{named}\"")));
    names.set("web.test", at(&[2, 3]));
    let asked = names.asked("web.test");
    wait("two more answers", || names.asked("web.test") >= asked + 4);
    assert_eq!(answers(&running, 10), "2=5 3=5", "another order changes nothing");
    names.set("web.test", at(&[4, 3]));
    wait("the move", || answers(&running, 10) == "3=5 4=5");
    names.forget("web.test");
    running.wait_problem("unresolved", &["services/a/dns", "web.test does not resolve", "its last instances serve on"]);
    assert_eq!(answers(&running, 10), "3=5 4=5");
    // A key may add an instance.
    site.put("services/a/one", format!("127.0.0.2:{port}"));
    wait("a third", || answers(&running, 9) == "2=3 3=3 4=3");
}

#[test]
fn a_name_without_answers_serves_nothing() {
    let (_backends, port) = backends(&[2]);
    let names = NameServer::with(&[("slow.test", Zone::Silent)]);
    let port = port.to_string();
    let keys = [("services/a/dns", "gone.test"), ("services/a/port", &*port)];
    let Some((running, site)) = serving(&names, &keys) else { return };
    running.wait_problem("unresolved", &["services/a/dns", "gone.test does not resolve: there is no such name"]);
    assert_eq!(answers(&running, 2), "503=2");
    site.put("services/a/dns", "slow.test");
    running.wait_problem("unresolved", &["services/a/dns", "slow.test", "no answer"]);
    assert_eq!(answers(&running, 2), "503=2");
    names.set("slow.test", at(&[2]));
    wait("its answer", || answers(&running, 2) == "2=2");
}

#[test]
fn records_have_priorities_and_weights() {
    let (mut backends, port) = backends(&[2, 3, 4]);
    let names = NameServer::with(&[("two.test", at(&[2])), ("three.test", at(&[3])), ("four.test", at(&[4]))]);
    let all = vec![(20, 900, port, "four.test"), (10, 300, port, "two.test"), (10, 900, port, "three.test")];
    names.set("_http._tcp.web.test", Zone::Records(all.clone(), 1));
    let Some((running, _site)) = serving(&names, &[("services/a/dns", "srv:_http._tcp.web.test")]) else { return };
    wait("the first two", || answers(&running, 12) == "2=3 3=9");
    names.set("three.test", Zone::Silent);
    running.wait_problem("unresolved", &["services/a/dns", "three.test"]);
    assert!(answers(&running, 12).contains("3="), "its last address");
    wait("the same shares", || answers(&running, 12) == "2=3 3=9");
    names.set("_http._tcp.web.test", Zone::Records(all[..2].to_vec(), 1));
    wait("one to go", || answers(&running, 4) == "2=4");
    backends.remove(0);
    wait("its backup", || answers(&running, 4) == "4=4");
    names.set("_http._tcp.web.test", Zone::Records(vec![(1, 1, 1, "")], 1));
    holds("no service is no news", Duration::from_millis(1500), || answers(&running, 4) == "4=4");
}

#[test]
fn a_thousand_addresses_come_over_tcp() {
    let (_backends, port) = backends(&[2]);
    let all: Vec<_> = (0..1_000u32).map(|n| Ipv4Addr::from(0x7f00_0002 + n)).collect();
    let names = NameServer::with(&[("web.test", Zone::At(all, 1))]);
    let keys = [("services/a/dns", "web.test"), ("services/a/port", &*port.to_string())];
    let Some((running, site)) = serving(&names, &keys) else { return };
    wait("all of them", || running.admin_page("/api/table").matches("\"target\":\"127.0.").count() == 1_000);
    assert!(names.over_tcp() > 0);
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", format!("web.test:{port}"));
    running.wait_answer("b.test", "/", 200, "2");
    names.set("web.test", at(&[2]));
    wait("one to be left", || answers(&running, 4) == "2=4");
}

#[test]
fn answers_that_are_none_change_nothing() {
    let (_backends, port) = backends(&[2, 3]);
    let names = NameServer::with(&[("web.test", at(&[2]))]);
    let keys = [("services/a/dns", "web.test"), ("services/a/port", &*port.to_string())];
    let Some((running, _site)) = serving(&names, &keys) else { return };
    wait("the address", || answers(&running, 2) == "2=2");
    let no_address = || Zone::At(Vec::new(), 1);
    let other = vec![Ipv4Addr::new(127, 0, 0, 3)];
    let lie = |lie| Zone::Lie(lie, other.clone());
    for zone in [lie(Lie::Number), lie(Lie::Question), lie(Lie::Owner), lie(Lie::Kind), no_address()] {
        names.set("web.test", zone.clone());
        running
            .wait_listed("unresolved", &["services/a/dns", "web.test does not resolve", "its last instances serve on"]);
        assert_eq!(answers(&running, 4), "2=4", "{zone:?}");
        names.set("web.test", at(&[2]));
        wait("the truth", || !running.admin_page("/api/problems").contains("unresolved"));
    }
}
