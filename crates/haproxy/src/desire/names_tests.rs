//! What is wanted of instances that have a host name.

use std::sync::Arc;

use pointsman_table::{KeySet, Limits, Names, Resolved, Target, compile};

use super::super::model::Address;
use super::*;

/// Of several addresses the one that was chosen, as long as the name has it.
#[test]
fn names_that_are_known_come_with_the_table() {
    let key_set = |keys: &[(&str, &str)]| {
        let mut key_set = KeySet::default();
        key_set.reset(1, keys.iter().map(|(key, value)| ((*key).into(), value.as_bytes().into())));
        key_set
    };
    let keys = key_set(&[("services/web/domain", "shop.test"), ("services/web/a", "two.test:80")]);
    let resolved = Resolved {
        addresses: [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()].into(),
        records: Box::default(),
        failure: None,
    };
    let names = Names::from([("two.test".into(), resolved)]);
    let table = compile(&keys, None, &Limits { names: Some(Arc::new(names)), ..Limits::default() }).table;
    for (chosen, expected) in [(None, 1), (Some(2), 2), (Some(9), 1)] {
        let chosen = chosen.map(|last| (Target::Name("two.test".into(), 80), [10, 0, 0, last].into()));
        let addresses = chosen.into_iter().collect();
        let (desired, _) = desire(&table, &Held::new(), &addresses, &Shape::sample());
        let address = &desired.backends["services:web"].servers[0].address;
        assert_eq!(*address, Address::Socket([10, 0, 0, expected].into(), 80));
        let template = Some("{{ services[0].instances[0].target }}".into());
        let (desired, _) = desire(&table, &Held::new(), &addresses, &Shape { template, ..Shape::sample() });
        assert_eq!(&*desired.frame[0].text, format!("10.0.0.{expected}:80"));
    }
}
