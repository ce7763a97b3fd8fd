//! Leases on a real etcd, through both of its APIs, and in a folder: the same edits give the same results.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

#[path = "../../store/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::registrar::{self, Plan, Report, Wanted};
use pointsman_store::lease::{Claim, Edit, LeaseOutcome, Owner};
use pointsman_store::tenure::{LeaseHolder, LeaseState};
use pointsman_store::{Api, Location, Store, StoreSettings};
use support::{Etcd, Followed, SOON, settings};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

const PREFIX: &str = "/haproxy-haproxy-1";
const TTL: Duration = Duration::from_secs(2);

/// A running store.
struct Place {
    settings: StoreSettings,
    etcd: Option<Etcd>,
    _folder: Option<TempDir>,
}

fn places() -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let directory = settings(Location::Directory(folder.path().to_owned()), Api::Auto, PREFIX);
    let mut places = vec![Place { settings: directory, etcd: None, _folder: Some(folder) }];
    for api in [Api::V2, Api::V3] {
        let etcd = Etcd::v2();
        let settings = settings(Location::Etcd(vec![etcd.url()]), api, PREFIX);
        places.push(Place { settings, etcd: Some(etcd), _folder: None });
    }
    places
}

fn put(key: &str, value: &str) -> Edit {
    Edit::Put { key: format!("{PREFIX}/{key}"), value: value.into() }
}

fn delete(key: &str) -> Edit {
    Edit::Delete { key: format!("{PREFIX}/{key}") }
}

async fn apply(lease: &pointsman_store::lease::Lease<'_>, edits: &[Edit]) -> String {
    let done = lease.apply(edits).await.into_iter().map(|done| match done.unwrap() {
        LeaseOutcome::Done(_) => "done",
        LeaseOutcome::Taken => "taken",
        LeaseOutcome::Ended => "ended",
        LeaseOutcome::Replaced => "replaced",
    });
    done.collect::<Vec<_>>().join(" ")
}

