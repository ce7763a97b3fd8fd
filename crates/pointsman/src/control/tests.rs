//! Tests the loop through its channels, on a clock that only moves when all tasks wait.

use std::collections::BTreeSet;
use std::time::Duration;

use pointsman_engine::inherited::Inherited;
use pointsman_table::{Bind, Change, Problem, Resolved, guard_share};
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::*;
use pointsman_store::Outage;

/// When the certificate in the folder of `table`'s tests becomes valid, and when it expires.
const VALID: u64 = 1_767_225_600;
const EXPIRES: u64 = 4_922_985_600;

/// A running loop.
struct Bench {
    updates: mpsc::Sender<Update>,
    condition: watch::Sender<Condition>,
    applied: mpsc::Sender<Applied>,
    names: watch::Sender<Arc<Names>>,
    wanted: watch::Receiver<HostNames>,
    tables: watch::Receiver<Arc<Table>>,
    status: watch::Receiver<Status>,
    released: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    served: watch::Receiver<Option<Arc<KeySet>>>,
    control: JoinHandle<()>,
}

fn bench() -> Bench {
    bench_with(None, None)
}

/// With a snapshot, and a guard of this share.
fn bench_with(standby: Option<Standby>, share: Option<&str>) -> Bench {
    bench_of(standby, share, watch::channel(Some(IssuedCerts::default())).1)
}

/// The same, with these certificates that we had issued.
fn bench_of(standby: Option<Standby>, share: Option<&str>, issued: watch::Receiver<Option<IssuedCerts>>) -> Bench {
    let (updates, from_store) = mpsc::channel(64);
    let (condition, told) = watch::channel(Condition::Connecting { error: None });
    let (applied, from_engine) = mpsc::channel(8);
    let (to_engine, tables) = watch::channel(Table::empty());
    let (to_admin, status) = watch::channel(Status::new());
    let (names, told_names) = watch::channel(Arc::default());
    let (to_names, wanted) = watch::channel(HostNames::default());
    let (released, told_releases) = watch::channel(0);
    let (to_keeper, served) = watch::channel(None);
    let (ended, told_end) = watch::channel(false);
    let channels = ControlChannels {
        updates: from_store,
        condition: told,
        names: told_names,
        wanted: to_names,
        applied: from_engine,
        certs: watch::channel(Some(Arc::default())).1,
        issued,
        around: watch::channel(Around::default()).1,
        released: told_releases,
        ended: told_end,
        served: to_keeper,
        tables: to_engine,
        status: to_admin,
        timeline: Timeline::default(),
    };
    let inputs = ControlInputs {
        prefix: "/p".into(),
        own: Box::default(),
        places: Places::default(),
        probe: PortProbe::new(|_| Ok(()), Inherited::default()),
        local: Vec::new,
        now,
        capabilities: Capabilities::HAPROXY,
        usual_https: Box::default(),
        listeners: None,
        defaults: Defaults::new(Some("/up"), None),
        guard: GuardSettings {
            share: share.and_then(|share| guard_share(share).unwrap()),
            hold: Duration::from_secs(600),
        },
        standby,
        recorder: Recorder::default(),
        cluster: ClusterId::default(),
    };
    let control = tokio::spawn(run(inputs, channels));
    Bench { updates, condition, applied, names, wanted, tables, status, released, served, ended, control }
}

/// Ten seconds before the certificate of the tests becomes valid, when it is first asked for.
fn now() -> SystemTime {
    thread_local!(static START: Instant = Instant::now());
    SystemTime::UNIX_EPOCH + Duration::from_secs(VALID - 10) + START.with(Instant::elapsed)
}

fn entry(key: &str, value: &str) -> (Box<str>, Box<[u8]>) {
    (key.into(), value.as_bytes().into())
}

fn put(revision: u64, key: &str, value: &str) -> Update {
    let (key, value) = entry(key, value);
    Update::Changes { revision, changes: vec![Change::Put { key, value }] }
}

fn listing(revision: u64) -> Update {
    let entries = vec![entry("services/a/domain", "a.test"), entry("services/a/one", "127.0.0.1:1")];
    Update::Reset { revision, entries }
}

fn swaps(bench: &Bench) -> u64 {
    bench.status.borrow().swaps
}

