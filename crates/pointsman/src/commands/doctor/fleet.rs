//! The balancers of the id: versions, revisions, lost stores, holds.

use std::collections::BTreeSet;

use super::observation::Observation;
use crate::control::plural;
use crate::fleet::{Member, Stage};

const SUBJECT: &str = "fleet";

pub(super) fn unread(why: &str) -> Observation {
    let remedy = "allow this user to read /_pointsman/ in etcd, or give --etcd-user";
    Observation::note(SUBJECT, format!("the status of the balancers cannot be read: {why}"), remedy)
}

/// `is_running`: one answers on `--admin`.
pub(super) fn observe(members: &[Member], is_running: bool) -> Vec<Observation> {
    if members.is_empty() {
        return match is_running {
            true => {
                let what = "the balancer does not show its status in the store";
                vec![Observation::note(SUBJECT, what, "pointsman status; may its etcd user write below /_pointsman/?")]
            }
            false => vec![Observation::ok(SUBJECT, "no balancer of this id is live")],
        };
    }
    let mut all: Vec<_> = members.iter().flat_map(of_member).collect();
    all.extend(versions(members));
    all.extend(behind(members));
    if all.is_empty() {
        all.push(Observation::ok(
            SUBJECT,
            format!("{}, all at one revision and version", plural(members.len(), "balancer")),
        ));
    }
    all
}

fn of_member(member: &Member) -> Vec<Observation> {
    let name = &member.name;
    let mut all = Vec::new();
    if let Some(lost) = &member.store {
        all.push(Observation::wrong(
            SUBJECT,
            format!("{name}: {lost}"),
            "see store; on that machine, run pointsman doctor",
        ));
    }
    if let Some(held) = &member.held {
        let what = format!("{name}: the guard holds {} that the store no longer has", plural(held.keys, "key"));
        all.push(Observation::wrong(SUBJECT, what, "pointsman guard; if that was meant, pointsman guard release"));
    }
    if member.stage != Stage::Serving {
        all.push(Observation::note(SUBJECT, format!("{name} is draining"), "pointsman status"));
    }
    all
}

fn versions(members: &[Member]) -> Option<Observation> {
    let versions: BTreeSet<_> = members.iter().map(|member| member.version.as_str()).collect();
    let own = env!("CARGO_PKG_VERSION");
    let named = versions.iter().copied().collect::<Vec<_>>().join(" and ");
    match versions.len() {
        1 if versions.contains(own) => None,
        1 => {
            let what = format!("the balancers have version {named}, this program {own}");
            Some(Observation::note(SUBJECT, what, "use a program of their version, or upgrade them"))
        }
        _ => {
            let what = format!("the balancers have the versions {named}");
            Some(Observation::note(SUBJECT, what, "pointsman status names them; finish the upgrade"))
        }
    }
}

/// Those that serve an older revision than another. A folder has none: each counts by itself.
fn behind(members: &[Member]) -> Option<Observation> {
    let serving = || members.iter().filter(|member| member.stage == Stage::Serving && member.barrier.is_none());
    let newest = serving().map(|member| member.revision).max()?;
    let late: Vec<_> = serving().filter(|member| member.revision < newest).collect();
    let named = late.iter().map(|member| format!("{} serves revision {}", member.name, member.revision));
    let named: Vec<_> = named.collect();
    let what = format!("{}, others {newest}", named.join(", "));
    (!late.is_empty())
        .then(|| Observation::note(SUBJECT, what, "pointsman wait says whether that is only for a moment"))
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;
    use crate::fleet::HeldCount;

    fn member(name: &str, change: impl FnOnce(&mut Member)) -> Member {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut member = Member { name: name.to_owned(), version, revision: 7, ..Member::default() };
        change(&mut member);
        member
    }

    #[test]
    fn what_differs_is_told() {
        check(&observe(&[], false), &["ok: no balancer"]);
        check(&observe(&[], true), &["note: the balancer does not show"]);
        check(&observe(&[member("a", |_| ()), member("b", |_| ())], true), &["ok: 2 balancers, all at one revision"]);
        let of = |change: fn(&mut Member)| observe(&[member("a", |_| ()), member("b", change)], true);
        check(&of(|b| b.revision = 5), &["note: b serves revision 5, others 7 | pointsman wait"]);
        check(&of(|b| b.version = "0.0.1".to_owned()), &["note: the balancers have the versions 0.0.1 and"]);
        check(&of(|b| b.store = Some("gone".to_owned())), &["wrong: b: gone"]);
        check(&of(|b| b.stage = Stage::Draining), &["note: b is draining"]);
        let held = HeldCount { services: 1, instances: 1, keys: 3, since: 0, until: 0 };
        let holds = observe(&[member("b", |b| b.held = Some(held))], true);
        check(&holds, &["wrong: b: the guard holds 3 keys that the store no longer has | pointsman guard"]);
        check(
            &observe(&[member("a", |a| a.version = "0.0.1".to_owned())], true),
            &["note: the balancers have version 0.0.1, this"],
        );
    }
}