async fn keys(store: &Store) -> String {
    let listing = store.list(PREFIX).await.unwrap();
    let shown = |(key, value): &(Box<str>, Box<[u8]>)| format!("{key}={}", String::from_utf8_lossy(value));
    listing.entries.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn only_its_owner_edits_a_key() {
    for Place { settings, etcd: _etcd, _folder } in places() {
        let what = format!("{:?}", settings.api);
        let store = Store::open(&settings).unwrap();
        store.put(&format!("{PREFIX}/s/by-hand"), b"1").await.unwrap();
        let (one, two) = (Owner::new("agent", "one"), Owner::new("agent", "two"));
        let one = store.lease(&one, TTL, Claim::First).await.unwrap().unwrap();
        let two = store.lease(&two, TTL, Claim::First).await.unwrap().unwrap();
        for (lease, edits, expected) in [
            (&one, vec![put("s/a", "1"), put("s/by-hand", "2")], "done taken"),
            (&two, vec![put("s/a", "2"), put("s/b", "2")], "taken done"),
            (
                &one,
                vec![put("s/a", "3"), delete("s/b"), delete("s/by-hand"), delete("s/none")],
                "done taken taken taken",
            ),
            (&two, vec![delete("s/b"), put("s/b", "4"), put("s/c", "5")], "done done done"),
        ] {
            for (edit, expected) in edits.iter().zip(expected.split(' ')) {
                assert_eq!(apply(lease, std::slice::from_ref(edit)).await, expected, "{what} {edit:?}");
            }
        }
        assert_eq!(keys(&store).await, "s/a=3 s/b=4 s/by-hand=1 s/c=5", "{what}");
        assert_eq!(one.renew().await.unwrap(), LeaseOutcome::Done(0), "{what}");
        // A value that an operator edits keeps its owner.
        store.amend(&format!("{PREFIX}/s/a"), |value| Some([value, b" drain"].concat())).await.unwrap();
        one.renew().await.unwrap();
        assert_eq!(apply(&one, &[put("s/a", "6")]).await, "done", "{what}");
        let held: Vec<_> = one.held().await.unwrap().into_iter().collect();
        assert_eq!(held, [(format!("{PREFIX}/s/a"), b"6".to_vec())], "{what}");
        two.release().await.unwrap();
        assert_eq!(keys(&store).await, "s/a=6 s/by-hand=1", "{what}");
    }
}

#[tokio::test]
async fn a_process_that_comes_back_finds_its_own_and_the_one_before_is_told() {
    for Place { settings, etcd: _etcd, _folder } in places() {
        let what = format!("{:?}", settings.api);
        let store = Store::open(&settings).unwrap();
        let owner = || Owner::new("agent", "one");
        let before = store.lease(&owner(), TTL, Claim::First).await.unwrap().unwrap();
        apply(&before, &[put("s/a", "1"), put("s/b", "1")]).await;
        let in_folder = matches!(settings.location, Location::Directory(_));
        let before = if in_folder {
            drop(before);
            None
        } else {
            Some(before)
        };
        let after = owner();
        let lease = store.lease(&after, TTL, Claim::First).await.unwrap().unwrap();
        assert_eq!(lease.held().await.unwrap().len(), 2, "{what}");
        assert_eq!(apply(&lease, &[put("s/a", "2"), delete("s/b")]).await, "done done", "{what}");
        if let Some(before) = before {
            assert_eq!(before.renew().await.unwrap(), LeaseOutcome::Replaced, "{what}");
            assert_eq!(apply(&before, &[put("s/c", "1")]).await, "replaced", "{what}");
            before.release().await.unwrap();
        }
        assert_eq!(keys(&store).await, "s/a=2", "{what}");
        assert_eq!(lease.renew().await.unwrap(), LeaseOutcome::Done(0), "{what}");
    }
}

#[tokio::test]
async fn keys_of_an_owner_that_is_gone_end() {
    for Place { settings, etcd: _etcd, _folder } in places() {
        let what = format!("{:?}", settings.api);
        let store = Store::open(&settings).unwrap();
        // In a folder, a follower removes expired keys.
        let mut followed = Followed::start(settings);
        let lease = store.lease(&Owner::new("agent", "one"), TTL, Claim::First).await.unwrap().unwrap();
        apply(&lease, &[put("s/a", "1")]).await;
        followed.until("s/a=1").await;
        for _ in 0..8 {
            tokio::time::sleep(TTL / 4).await;
            assert_eq!(lease.renew().await.unwrap(), LeaseOutcome::Done(0), "{what}");
        }
        assert_eq!(keys(&store).await, "s/a=1", "{what}: it was renewed");
        drop(lease);
        followed.until("").await;
    }
}

/// The replaced process stands by, and does not renew what the later one has left.
#[tokio::test]
async fn one_that_was_replaced_comes_back_when_the_later_one_is_gone() {
    for Place { settings, etcd, _folder } in places() {
        // In a folder the first process stays the owner, because it holds the lock.
        if etcd.is_none() {
            continue;
        }
        let what = format!("{:?}", settings.api);
        let store = Store::open(&settings).unwrap();
        let (one, two) = (Owner::new("agent", "one"), Owner::new("agent", "one"));
        let before = store.lease(&one, TTL, Claim::First).await.unwrap().unwrap();
        apply(&before, &[put("s/a", "1")]).await;
        let later = store.lease(&two, TTL, Claim::First).await.unwrap().unwrap();
        assert_eq!(before.renew().await.unwrap(), LeaseOutcome::Replaced, "{what}");
        drop(later);
        let start = Instant::now();
        let again = loop {
            match store.lease(&one, TTL, Claim::Again).await.unwrap() {
                Some(again) => break again,
                None => tokio::time::sleep(TTL / 4).await,
            }
            assert!(start.elapsed() < SOON, "{what}: it never comes back");
        };
        assert_eq!(keys(&store).await, "", "{what}: what it left has ended");
        assert_eq!(apply(&again, &[put("s/a", "2")]).await, "done", "{what}");
    }
}

/// A key that an operator overwrites belongs to the operator, in every store.
#[tokio::test]
async fn what_is_written_over_is_its_writers() {
    for Place { settings, etcd: _etcd, _folder } in places() {
        let what = format!("{:?}", settings.api);
        let store = Store::open(&settings).unwrap();
        let lease = store.lease(&Owner::new("agent", "one"), TTL, Claim::First).await.unwrap().unwrap();
        assert_eq!(apply(&lease, &[put("s/a", "1"), put("s/b", "1")]).await, "done done");
        store.put(&format!("{PREFIX}/s/a"), b"9").await.unwrap();
        assert_eq!(apply(&lease, &[put("s/a", "2"), delete("s/a")]).await, "taken taken", "{what}");
        lease.release().await.unwrap();
        assert_eq!(keys(&store).await, "s/a=9", "{what}");
    }
}

/// Two registrars, like two agents.
#[tokio::test]
async fn registrars_keep_what_is_wanted() {
    for Place { settings, etcd, _folder } in places() {
        let store = Store::open(&settings).unwrap();
        let mut followed = Followed::start(settings.clone());
        let (one, two) =
            (LeaseHolder::new(&store, Owner::new("a", "1"), TTL), LeaseHolder::new(&store, Owner::new("a", "2"), TTL));
        let (plan_one, plans_one) = watch::channel(plan(&[("s/a", "1"), ("s/x", "1")], &[("s/domain", "a.test")]));
        let (plan_two, plans_two) = watch::channel(plan(&[("s/b", "1")], &[("s/domain", "a.test")]));
        let (report, reports) = watch::channel(Report::default());
        let script = async {
            followed.until("s/a=1 s/b=1 s/domain=a.test s/x=1").await;
            // A manually deleted key is written again. A change too short to be seen does not count.
            store.delete(&format!("{PREFIX}/s/b"), false).await.unwrap();
            while keys(&store).await != "s/a=1 s/b=1 s/domain=a.test s/x=1" {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            followed.until("s/a=1 s/b=1 s/domain=a.test s/x=1").await;
            // The registrar that wrote the domain gives it up, and the other one takes it over.
            plan_one.send_replace(plan(&[], &[]));
            followed.until("s/b=1 s/domain=a.test").await;
            plan_one.send_replace(plan(&[("s/a", "2")], &[("s/domain", "a.test")]));
            followed.until("s/a=2 s/b=1 s/domain=a.test").await;
            plan_two.send_replace(plan(&[], &[]));
            followed.until("s/a=2 s/domain=a.test").await;
            let mut reports = reports.clone();
            let settled = reports.wait_for(|report| report.settled && report.keys == 2);
            timeout(SOON, settled).await.expect("a report").unwrap();
            if let Some(etcd) = &etcd {
                outage(etcd, &mut followed, &plan_one).await;
            }
        };
        let other = watch::Sender::new(Report::default());
        tokio::select! {
            () = script => {}
            () = one.run() => panic!("replaced"),
            () = two.run() => panic!("replaced"),
            () = registrar::run(&settings, &one, plans_one, &report) => panic!("ended"),
            () = registrar::run(&settings, &two, plans_two, &other) => panic!("ended"),
        }
        assert!(matches!(*one.state().borrow(), LeaseState::Held { .. }));
        one.release(SOON).await;
        followed.until("").await;
    }
}

/// Stops the store for longer than the lease lives.
async fn outage(etcd: &Etcd, followed: &mut Followed, plans: &watch::Sender<Arc<Plan>>) {
    etcd.signal("-STOP");
    tokio::time::sleep(TTL * 2).await;
    plans.send_replace(plan(&[("s/a", "2"), ("s/new", "1")], &[("s/domain", "a.test")]));
    etcd.signal("-CONT");
    followed.until("s/a=2 s/domain=a.test s/new=1").await;
}

fn plan(instances: &[(&str, &str)], settings: &[(&str, &str)]) -> Arc<Plan> {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<Box<str>, Box<str>> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    };
    let wanted = Wanted { instances: map(instances), settings: map(settings) };
    Arc::new([(PREFIX.to_owned(), wanted)].into())
}