#[tokio::test(start_paused = true)]
async fn serves_nothing_before_the_first_listing() {
    let mut bench = bench();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(swaps(&bench), 0);
    assert_eq!(bench.status.borrow().unready(), Some("the store was not read yet"));
    bench.updates.send(listing(7)).await.unwrap();
    bench.tables.changed().await.unwrap();
    assert_eq!(bench.tables.borrow().revision(), 7);
    assert_eq!(bench.tables.borrow().services().len(), 1);
    assert_eq!(bench.tables.borrow().config().health_uri.as_deref(), Some("/up"));
    assert_eq!(bench.status.borrow().unready(), Some("the engine does not use the first table yet"));
    for (generation, revision, ready) in [(0, 0, false), (1, 6, true), (2, 7, true)] {
        bench.applied.send(Applied { generation, revision, ..Applied::default() }).await.unwrap();
        bench.status.wait_for(|status| status.applied == revision && status.swaps == 1).await.unwrap();
        assert_eq!(bench.status.borrow().unready().is_none(), ready, "after {revision}");
    }
}

/// A listing that is read again has the same revision, but the table's other inputs may have changed.
#[tokio::test(start_paused = true)]
async fn two_tables_of_one_revision_are_told_apart() {
    let mut bench = bench();
    let mut seen = Vec::new();
    for swaps in 1..=2 {
        bench.updates.send(listing(7)).await.unwrap();
        bench.status.wait_for(|status| status.swaps == swaps).await.unwrap();
        seen.push(Arc::clone(&bench.tables.borrow_and_update()));
    }
    assert_eq!(seen.iter().map(|table| table.revision()).collect::<Vec<_>>(), [7, 7]);
    for (table, is_newest) in seen.iter().zip([false, true]) {
        bench.applied.send(Applied::new(table, Vec::new(), BTreeSet::new())).await.unwrap();
        let status = bench.status.wait_for(|status| status.generation == table.generation()).await.unwrap();
        let newest = status.table.as_ref().map(|newest| newest.generation());
        assert_eq!((status.applied, newest == Some(status.generation)), (7, is_newest));
    }
}

