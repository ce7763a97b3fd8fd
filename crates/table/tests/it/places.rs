//! Where instances may be: never behind a listener of ours, nor where the settings forbid it, whatever name leads there.

use std::sync::Arc;

use pointsman_table::{Area, Bind, Compiled, Limits, Names, Places, Record, Resolved, compile};

use crate::{key_set, limits, problem_lines, same_services};

/// What names resolve to: `a.test 10.0.0.1 10.0.0.2`, `b.test ! no such name`, `srv:c.test 10/300/a.test/80`, one a line.
fn names(lines: &str) -> Names {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let resolved = |line: &str| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (addresses, failure) =
            rest.split_once('!').map_or((rest, None), |(before, why)| (before, Some(why.trim())));
        let (records, addresses): (Vec<_>, Vec<_>) =
            addresses.split_whitespace().partition(|answer| answer.contains('/'));
        let addresses = addresses.into_iter().map(|address| address.parse().expect("an address")).collect();
        let records = records.into_iter().map(record).collect();
        (name.into(), Resolved { addresses, records, failure: failure.map(Into::into) })
    };
    lines.map(resolved).collect()
}

fn record(text: &str) -> Record {
    let parts: Vec<_> = text.split('/').collect();
    let number = |at: usize| parts[at].parse().expect("a number");
    Record { priority: number(0), weight: number(1), target: parts[2].into(), port: number(3) }
}

/// The resolved instances and the problems of these keys, with these names.
fn check_names(last: Option<&Compiled>, keys: &str, known: &str, instances: &str, problems: &[&str]) -> Compiled {
    let limits = Limits { names: Some(Arc::new(names(known))), ..limits() };
    let compiled = compile(&key_set(&format!("services/s/path = /\n{keys}")), last.map(|last| &*last.table), &limits);
    let said: Vec<_> = { compiled.table.services()[0].instances.iter() }
        .map(|instance| format!("{} {} {:?}", instance.name, instance.target, instance.resolved))
        .collect();
    assert_eq!(said.join("|"), instances, "{keys} with {known}");
    let lines = problem_lines(&compiled);
    assert_eq!(lines.len(), problems.len(), "{lines:?}");
    for (line, expected) in lines.iter().zip(problems) {
        assert!(line.contains(expected), "{line} is not {expected}");
    }
    compiled
}

#[test]
fn names_are_judged_by_what_they_resolve_to() {
    let keys = "services/s/a = a.test:80";
    let pending =
        check_names(None, keys, "", "", &["services/s/a = \"a.test:80\": unresolved: the name is being looked up"]);
    assert!(pending.names.iter().map(|name| &**name).eq(["a.test"]));
    let one = check_names(Some(&pending), keys, "a.test 10.0.0.1", "a a.test:80 [10.0.0.1:80]", &[]);
    let dead = check_names(
        Some(&one),
        keys,
        "a.test 10.0.0.1 ! no answer",
        "a a.test:80 [10.0.0.1:80]",
        &["does not resolve: no answer; its last addresses serve on: 10.0.0.1"],
    );
    assert!(Arc::ptr_eq(&one.table.services()[0], &dead.table.services()[0]), "it serves on as it was");
    check_names(
        None,
        keys,
        "a.test ! no such name",
        "",
        &["unresolved: a.test does not resolve: no such name; the instance is left out"],
    );
    // Of several addresses, those that are ours or forbidden are left out.
    check_names(
        None,
        keys,
        "a.test 10.0.0.1 192.0.2.7",
        "a a.test:80 [10.0.0.1:80]",
        &["loop: a.test:80 leads to 192.0.2.7:80, which is not used: the balancer itself listens on 0.0.0.0:80"],
    );
    check_names(
        None,
        "services/s/a = a.test:8404",
        "a.test 127.0.0.1",
        "",
        &["loop: a.test:8404 leads to 127.0.0.1:8404"],
    );
    check_names(
        None,
        keys,
        "a.test 169.254.169.254",
        "",
        &["denied: a.test:80 leads to 169.254.169.254:80, which is not used: 169.254.169.254 is a link-local"],
    );
    check_names(None, "services/s/a = localhost:81", "", "a localhost:81 [127.0.0.1:81, [::1]:81]", &[]);
    // A listener on 0.0.0.0 takes IPv4 only.
    check_names(
        None,
        "services/s/a = x.localhost:80",
        "",
        "a x.localhost:80 [[::1]:80]",
        &["loop: x.localhost:80 leads to 127.0.0.1:80"],
    );
}

