//! Rows: a template in, what it comes to or what is wrong with it.

use pointsman_table::{KeySet, Limits, compile};

use super::*;

fn table() -> Arc<Table> {
    let keys = [
        ("services/shop/domain", "shop.test,*.shop.test"),
        ("services/shop/a", "10.0.0.1:80 weight=3"),
        ("services/x\ny/domain", "b.test"),
        ("services/x\ny/upstreams/a b", "[::1]:81"),
        ("tcp-services/db/port", "5432"),
    ];
    let mut key_set = KeySet::default();
    let entry = |(key, value): (&str, &str)| (key.into(), value.as_bytes().into());
    key_set.reset(7, keys.map(entry));
    compile(&key_set, None, &Limits::default()).table
}

fn sections() -> Sections {
    let owned = |text: &str, owner| Part { text: text.into(), owner: Some(owner) };
    Sections {
        global: vec![
            Part::ours("global\n    nbthread 1\n"),
            owned("    maxconn 5\n", Owner::Setting("x")),
            Part::ours("\n"),
        ],
        defaults: vec![Part::ours("defaults\n    mode http\n\n")],
        http: vec![Part::ours("frontend http\n\n")],
        tcp: vec![owned("frontend tcp\n\n", Owner::Cert("y".into()))],
        rules: "    rule one\n    rule two\n".to_owned(),
    }
}

/// Each part's text, with its owner in front where that is not the template.
fn outcome(source: &str) -> String {
    let table = table();
    match frame(source, &table, table.services(), &Addresses::new(), &Shape::sample(), &sections()) {
        Err(why) => format!("error: {why}"),
        Ok(parts) => parts.iter().map(shown).collect(),
    }
}

fn shown(part: &Part) -> String {
    match &part.owner {
        Some(owner) if *owner == TEMPLATE => part.text.to_string(),
        Some(Owner::Setting(name)) => format!("<{name}>{}", part.text),
        Some(owner) => format!("<{owner:?}>{}", part.text),
        None => format!("<ours>{}", part.text),
    }
}

#[test]
fn what_templates_come_to() {
    for (source, expected) in [
        ("plain\n", "plain\n"),
        ("{{ global }}\n    more\n", "global\n    nbthread 1\n<x>    maxconn 5\n    more\n"),
        (
            "{{ frontends }}\n{{ backends }}\n",
            "frontend http\n\n<Cert(\"y\")>frontend tcp\n<ours># pointsman: backends\n\n",
        ),
        ("{{ rules }}\n", "    rule one\n    rule two\n"),
        ("{{ defaults }}\n", "defaults\n    mode http\n"),
        (
            "{% for s in services %}\n    {% if s.protocol == 'http' %}\nbackend {{ s.name }}\n    {% endif %}\n{% endfor %}\n",
            "backend shop\nbackend x\\x0ay\n",
        ),
        (
            "{% for s in services %}{{ s.backend }}:{% for i in s.instances %} server {{ i.name }} {{ i.target }} weight {{ i.weight }}{% endfor %};{% endfor %}",
            "services:shop: server a 10.0.0.1:80 weight 3;services:x:0Ay: server a\\ b [::1]:81 weight 1;tcp-services:db:;",
        ),
        ("{{ services[0].hosts | join(' ') | safe }}", "shop.test *.shop.test"),
        ("{{ services[0].hosts | join(' ') }}", "shop.test\\ *.shop.test"),
        ("{{ services[2].binds[0] }} {{ services[2].balance }}", "0.0.0.0:5432 leastconn"),
        ("{{ config.timeout.connect }} {{ config.headers }} {{ revision }}", "5000 128 7"),
        ("{{ services[0].default }} {{ 'a b#' }} {{ '' }}", "false a\\ b\\# \"\""),
    ] {
        assert_eq!(outcome(source), expected, "{source}");
    }
}

#[test]
fn what_is_wrong_with_templates() {
    for (source, expected) in [
        ("a\nb\n{{ nonsense }}", "error: line 3: undefined value"),
        ("a\n{{ services[0].nam }}", "error: line 2: undefined value"),
        ("\n{% if %}", "error: line 2: syntax error: "),
        ("{% for s in services %}", "error: line 1: syntax error: "),
        ("{{ 1 | nonsense }}", "error: line 1: unknown filter: "),
        ("\n\n{{ config.health_uri }}", "error: line 3: invalid operation: it has no value here; test it"),
        ("{{ services }}", "error: line 1: invalid operation: a sequence is no text; print one of its parts"),
        ("{{ backends }}\n{{ backends }}\n", "error: {{ backends }} is in it more than once"),
        ("{% include '/etc/passwd' %}", "error: line 1: "),
    ] {
        let said = outcome(source);
        assert!(said.starts_with(expected), "{source}: {said} is not {expected}");
    }
}

#[test]
fn no_secret_is_within_reach() {
    let said = format!("{:?}", outcome("{{ services[0].basic_auth_secrets }}"));
    assert!(said.contains("undefined"), "{said}");
}
