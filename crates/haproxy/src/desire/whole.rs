//! One small configuration as a whole, as its readers see it; and many in a row, as the engine makes them.

use pointsman_table::{Capabilities, Change, KeySet, Limits, Target, compile};

use super::tests::World;
use super::*;

#[test]
fn a_small_one_whole() {
    let world = World::of(&[
        "services/shop/domain = shop.test,*.shop.test",
        "services/shop/web-1 = 10.0.0.1:8080 weight=2",
        "services/shop/web-2 = 10.0.0.2:8080",
        "services/api/domain = shop.test",
        "services/api/virtual_path = /api",
        "services/api/api-1 = 10.0.0.3",
        "services/api/custom_settings = http-response set-header X-Served-By api",
        "tcp-services/db/port = 5432",
        "tcp-services/db/db-1 = 10.0.0.4",
    ]);
    let rendered = world.rendered();
    let mut all = rendered.config;
    for file in rendered.files.iter().filter(|file| file.name.ends_with(".map")) {
        all.push_str(&format!("# {}\n{}", file.name, String::from_utf8_lossy(&file.bytes)));
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/desire/small.cfg");
    if std::env::var_os("POINTSMAN_BLESS").is_some() {
        std::fs::write(golden, &all).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert_eq!(all, expected, "if it is better so, run once with POINTSMAN_BLESS=1");
}

/// One table after another, as in the program. With a cache the same comes out, and services that did
/// not change share their backends.
#[test]
fn a_cache_is_only_faster() {
    let (mut key_set, mut cache, mut table) = (KeySet::default(), Cache::default(), Table::empty());
    let (mut world, mut last) = (World::default(), BTreeMap::new());
    let limits = Limits { prefix: "/p".into(), capabilities: Capabilities::HAPROXY, ..Limits::default() };
    for (step, shared) in [
        ("services/web/domain = shop.test", ""),
        ("services/web/a = 10.0.0.1", ""),
        ("services/api/domain = api.test", "web"),
        ("services/api/a = known.test", "web"),
        ("services/z/url_reg = ^/z", "api web"),
        ("services/web/b = 10.0.0.2", "api z"),
        ("services/api/domain = other.test", "web z"),
        ("tcp-services/db/port = 5432", "api web z"),
        ("tcp-services/db/sni = db.test", "api web z"),
        ("services/web/upstreams/c = unix:/run/$x", "api z db"),
        ("addresses", ""),
        ("config/timeout/connect = 1s", ""),
        ("held", "api web z"),
        ("services/api/a = ", "web z"),
        ("free", "api web z"),
        ("services/z/url_reg = ", "api web db"),
        ("version", ""),
    ] {
        match step {
            "addresses" => drop(world.addresses.insert(Target::Name("known.test".into(), 80), [10, 9, 9, 9].into())),
            "version" => world.shape.version.minor = 4,
            "held" => {
                let service = table.service(Protocol::Tcp, "db").unwrap();
                world.held.services.insert((Protocol::Tcp, service.name.clone()), None);
            }
            "free" => world.held.services.clear(),
            row => {
                let (key, value) = row.split_once(" = ").unwrap();
                key_set.apply(1, [Change::Put { key: key.into(), value: value.as_bytes().into() }]);
            }
        }
        table = compile(&key_set, Some(&table), &limits).table;
        let (desired, problems) = desire_cached(&mut cache, &table, &world.held, &world.addresses, &world.shape);
        let same = |(name, backend): &(&BackendName, &Arc<Backend>)| {
            last.get(*name).is_some_and(|last| Arc::ptr_eq(last, backend))
        };
        let names = desired.backends.iter().filter(same).map(|(name, _)| name.split_once(':').unwrap().1);
        assert_eq!(names.collect::<Vec<_>>().join(" "), shared, "{step}");
        last.clone_from(&desired.backends);
        assert_eq!((desired, problems), desire(&table, &world.held, &world.addresses, &world.shape), "{step}");
    }
}
