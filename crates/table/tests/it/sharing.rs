//! What two tables share: a compile costs what changed.

use std::sync::Arc;

use pointsman_table::{Compiled, KeySet, Service, Table, compile};

use crate::{changes, entries, key_set, limits, same_services};

const KEYS: &str = "services/a/domain = a.test
    services/a/i = 10.0.0.1
    services/b/domain = b.test
    services/b/i = 10.0.0.2
    services/c/url_reg = ^/c
    tcp-services/t/port = 5432
    tcp-services/t/i = 127.0.0.1:1";

fn next(key_set: &mut KeySet, before: &Compiled, lines: &str) -> Compiled {
    key_set.apply(key_set.revision() + 1, changes(lines));
    compile(key_set, Some(&before.table), &limits())
}

/// Which services keep their identity over a change.
fn check(lines: &str, kept: &str) {
    let mut key_set = key_set(KEYS);
    let before = compile(&key_set, None, &limits());
    let after = next(&mut key_set, &before, lines);
    assert_eq!(same_services(&before.table, &after.table).join(" "), kept, "{lines}");
}

#[test]
fn unchanged_services_keep_their_identity() {
    check("services/a/domain = a.test", "a b c t");
    check("services/a/i = 10.0.0.9", "b c t");
    check("services/a/domain = x.test", "b c t");
    check("services/a/colour/x = red", "a b c t");
    check("services/a/i = 10.0.0.1:80", "a b c t");
    check("services/d/domain = d.test", "a b c t");
    check("-r services/a", "b c t");
    check("config/limit/headers = 9", "a b c t");
    check("config/timeout/connect = 9s", "");
    check("config/timeout/connect = 5s", "a b c t");
    check("services/b/timeout/connect = 5s\nservices/c/priority = 0", "a b c t");
    check("tcp-services/u/port = 1", "a b c");
    check("-r", "");
}

#[test]
fn a_reset_to_the_same_keys_changes_nothing() {
    let mut key_set = key_set(KEYS);
    let before = compile(&key_set, None, &limits());
    let mut reversed = entries(KEYS);
    reversed.reverse();
    key_set.reset(9, reversed);
    let after = compile(&key_set, Some(&before.table), &limits());
    assert_eq!(same_services(&before.table, &after.table).len(), 4);
    assert!(Arc::ptr_eq(before.table.config(), after.table.config()));
    assert_eq!(after.table.revision(), 9);
    assert_eq!([Table::empty().generation(), before.table.generation(), after.table.generation()], [0, 1, 2]);
}

#[test]
fn other_limits_are_heeded() {
    let key_set = key_set(KEYS);
    let before = compile(&key_set, None, &limits());
    let mut moved = limits();
    moved.own = ["10.0.0.1:80".parse().unwrap()].into();
    let after = compile(&key_set, Some(&before.table), &moved);
    assert_eq!(after.problems.len(), 1);
    assert_eq!(same_services(&before.table, &after.table).join(" "), "b c t");
}

/// There may be many services: what few of them have goes behind a pointer, such as the policy.
#[test]
fn a_service_stays_small() {
    assert!(size_of::<Service>() <= 296, "{} bytes", size_of::<Service>());
}