/// A key that is given a name serves on where it was until the name is known.
#[test]
fn an_instance_that_becomes_a_name_stays_where_it_was() {
    let first = check_names(None, "services/s/a = 10.0.0.9:80 weight=2", "", "a 10.0.0.9:80 []", &[]);
    let keys = "services/s/a = a.test:80";
    let pending = check_names(Some(&first), keys, "", "a 10.0.0.9:80 []", &["is being looked up"]);
    assert_eq!(pending.table.services()[0].instances[0].weight, 1, "what the key says besides holds");
    let known = check_names(Some(&pending), keys, "a.test 10.0.0.1", "a a.test:80 [10.0.0.1:80]", &[]);
    check_names(
        Some(&known),
        "services/s/a = b.test:80",
        "a.test 10.0.0.1",
        "a a.test:80 [10.0.0.1:80]",
        &["is being looked up"],
    );
    check_names(Some(&pending), keys, "a.test ! gone", "", &["does not resolve: gone"]);
}

#[test]
fn only_what_is_bound_is_a_listener() {
    let keys =
        "services/s/path = /\nservices/s/a = 127.0.0.1:5432\ntcp-services/t/port = 5432\ntcp-services/t/b = 10.0.0.1";
    let bound = |ports: &[u16]| Limits {
        bound: Some(Arc::new(ports.iter().map(|&port| Bind { address: [0, 0, 0, 0].into(), port }).collect())),
        ..limits()
    };
    let key_set = key_set(keys);
    let closed = compile(&key_set, None, &bound(&[]));
    assert_eq!(problem_lines(&closed), [""; 0], "somebody else has the port");
    let open = compile(&key_set, Some(&closed.table), &bound(&[5432]));
    let [problem] = &problem_lines(&open)[..] else { panic!("{:?}", open.problems) };
    assert!(
        problem.starts_with(
            "services/s/a = \"127.0.0.1:5432\": loop: the balancer itself listens on 0.0.0.0:5432 for tcp service t"
        ),
        "{problem}"
    );
    let again = compile(&key_set, Some(&open.table), &bound(&[]));
    assert_eq!(problem_lines(&again), [""; 0]);
    assert_eq!(same_services(&open.table, &again.table), ["t"]);
    let leads = |port| closed.table.leads_to(Bind { address: [0, 0, 0, 0].into(), port });
    assert!(leads(5432) && !leads(5433) && !leads(80));
}

#[test]
fn instances_are_where_the_settings_permit_them() {
    let places = Places { allow: Area::parse("private,/run/apps").unwrap(), deny: Area::parse("10.9.0.0/16").unwrap() };
    let limits = Limits { places, ..limits() };
    for (value, expected) in [
        ("10.0.0.1", ""),
        ("unix:/run/apps/a.sock", ""),
        ("10.9.0.1", "denied: --instances-deny 10.9.0.0/16 forbids instances at 10.9.0.1"),
        ("203.0.113.1", "denied: --instances-allow does not permit instances at 203.0.113.1"),
        ("unix:/run/docker.sock", "denied: --instances-allow does not permit instances at /run/docker.sock"),
    ] {
        let compiled = compile(&key_set(&format!("services/s/path = /\nservices/s/a = {value}")), None, &limits);
        let problems = problem_lines(&compiled).join("\n");
        assert!(problems.contains(expected) && problems.is_empty() == expected.is_empty(), "{value}: {problems}");
        assert_eq!(compiled.table.services()[0].instances.is_empty(), !expected.is_empty());
    }
}