/// Changes at this interval in milliseconds, and the number of tables: a long burst is cut every 10 to 50 ms, depending
/// on the cost of compiling here.
#[tokio::test(start_paused = true)]
async fn a_burst_is_one_table_and_a_long_one_a_few() {
    for (count, apart, expected) in [(1, 0, 1..=1), (20, 0, 1..=1), (4, 2, 1..=1), (3, 10, 3..=3), (60, 2, 3..=12)] {
        let bench = bench();
        bench.updates.send(listing(1)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let before = swaps(&bench);
        for index in 0..count {
            bench.updates.send(put(2 + index, &format!("services/a/web-{index}"), "127.0.0.1:2")).await.unwrap();
            sleep(Duration::from_millis(apart)).await;
        }
        sleep(Duration::from_secs(1)).await;
        let tables = swaps(&bench) - before;
        assert!(expected.contains(&tables), "{count} changes {apart} ms apart: {tables} tables");
        assert_eq!(bench.tables.borrow().revision(), 1 + count);
        assert_eq!(bench.tables.borrow().services()[0].instances.len() as u64, 1 + count);
    }
}

#[tokio::test(start_paused = true)]
async fn an_isolated_change_waits_5_ms() {
    let bench = bench();
    bench.updates.send(listing(1)).await.unwrap();
    sleep(Duration::from_millis(4)).await;
    assert_eq!(swaps(&bench), 0);
    advance(Duration::from_millis(2)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(swaps(&bench), 1);
}

#[tokio::test(start_paused = true)]
async fn losing_the_store_changes_nothing_served() {
    let mut bench = bench();
    bench.updates.send(listing(9)).await.unwrap();
    bench.tables.changed().await.unwrap();
    bench.condition.send(Condition::Lost { error: Outage::new("failed", "gone") }).unwrap();
    bench.status.wait_for(|status| matches!(status.condition, Condition::Lost { .. })).await.unwrap();
    assert_eq!(swaps(&bench), 1);
    assert_eq!(bench.tables.borrow().services().len(), 1);
    // A restored store comes back at an older revision, and the loop accepts it.
    bench.updates.send(listing(3)).await.unwrap();
    bench.tables.changed().await.unwrap();
    assert_eq!(bench.tables.borrow().revision(), 3);
}

#[tokio::test(start_paused = true)]
async fn problems_of_keys_and_of_the_engine_are_kept_apart() {
    let mut bench = bench();
    bench.updates.send(listing(1)).await.unwrap();
    bench.updates.send(put(2, "services/a/priority", "high")).await.unwrap();
    bench.status.wait_for(|status| status.swaps == 1).await.unwrap();
    assert_eq!(bench.status.borrow().found.len(), 1);
    let refused = Problem {
        key: "/p/tcp-services/db/port".into(),
        value: Some("80".into()),
        kind: pointsman_table::ProblemKind::Listen,
        service: None,
        advice: "the port is taken".into(),
    };
    bench
        .applied
        .send(Applied { generation: 1, revision: 2, problems: vec![refused.clone()], ..Applied::default() })
        .await
        .unwrap();
    bench.status.wait_for(|status| status.applied == 2).await.unwrap();
    assert_eq!(bench.status.borrow().problems().count(), 2);
    bench.updates.send(put(3, "services/a/priority", "1")).await.unwrap();
    bench.status.wait_for(|status| status.swaps == 2).await.unwrap();
    assert_eq!(bench.status.borrow().problems().collect::<Vec<_>>(), [&refused]);
}

#[tokio::test(start_paused = true)]
async fn what_came_in_before_the_end_is_published() {
    let Bench { updates, tables, control, condition: _condition, applied: _applied, .. } = bench();
    updates.send(listing(5)).await.unwrap();
    drop(updates);
    control.await.unwrap();
    assert_eq!(tables.borrow().revision(), 5);
}

fn known(name: &str) -> Arc<Names> {
    let resolved = Resolved { addresses: [[10, 0, 0, 1].into()].into(), records: Box::default(), failure: None };
    Arc::new(Names::from([(name.into(), resolved)]))
}

fn named(key: &str, name: &str) -> Update {
    let entries = vec![entry("services/a/domain", "a.test"), entry(key, name)];
    Update::Reset { revision: 1, entries }
}

/// Nobody is served before the first table, and the name servers of some names may be silent.
#[tokio::test(start_paused = true)]
async fn the_first_table_waits_a_moment_for_its_names() {
    let mut bench = bench();
    bench.updates.send(named("services/a/one", "web.test:80")).await.unwrap();
    let wanted = bench.wanted.wait_for(|wanted| !wanted.is_empty()).await.unwrap().clone();
    assert!(wanted.iter().map(|name| &**name).eq(["web.test"]));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(swaps(&bench), 0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((swaps(&bench), bench.status.borrow().found.len()), (1, 1), "no longer than that");
    bench.names.send(known("web.test")).unwrap();
    bench.status.wait_for(|status| status.swaps == 2 && status.found.is_empty()).await.unwrap();
    bench.updates.send(put(2, "services/a/two", "dead.test:80")).await.unwrap();
    sleep(Duration::from_millis(20)).await;
    assert_eq!(swaps(&bench), 3, "a later table does not wait");
}

#[tokio::test(start_paused = true)]
async fn the_first_table_comes_with_its_names() {
    let mut bench = bench();
    bench.updates.send(named("services/a/one", "web.test:80")).await.unwrap();
    bench.wanted.wait_for(|wanted| !wanted.is_empty()).await.unwrap();
    bench.names.send(known("web.test")).unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(swaps(&bench), 1);
    assert!(bench.status.borrow().found.is_empty());
}

/// The engine has the last word on where it listens.
#[tokio::test(start_paused = true)]
async fn a_port_that_the_engine_cannot_open_is_not_ours() {
    let mut bench = bench();
    bench.updates.send(listing(1)).await.unwrap();
    bench.updates.send(put(2, "tcp-services/t/port", "1")).await.unwrap();
    let loops = |status: &Status| status.found.iter().any(|problem| problem.kind.as_str() == "loop");
    bench.status.wait_for(|status| status.swaps == 1 && loops(status)).await.unwrap();
    let table = bench.status.borrow().table.clone().unwrap();
    bench.applied.send(Applied::new(&table, Vec::new(), BTreeSet::new())).await.unwrap();
    bench.status.wait_for(|status| status.swaps == 2 && !loops(status)).await.unwrap();
    let table = bench.status.borrow().table.clone().unwrap();
    let bound = BTreeSet::from([Bind { address: [0, 0, 0, 0].into(), port: 1 }]);
    bench.applied.send(Applied::new(&table, Vec::new(), bound)).await.unwrap();
    bench.status.wait_for(|status| status.swaps == 3 && loops(status)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_becomes_a_problem_by_time_alone() {
    let mut bench = bench();
    let pem = concat!(
        include_str!("../../../table/tests/certificates/leaf.pem"),
        include_str!("../../../table/tests/certificates/leaf.key")
    );
    now();
    bench.updates.send(Update::Reset { revision: 1, entries: vec![entry("certs/shop", pem)] }).await.unwrap();
    let kinds = |status: &Status| status.problems().map(|problem| problem.kind.as_str()).collect::<Vec<_>>();
    for (expected, seconds) in
        [("not_valid", 0), ("", 10), ("expires_soon", EXPIRES - VALID - 14 * 86_400), ("not_valid", 14 * 86_400 + 1)]
    {
        // One look a minute: a hundred years of them would take long.
        advance(Duration::from_secs(seconds)).await;
        let expected = if expected.is_empty() { vec![] } else { vec![expected] };
        let status = bench.status.wait_for(|status| status.swaps == 1 && kinds(status) == expected).await.unwrap();
        assert_eq!(
            status.problems().map(|problem| &*problem.key).collect::<Vec<_>>(),
            vec!["/p/certs/shop"; expected.len()]
        );
    }
    assert_eq!(swaps(&bench), 1, "no key changed");
}

fn snapshot(instances: usize) -> Standby {
    let one = |number| entry(&format!("services/a/i{number}"), "127.0.0.1:1");
    let mut keys = KeySet::default();
    keys.reset(7, (0..instances).map(one).chain([entry("services/a/domain", "a.test")]));
    Standby { keys, at: SystemTime::now(), cluster: 0 }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_does_not_wait_for_certificates_of_a_store_that_is_away() {
    for (outage, within) in [(true, 250), (false, 700)] {
        let (_unread, issued) = watch::channel(None);
        let bench = bench_of(Some(snapshot(1)), None, issued);
        if outage {
            let error = Some(Outage::new("failed", "gone"));
            bench.condition.send_replace(Condition::Connecting { error });
        }
        sleep(Duration::from_millis(within)).await;
        assert_eq!(swaps(&bench), 1, "{outage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_served_until_the_store_answers() {
    let mut bench = bench_with(Some(snapshot(1)), Some("50%"));
    sleep(Duration::from_millis(250)).await;
    assert_eq!(swaps(&bench), 0, "the store may still answer");
    sleep(Duration::from_millis(100)).await;
    assert_eq!((swaps(&bench), bench.tables.borrow().revision()), (1, 7));
    assert_eq!(bench.status.borrow().snapshot.unwrap().revision, 7);
    let lost = bench.status.borrow().store_lost().unwrap();
    assert!(lost.starts_with("serving the snapshot of revision 7, 20"), "{lost}");
    sleep(Duration::from_secs(10)).await;
    assert!(bench.served.borrow().is_none(), "it is not written again");
    bench.updates.send(listing(9)).await.unwrap();
    bench.status.wait_for(|status| status.swaps == 2).await.unwrap();
    assert!(bench.status.borrow().snapshot.is_none() && bench.status.borrow().store_lost().is_none());
    let kept = bench.served.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert_eq!(kept.revision(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_store_out_of_reach_is_not_waited_for() {
    let bench = bench_with(Some(snapshot(1)), None);
    bench.condition.send(Condition::Connecting { error: Some(Outage::new("failed", "gone")) }).unwrap();
    sleep(Duration::from_millis(20)).await;
    assert_eq!((swaps(&bench), bench.tables.borrow().revision()), (1, 7));
}

/// A wipe since the snapshot, which was served or not; released later.
#[tokio::test(start_paused = true)]
async fn what_is_lost_since_the_snapshot_is_held() {
    for waits in [0, 1000] {
        let mut bench = bench_with(Some(snapshot(12)), Some("50%"));
        sleep(Duration::from_millis(waits)).await;
        bench.updates.send(Update::Reset { revision: 9, entries: Vec::new() }).await.unwrap();
        bench.status.wait_for(|status| status.held.is_some() && status.table.is_some()).await.unwrap();
        sleep(Duration::from_secs(2)).await;
        let table = bench.tables.borrow().clone();
        assert_eq!((table.revision(), table.services()[0].instances.len()), (9, 12), "after {waits} ms");
        assert_eq!(bench.status.borrow().problems().next().unwrap().kind.as_str(), "held");
        assert_eq!(bench.served.borrow().as_ref().unwrap().len(), 14, "what is served is kept");
        bench.released.send(1).unwrap();
        bench.status.wait_for(|status| status.held.is_none()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(bench.tables.borrow().services().is_empty());
    }
}

/// The end may come before a table was in use for a moment.
#[tokio::test(start_paused = true)]
async fn the_last_keys_are_handed_on_at_the_end() {
    let mut bench = bench_with(Some(snapshot(12)), Some("50%"));
    bench.updates.send(Update::Reset { revision: 9, entries: Vec::new() }).await.unwrap();
    bench.status.wait_for(|status| status.held.is_some() && status.table.is_some()).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    bench.released.send(1).unwrap();
    bench.status.wait_for(|status| status.held.is_none()).await.unwrap();
    bench.ended.send(true).unwrap();
    while bench.served.changed().await.is_ok() {}
    assert_eq!(bench.served.borrow().as_ref().unwrap().len(), 1, "only the default is left");
}
