//! Changes over time: last good forms, deletions, and what a key set makes of each.

use pointsman_table::{Change, Compiled, KeySet, Limits, Table, compile};

use crate::{able_limits, answer, changes, limits, problem_lines};

/// Applies each step, compiles, and asks.
struct Story {
    keys: KeySet,
    last: Option<Compiled>,
    limits: Limits,
}

impl Story {
    fn new() -> Self {
        Self { keys: KeySet::default(), last: None, limits: limits() }
    }

    /// Of an engine that honours everything.
    fn for_haproxy() -> Self {
        Self { limits: able_limits(), ..Self::new() }
    }

    /// `expected` is what the request gets, then what the problems contain, separated by `|`; `&` stands for a space.
    fn step(&mut self, lines: &str, request: &str, expected: &str) {
        self.keys.apply(self.keys.revision() + 1, changes(lines));
        let compiled = compile(&self.keys, self.last.as_ref().map(|last| &*last.table), &self.limits);
        let route = answer(&compiled.table, request);
        let instances = compiled.table.services().iter().map(|service| service.instances.len()).sum::<usize>();
        let found = format!("{route} instances={instances}");
        let problems = problem_lines(&compiled).join("\n");
        let (wanted, kinds) = expected.split_once('|').unwrap_or((expected, ""));
        assert!(wanted.split_whitespace().all(|word| found.contains(word)), "{lines}: {found} is not {expected}");
        let has = |word: &str| problems.contains(&word.replace('&', " "));
        assert!(kinds.split_whitespace().all(has), "{lines}: {problems} is not {expected}");
        assert_eq!(kinds.is_empty(), problems.is_empty(), "{lines}: {problems}");
        self.last = Some(compiled);
    }
}

#[test]
fn a_good_service_keeps_its_last_good_settings() {
    let mut story = Story::new();
    story.step("services/s/domain = s.test\nservices/s/a = 10.0.0.1", "s.test/", "service=s instances=1");
    story.step("services/s/port = eighty", "s.test/", "service=s instances=1|services/s/port eighty");
    story.step("services/s/b = 10.0.0.2", "s.test/", "service=s instances=2|services/s/port");
    story.step("services/s/domain = t.test", "s.test/", "service=s instances=2|services/s/port");
    story.step("- services/s/a", "s.test/", "service=s instances=1|services/s/port");
    story.step("services/s/port = 81", "t.test/", "service=s instances=1");
    story.step("services/s/port = x", "t.test/", "service=s|services/s/port");
    story.step("- services/s/port", "t.test/", "service=s");
    story.step("- services/s/domain", "t.test/", "service=s|services/s:");
    story.step("-r services/s", "t.test/", "none instances=0");
    story.step("services/s/domain = s.test\nservices/s/port = x", "s.test/", "none|services/s/port");
}

#[test]
fn a_new_service_with_bad_settings_starts_when_they_are_mended() {
    let mut story = Story::new();
    story.step("services/s/domain = s.test\nservices/s/match = some", "s.test/", "none|services/s/match");
    story.step("services/s/a = 10.0.0.1", "s.test/", "none|services/s/match");
    story.step("- services/s/match", "s.test/", "service=s instances=1");
}

#[test]
fn a_service_that_asks_for_protection_is_never_served_without() {
    let mut story = Story::new();
    story.step("services/s/domain = s.test", "s.test/", "service=s");
    story.step("services/s/basic_auth_secrets = user a password b", "s.test/", "closed|services/s/basic_auth_secrets");
    story.step("services/s/port = x", "s.test/", "closed|services/s/port");
    story.step("- services/s/basic_auth_secrets", "s.test/", "none|services/s/port");
    story.step("- services/s/port", "s.test/", "service=s");
    story.step(
        "services/s/basic_auth_secrets = user a password b\nservices/s/port = x",
        "s.test/",
        "closed|basic port",
    );
}

