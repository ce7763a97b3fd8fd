//! Lookups and compiling, in this process: no socket, no store.

use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_table::{Change, Imagined, KeySet, Limits, Networks, Table, compile};

use crate::options::Options;
use crate::report::{Report, median};

/// Lookups per measurement.
const LOOKUPS: usize = 200_000;

/// Measures lookups by number of services, and compiling at 10,000.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    lookups(options, report);
    patterns(options, report);
    conditions(options, report);
    networks(options, report);
    compiling(options, report);
}

fn lookups(options: &Options, report: &mut Report) {
    let tables = [10, 10_000, 100_000].map(|services| (services, table(&hosts(services))));
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..options.rounds {
        for ((services, table), costs) in tables.iter().zip(&mut costs) {
            costs.push(lookup(table, *services));
        }
    }
    let flat = costs[2].iter().zip(&costs[0]).map(|(many, few)| many / few).collect();
    for ((services, _), costs) in tables.iter().zip(costs) {
        report.hold(format!("lookup by host, {services} services"), median(costs), "ns", 250.0);
    }
    // The same steps, but in memory that is not cached: the deviation from 1 is the cost of memory itself.
    report.note("lookup by host, 100,000 services / 10", median(flat), "x");
}

/// Nanoseconds per lookup, over all hosts in an order that caches cannot predict.
fn lookup(table: &Table, services: usize) -> f64 {
    let names: Vec<String> = (0..services.min(10_000)).map(|n| format!("s{}.test", n * 7919 % services)).collect();
    nanos_each(LOOKUPS, |n| table.route(&names[n % names.len()], "/cart?id=7"))
}

fn patterns(options: &Options, report: &mut Report) {
    let table = table(&(0..1000).map(|n| service(n, "url_reg", &format!("^/s{n}/[a-z]+"))).collect::<Vec<_>>());
    let costs = |target: &str| {
        let once = || nanos_each(LOOKUPS / 20, |_| table.route("any.test", target)) / 1e3;
        median((0..options.rounds).map(|_| once()).collect())
    };
    report.hold("lookup in 1,000 url_reg services, last matches", costs("/s999/cart"), "us", 5.0);
    report.hold("lookup in 1,000 url_reg services, none matches", costs("/nothing/here?at=all"), "us", 5.0);
}

/// Hosts of two services, of which one wants a header.
fn conditions(options: &Options, report: &mut Report) {
    let mut services = hosts(10_000);
    for (number, keys) in services.iter_mut().enumerate().take(1_000) {
        let host = format!("s{}.test", number + 1_000);
        keys.retain(|(key, _)| !key.ends_with("/domain"));
        keys.push((format!("services/s{number}/domain"), host));
        keys.push((format!("services/s{number}/header/X-Beta"), "*".to_owned()));
    }
    let table = table(&services);
    let names: Vec<String> = (0..1_000).map(|n| format!("s{}.test", n * 791 % 1_000 + 1_000)).collect();
    let plain = Imagined::default();
    let headers = vec![("Accept".to_owned(), "*/*".to_owned()), ("X-Beta".to_owned(), "1".to_owned())];
    let beta = Imagined { headers, ..Imagined::default() };
    for (what, asked) in [("the header", &beta), ("no header", &plain)] {
        let once = || nanos_each(LOOKUPS, |n| table.find(&names[n % names.len()], "/cart?id=7", asked));
        let cost = median((0..options.rounds).map(|_| once()).collect());
        report.hold(format!("lookup among 10,000 services, 1,000 want a header, {what}"), cost, "ns", 250.0);
    }
}

/// Whether an address is in one of very many networks.
fn networks(options: &Options, report: &mut Report) {
    let network = |n: usize| format!("{}.{}.{}.0/26", 11 + n / 50_000, n / 200 % 250, n % 200);
    let networks = (0..100_000).map(network).collect::<Vec<_>>().join(",");
    let networks = match Networks::parse(&networks) {
        Ok(networks) => networks,
        Err(error) => return report.fail("networks", &io::Error::other(error)),
    };
    let [first, second, third] = [11, 7, 13].map(|step| move |n: usize| (n * step % 250) as u8);
    let once =
        || nanos_each(LOOKUPS, |n| networks.contain(IpAddr::from([11 + (n % 3) as u8, first(n), second(n), third(n)])));
    let cost = median((0..options.rounds).map(|_| once()).collect());
    report.hold("an address among 100,000 networks", cost, "ns", 200.0);
}

fn compiling(options: &Options, report: &mut Report) {
    let mut key_set = key_set(&hosts(10_000));
    let all = (0..options.rounds).map(|_| millis(|| compile(&key_set, None, &limits())).1).collect();
    report.hold("compile all of 10,000 services of 3 instances", median(all), "ms", 300.0);
    let mut current = compile(&key_set, None, &limits()).table;
    let mut costs = Vec::new();
    for round in 0..options.rounds.max(5) {
        let value = format!("10.1.1.{}:8080", round + 1);
        let key = "services/s5000/s5000-1".into();
        key_set.apply(100 + round as u64, [Change::Put { key, value: value.into_bytes().into() }]);
        let (compiled, cost) = millis(|| compile(&key_set, Some(&current), &limits()));
        current = compiled.table;
        costs.push(cost);
    }
    report.hold("compile one changed instance among 10,000 x 3", median(costs), "ms", 10.0);
}

/// The keys of one service.
pub(crate) type Keys = Vec<(String, String)>;

/// Services of three instances, each with its own host.
pub(crate) fn hosts(services: usize) -> Vec<Keys> {
    (0..services).map(|n| service(n, "domain", &format!("s{n}.test"))).collect()
}

/// A service of three instances with one rule.
pub(crate) fn service(number: usize, rule: &str, value: &str) -> Keys {
    let folder = format!("services/s{number}");
    let [_, high, middle, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let instance = |n: usize| (format!("{folder}/s{number}-{n}"), format!("10.{high}.{middle}.{low}:{}", 8080 + n));
    let mut keys: Keys = (1..=3).map(instance).collect();
    keys.push((format!("{folder}/{rule}"), value.to_owned()));
    keys
}

/// All their keys.
pub(crate) fn key_set(services: &[Keys]) -> KeySet {
    let mut key_set = KeySet::default();
    let keys = services.iter().flatten();
    key_set.reset(1, keys.map(|(key, value)| (key.as_str().into(), value.as_bytes().into())));
    key_set
}

/// Their table.
pub(crate) fn table(services: &[Keys]) -> Arc<Table> {
    let compiled = compile(&key_set(services), None, &limits());
    assert!(compiled.problems.is_empty(), "the bench's own keys: {:?}", compiled.problems.first());
    compiled.table
}

/// The limits of a program at port 80.
pub(crate) fn limits() -> Limits {
    let own: [SocketAddr; 1] = [([127, 0, 0, 1], 80).into()];
    Limits { prefix: "/bench".into(), own: own.into(), ..Limits::default() }
}

/// Nanoseconds that one of so many takes.
pub(crate) fn nanos_each<T>(times: usize, mut work: impl FnMut(usize) -> T) -> f64 {
    let start = Instant::now();
    for n in 0..times {
        black_box(work(black_box(n)));
    }
    start.elapsed().as_secs_f64() * 1e9 / times as f64
}

/// The result of the work, and its duration in milliseconds.
pub(crate) fn millis<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    let spent: Duration = start.elapsed();
    (result, spent.as_secs_f64() * 1e3)
}