/// The instances of `dns`, as `ADDRESS*WEIGHT`, `!` for backups; and the names to look up.
fn check_dns(last: Option<&Compiled>, dns: &str, known: &str, instances: &str, problem: Option<&str>) -> Compiled {
    let limits = Limits { names: Some(Arc::new(names(known))), ..limits() };
    let keys = format!("services/s/path = /\nservices/s/port = 81\nservices/s/dns = {dns}");
    let compiled = compile(&key_set(&keys), last.map(|last| &*last.table), &limits);
    let said: Vec<_> = { compiled.table.services()[0].instances.iter() }
        .inspect(|instance| assert_eq!(instance.name.as_str(), instance.target.to_string()))
        .map(|one| format!("{}{}*{}", if one.backup { "!" } else { "" }, one.name, one.weight))
        .collect();
    assert_eq!(said.join(" "), instances, "{dns} with {known}");
    let lines = problem_lines(&compiled);
    assert_eq!(lines.len(), problem.into_iter().count(), "{lines:?}");
    assert!(problem.is_none_or(|problem| lines[0].contains(problem)), "{lines:?}");
    compiled
}

#[test]
fn instances_from_a_name() {
    let (name, wanted) = ("a.test", ["a.test"]);
    let pending = check_dns(None, name, "", "", Some("services/s/dns = \"a.test\": unresolved: the name is being"));
    assert!(pending.names.iter().map(|name| &**name).eq(wanted));
    let two = "10.0.0.1:81*1 10.0.0.2:81*1";
    let one = check_dns(Some(&pending), name, "a.test 10.0.0.1 10.0.0.2", two, None);
    check_dns(Some(&one), "b.test", "a.test 10.0.0.1", two, Some("its instances stay as they were"));
    let dead = check_dns(
        Some(&one),
        name,
        "a.test 10.0.0.1 10.0.0.2 ! no answer",
        two,
        Some("a.test does not resolve: no answer; its last instances serve on"),
    );
    assert!(Arc::ptr_eq(&one.table.services()[0], &dead.table.services()[0]), "it serves on as it was");
    check_dns(None, name, "a.test ! no such name", "", Some("no such name; it adds no instance until it does"));
    check_dns(None, name, "a.test 10.0.0.1 169.254.169.254", "10.0.0.1:81*1", Some("denied: "));
    check_dns(None, "localhost", "", "127.0.0.1:81*1 [::1]:81*1", None);
}

#[test]
fn instances_from_records() {
    let dns = "srv:_http._tcp.s.test";
    let pending = check_dns(None, dns, "", "", Some("unresolved: the name is being looked up"));
    assert!(pending.names.iter().map(|name| &**name).eq([dns]));
    let records = format!("{dns} 10/5/a.test/80 10/0/b.test/90 20/256/c.test/80");
    let first = check_dns(Some(&pending), dns, &records, "", Some("unresolved: the name is being looked up"));
    assert_eq!(first.names.len(), 4);
    let all = "a.test 10.0.0.1 10.0.0.2\nb.test 10.0.0.1\nc.test 10.0.0.3";
    let served = "10.0.0.1:80*5 10.0.0.1:90*1 10.0.0.2:80*5 !10.0.0.3:80*256";
    let whole = check_dns(Some(&first), dns, &format!("{records}\n{all}"), served, None);
    let more = format!("{dns} 10/5/a.test/80 10/0/new.test/80\n{all}");
    check_dns(Some(&whole), dns, &more, served, Some("the name is being looked up"));
    let heavy = format!("{dns} 1/512/a.test/80 1/65535/c.test/80\n{all}");
    check_dns(None, dns, &heavy, "10.0.0.1:80*2 10.0.0.2:80*2 10.0.0.3:80*256", None);
    let gone = format!("{records} ! no answer\n{all}");
    check_dns(Some(&whole), dns, &gone, served, Some("_http._tcp.s.test does not resolve: no answer"));
}