/// Its requests are for nobody else: a service with wider rules may lead to the same instances.
#[test]
fn a_service_that_may_not_be_served_keeps_its_rules() {
    let mut story = Story::new();
    let both = "services/shop/domain = s.test\nservices/admin/domain = s.test\nservices/admin/path = /admin";
    story.step(both, "s.test/admin/x", "service=admin");
    let bad = "services/admin/basic_auth_secrets = user a password b";
    story.step(bad, "s.test/admin/x", "closed|services/admin/basic_auth_secrets");
    story.step("", "s.test/adm", "service=shop|services/admin/basic_auth_secrets");
    // A rule that cannot be read is the last one that could.
    story.step("services/admin/path = admin\x01", "s.test/admin/x", "closed|basic_auth_secrets path");
    story.step("- services/admin/basic_auth_secrets\nservices/admin/path = /admin", "s.test/admin/x", "service=admin");
    // One that was never good, and another one with the same rule.
    story.step("services/b/domain = b.test\nservices/b/allow = x", "b.test/", "closed|services/b/allow");
    let other = "services/c/domain = b.test\nservices/c/one = 10.0.0.1";
    story.step(other, "b.test/", "service=c|services/b/allow services/b/domain");
}

#[test]
fn protection_counts_even_if_another_key_is_bad() {
    let mut story = Story::new();
    let policy = |story: &Story| {
        let last = story.last.as_ref().expect("compiled");
        let service = last.table.service(pointsman_table::Protocol::Http, "s").expect("served");
        let policy = service.policy.clone().unwrap_or_default();
        let access = policy.access.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} users, {access}", policy.basic_auth.as_ref().map_or(0, |list| list.users.len()))
    };
    story.step("services/s/domain = s.test", "s.test/", "service=s");
    story.step("services/s/port = x", "s.test/", "service=s|services/s/port");
    let users = "services/s/basic_auth_secrets = user a insecure-password b";
    story.step(users, "s.test/", "service=s|services/s/port");
    assert_eq!(policy(&story), "1 users, ");
    story.step("services/s/allow = 10.0.0.0/8", "s.test/", "service=s|services/s/port");
    assert_eq!(policy(&story), "1 users, allow 10.0.0.0/8");
    // What is bad itself, or gone while other keys are bad, stays as it was.
    story.step("services/s/allow = x\n- services/s/basic_auth_secrets", "s.test/", "service=s|allow port");
    assert_eq!(policy(&story), "1 users, allow 10.0.0.0/8");
    story.step("services/s/port = 80\n- services/s/allow", "s.test/", "service=s");
    assert_eq!(policy(&story), "0 users, ");
}

#[test]
fn each_list_of_networks_counts_for_itself_while_another_key_is_bad() {
    for (tree, other) in [("services", "port"), ("tcp-services", "sni")] {
        let access = |story: &Story| {
            let last = story.last.as_ref().expect("compiled");
            let service = last.table.services().first().expect("served");
            let policy = service.policy.as_ref().expect("it has one");
            policy.access.as_ref().map(ToString::to_string)
        };
        let (mut story, key) = (Story::new(), |name: &str| format!("{tree}/s/{name}"));
        let reach = if tree == "services" { "domain = s.test" } else { "port = 1" };
        let first = format!("{}\n{} = 10.0.0.0/8\n{} = 10.1.0.0/16", key(reach), key("allow"), key("deny"));
        let host = if tree == "services" { "service=s" } else { "none" };
        story.step(&first, "s.test/", host);
        let both = Some("deny 10.1.0.0/16, allow 10.0.0.0/8".to_owned());
        assert_eq!(access(&story), both);
        // One list is bad: neither it nor the other opens anything.
        story.step(&format!("{} = x", key("allow")), "s.test/", &format!("{host}|allow"));
        assert_eq!(access(&story), both, "{tree}");
        // One list is gone while another key is bad.
        story.step(&format!("- {}\n{} = \x01", key("allow"), key(other)), "s.test/", &format!("{host}|{other}"));
        assert_eq!(access(&story), both, "{tree}");
        story.step(&format!("{} = 10.2.0.0/16", key("deny")), "s.test/", &format!("{host}|{other}"));
        assert_eq!(access(&story).as_deref(), Some("deny 10.2.0.0/16, allow 10.0.0.0/8"), "{tree}");
        story.step(&format!("- {}", key(other)), "s.test/", host);
        assert_eq!(access(&story).as_deref(), Some("deny 10.2.0.0/16"), "{tree}");
    }
}

