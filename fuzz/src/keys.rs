//! Any set of keys makes a table, the same one step by step as at once, and every lookup in it has a reason.

use pointsman_table::{Capabilities, Change, Compiled, Imagined, KeySet, Limits, compile};

/// More keys than this find nothing new, and take longer.
const MOST_KEYS: usize = 40;
/// What is looked up in each table.
const REQUESTS: &[(&str, &str)] =
    &[("a.test", "/"), ("b.a.test:80", "/a/b?c"), ("A.TEST.", "/a"), ("", "*"), ("x", "/%2f")];

/// Lines of `key = value`; `- key` deletes one, and `-r key` all below it.
pub(crate) fn run(input: &[u8]) {
    for capabilities in [Capabilities::NATIVE, Capabilities::HAPROXY] {
        let limits =
            Limits { prefix: "/p".into(), own: [([0, 0, 0, 0], 80).into()].into(), capabilities, ..Limits::default() };
        let (mut key_set, mut last) = (KeySet::default(), None::<Compiled>);
        for (revision, line) in (1..).zip(input.split(|byte| *byte == b'\n').take(MOST_KEYS)) {
            key_set.apply(revision, [change(line)]);
            let step = compile(&key_set, last.as_ref().map(|last| &*last.table), &limits);
            look(&step);
            last = Some(step);
        }
        let whole = compile(&key_set, None, &limits);
        look(&whole);
        if let Some(last) = last.filter(|last| !has_history(last)) {
            assert_eq!(picture(&last), picture(&whole));
        }
    }
}

fn change(line: &[u8]) -> Change {
    let text = String::from_utf8_lossy(line);
    if let Some(key) = text.strip_prefix("-r ") {
        return Change::DeleteTree { key: key.trim().into() };
    }
    if let Some(key) = text.strip_prefix("- ") {
        return Change::Delete { key: key.trim().into() };
    }
    // The value as it came: it need not be text.
    let at = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
    let key = String::from_utf8_lossy(&line[..at]);
    Change::Put { key: key.trim().into(), value: line[at..].get(1..).unwrap_or_default().trim_ascii().into() }
}

fn look(compiled: &Compiled) {
    for (host, target) in REQUESTS {
        let found = compiled.table.route(host, target).map(|route| route.service);
        let explained = compiled.table.explain(host, target, &Imagined::default()).chosen.map(|chosen| chosen.index);
        assert_eq!(found, explained, "{host}{target}");
    }
}

/// Whether something is served in a last good form: then the way matters, not the keys alone.
fn has_history(compiled: &Compiled) -> bool {
    compiled.problems.iter().any(|problem| matches!(problem.kind.as_str(), "bad_value" | "no_rule"))
}

fn picture(compiled: &Compiled) -> String {
    let table = &compiled.table;
    let sni: Vec<_> = table.tcp().iter().map(|(bind, _)| table.sni(*bind)).collect();
    format!("{:#?}\n{:?}\n{sni:?}\n{:?}\n{:?}", table.services(), table.tcp(), table.config(), compiled.problems)
}