#[test]
fn servers_that_others_name_come_and_go_with_them() {
    let mut story = Story::new();
    let services = |story: &Story| {
        let last = story.last.as_ref().expect("compiled");
        last.table.services().iter().map(|service| service.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    story.step("services/s/domain = s.test\nservices/s/a = 10.0.0.1", "s.test/", "service=s");
    story.step("services/s/forward_auth = http://10.0.0.2/x", "s.test/", "service=s");
    assert_eq!(services(&story), "http://10.0.0.2:80 s");
    story.step("services/t/forward_auth = http://10.0.0.2:80/y\nservices/t/domain = t.test", "t.test/", "service=t");
    assert_eq!(services(&story), "http://10.0.0.2:80 s t");
    story.step("services/s/forward_auth = http://10.0.0.3/x", "s.test/", "service=s");
    assert_eq!(services(&story), "http://10.0.0.2:80 http://10.0.0.3:80 s t");
    // Its last good form would not ask anybody.
    story.step("services/s/forward_auth = http://", "s.test/", "closed|services/s/forward_auth");
    assert_eq!(services(&story), "http://10.0.0.2:80 s t");
    story.step("- services/s/forward_auth\n-r services/t", "s.test/", "service=s");
    assert_eq!(services(&story), "s");
}

#[test]
fn a_service_whose_protection_is_bad_is_not_served_in_an_older_form() {
    let mut story = Story::for_haproxy();
    story.step("services/s/domain = s.test", "s.test/", "service=s");
    story.step("services/s/basic_auth_secrets = user a pasword b", "s.test/", "closed|services/s/basic_auth_secrets:");
    story.step("services/s/basic_auth_secrets = user a password b", "s.test/", "service=s");
    story.step("services/s/cookie = insert", "s.test/", "service=s|services/s/cookie");
    story.step(
        "services/s/basic_auth_secrets = x",
        "s.test/",
        "closed|services/s/basic_auth_secrets: services/s/cookie",
    );
    story.step("- services/s/basic_auth_secrets\nservices/s/cookie =", "s.test/", "service=s");
}

/// A file that was cut to nothing, or a script with an empty variable, opens nothing.
#[test]
fn a_key_that_protects_is_not_taken_for_absent_when_it_is_empty() {
    for (key, value) in [("basic_auth_secrets", "user a insecure-password b"), ("forward_auth", "http://10.0.0.2/x")] {
        let mut story = Story::new();
        let empty = format!("services/s/{key} =");
        story.step("services/s/domain = s.test", "s.test/", "service=s");
        story.step(&empty, "s.test/", &format!("closed|services/s/{key} remove&the&key"));
        story.step(&format!("services/s/{key} = {value}"), "s.test/", "service=s");
        story.step(&empty, "s.test/", &format!("closed|services/s/{key}"));
        story.step(&format!("- services/s/{key}"), "s.test/", "service=s");
    }
    // Others keep their last good value; a service that never had one is not served.
    for key in ["allow", "tls_ca"] {
        let value = if key == "allow" { "10.0.0.0/8" } else { "system" };
        let mut story = Story::new();
        story.step(&format!("services/s/domain = s.test\nservices/s/{key} = {value}"), "s.test/", "service=s");
        story.step(&format!("services/s/{key} = "), "s.test/", &format!("service=s|services/s/{key}"));
        let last = story.last.as_ref().expect("compiled");
        let service = last.table.service(pointsman_table::Protocol::Http, "s").expect("served");
        let kept = match key {
            "allow" => service.policy.as_ref().is_some_and(|policy| policy.access.is_some()),
            _ => service.link.is_some(),
        };
        assert!(kept, "{key} is still in force");
    }
    let mut story = Story::new();
    story.step("services/s/domain = s.test\nservices/s/allow =", "s.test/", "closed|services/s/allow");
    story.step("tcp-services/t/port = 1\ntcp-services/t/allow =\n- services/s/allow", "s.test/", "service=s|allow");
    assert!(story.last.as_ref().is_some_and(|last| last.table.tcp().is_empty()));
    // A list of nobody to turn away turns nobody away.
    story.step("services/s/deny =\n-r tcp-services/t", "s.test/", "service=s");
}

#[test]
fn ports_pass_on_when_their_holder_goes() {
    let mut story = Story::new();
    let ports = |story: &Story| story.last.as_ref().map(|last| format!("{:?}", last.table.tcp().len()));
    story.step("tcp-services/b/port = 1", "/", "none");
    story.step("tcp-services/a/port = 1", "/", "none|tcp-services/b/port");
    story.step("tcp-services/b/port = 1,2", "/", "none|tcp-services/b/port");
    assert_eq!(ports(&story).as_deref(), Some("2"));
    story.step("-r tcp-services/a", "/", "none");
    assert_eq!(ports(&story).as_deref(), Some("2"));
}

#[test]
fn an_instance_is_a_loop_while_we_listen_there() {
    let mut story = Story::new();
    story.step("services/s/path = /\nservices/s/a = 127.0.0.1:5432", "/", "service=s instances=1");
    story.step("tcp-services/t/port = 5432", "/", "service=s instances=0|services/s/a loop");
    story.step("- tcp-services/t/port\ntcp-services/t/ports = 5433", "/", "service=s instances=1");
    story.step("services/u/path = /u\nservices/u/a = 203.0.113.5:7\ntcp-services/t/ports = 5433", "/u", "instances=2");
    story.step("tcp-services/t/ports = 203.0.113.5:7", "/u", "instances=1|services/u/a loop");
}

#[test]
fn bad_configuration_keeps_its_last_good_value() {
    let mut story = Story::new();
    let drain = |story: &Story| story.last.as_ref().map(|last| last.table.config().timeouts.drain.as_secs());
    story.step("config/timeout/drain = 7s\nconfig/errors/503 = sorry", "/", "none");
    story.step("config/timeout/drain = soon", "/", "none|config/timeout/drain");
    assert_eq!(drain(&story), Some(7));
    story.step("config/timeout/drain = later\nconfig/limit/headers = 9", "/", "none|config/timeout/drain");
    assert_eq!(drain(&story), Some(7));
    story.step("- config/timeout/drain", "/", "none");
    assert_eq!(drain(&story), Some(60));
    story.step("-r config", "/", "none");
    assert_eq!(story.last.unwrap().table.config().errors.len(), 0);
}

#[test]
fn the_key_set_follows() {
    let keys =
        "services/a/domain = a\nservices/a/upstreams/x = 1\nservices/a/upstreams/y = 1\nservices/a/upstreamsz = 1
        services/b/domain = b\ntcp-services/a/port = 1\nconfig/health_uri = /\ncerts/c = x\nservices//d = x\nnotes = x";
    for (change, left) in [
        ("- services/a/domain", 9),
        ("- services/a", 10),
        ("- services/nope/x", 10),
        ("services/a/domain = a", 10),
        ("services/a/port = 1", 11),
        ("-r services/a/upstreams", 8),
        ("-r services/a", 6),
        ("-r services/a/", 6),
        ("-r services", 4),
        ("-r tcp-services", 9),
        ("-r config", 9),
        ("-r certs", 9),
        ("-r services/", 4),
        ("-r nope", 10),
        ("-r notes", 9),
        ("-r", 0),
    ] {
        let mut keys = crate::key_set(keys);
        keys.apply(7, changes(change));
        assert_eq!((keys.len(), keys.is_empty(), keys.revision()), (left, left == 0, 7), "{change}");
    }
}

impl Story {
    /// The same keys after a restart: only what was kept is known.
    fn restart(&mut self) {
        let memory = self.last.take().map(|last| last.table.memory()).unwrap_or_default();
        let table = Table::recall(memory, &self.limits);
        self.last = Some(Compiled { table, problems: Vec::new(), names: Default::default() });
    }

    fn last_good(&self) -> Vec<String> {
        let table = &self.last.as_ref().expect("a step was made").table;
        table.last_good().map(|(protocol, name, revision)| format!("{protocol}/{name}@{revision}")).collect()
    }
}

#[test]
fn a_restart_changes_nothing_of_what_is_served() {
    let mut story = Story::new();
    story.step("services/s/domain = s.test\nservices/s/a = 10.0.0.1", "s.test/", "service=s instances=1");
    story.step("services/s/port = eighty", "s.test/", "service=s|services/s/port of&revision&1,");
    assert_eq!(story.last_good(), ["services/s@1"]);
    for _ in 0..2 {
        story.restart();
        story.step("services/s/b = 10.0.0.2", "s.test/", "service=s instances=2|services/s/port of&revision&1,");
        assert_eq!(story.last_good(), ["services/s@1"]);
    }
    story.step("services/s/port = 81", "s.test/", "service=s");
    assert!(story.last_good().is_empty());
    story.restart();
    story.step("services/s/port = x\n", "s.test/", "service=s|services/s/port of&revision&5,");
    story.restart();
    story.step("-r services/s", "s.test/", "none");
    story.step("services/s/domain = s.test\nservices/s/port = x", "s.test/", "none|services/s/port");
    // A service that asks for protection is not served with what was kept from before it asked.
    story.step("services/s/port = 1", "s.test/", "service=s");
    story.step("services/s/basic_auth_secrets = user a password b", "s.test/", "closed|basic_auth_secrets");
    story.restart();
    story.step("services/s/port = x", "s.test/", "closed|services/s/port");
}

#[test]
fn the_configuration_and_certificates_are_kept_too() {
    let good = concat!(include_str!("../certificates/leaf.pem"), include_str!("../certificates/leaf.key"));
    let certificate = |value: &str| Change::Put { key: "certs/shop".into(), value: value.as_bytes().into() };
    let mut story = Story::for_haproxy();
    story.keys.apply(1, [certificate(good)]);
    story.step("config/timeout/head = 7s\nconfig/errors/503 = gone", "s.test/", "none");
    story.keys.apply(2, [certificate("broken")]);
    story.step("config/timeout/head = soon\nconfig/errors/503 = gone", "s.test/", "none|timeout/head certs/shop");
    story.restart();
    story.step("", "s.test/", "none|timeout/head certs/shop");
    let table = &story.last.as_ref().expect("a step was made").table;
    assert_eq!(table.config().timeouts.head.as_secs(), 7);
    assert_eq!(table.certs().get("shop").map(|cert| cert.pem.as_str()), Some(good.trim_end()));
}

#[test]
fn keys_that_nobody_reads_are_one_problem_a_tree() {
    let mut story = Story::new();
    story.step("servcies/s/domain = s.test\nservcies/s/a = 10.0.0.1", "s.test/", "none|servcies: mean&services?");
    assert_eq!(story.last.as_ref().map(|last| last.problems.len()), Some(1));
    story.step("- servcies/s/a", "s.test/", "none|servcies:");
    story.step("servcies/s/domain = ", "s.test/", "none");
    story.step("skydns/a = x\nskydns/b/c = x\nbarrier = 4", "s.test/", "none|skydns: another&prefix");
    story.step("-r skydns/b", "s.test/", "none|skydns:");
    story.step("-r skydns", "s.test/", "none");
    story.step("notes = x\nskydns/a = x\nservices/s/domain = s.test", "s.test/", "service=s|notes: skydns:");
    story.step("-r", "s.test/", "none");
}
