//! etcd's members: leader, alarms, room, versions, and clocks.

use pointsman_store::{MemberHealth, MemberStatus, StoreError};

use super::observation::Observation;

const SUBJECT: &str = "etcd";
/// The most bytes of a database, unless `--quota-backend-bytes` says otherwise: etcd's own default.
const USUAL_QUOTA: u64 = 2 << 30;
/// In hundredths of the quota: what is to be noted, and what is too much.
const FULL: (u64, u64) = (80, 95);
/// Clocks that differ by this much in seconds are noted; an answer tells whole seconds only.
const SKEW: i64 = 3;

pub(super) fn observe(members: &[MemberHealth]) -> Vec<Observation> {
    let mut all: Vec<_> = members.iter().flat_map(|member| of_member(member, members.len())).collect();
    all.extend(versions(members));
    let is_well = all.is_empty() && !members.is_empty();
    if is_well {
        all.push(Observation::ok(SUBJECT, said(members)));
    }
    all.extend(clock(members));
    all
}

fn said(members: &[MemberHealth]) -> String {
    let version = members.iter().find_map(|member| Some(member.status.as_ref().ok()?.version.as_str()));
    let version = version.map(|version| format!(", version {version}")).unwrap_or_default();
    format!("{} of {} members answer{version}, with a leader and without alarms", members.len(), members.len())
}

fn of_member(MemberHealth { endpoint, status, .. }: &MemberHealth, count: usize) -> Vec<Observation> {
    match status {
        Ok(status) => of_status(endpoint, status),
        // Only the v2 API, or a user is needed: the store tells what matters.
        Err(StoreError::NotSupported { .. } | StoreError::Refused { .. }) => Vec::new(),
        Err(error) if count > 1 => {
            let remedy = format!("curl -sS {endpoint}/health; start that member, or leave it out of --store");
            vec![Observation::wrong(SUBJECT, error.to_string(), remedy)]
        }
        // The only one: the store tells.
        Err(_) => Vec::new(),
    }
}

fn of_status(endpoint: &str, status: &MemberStatus) -> Vec<Observation> {
    let mut all = Vec::new();
    if !status.has_leader {
        let remedy = format!(
            "etcdctl --endpoints {endpoint} endpoint status --cluster -w table; start the members that are away"
        );
        all.push(Observation::wrong(SUBJECT, format!("{endpoint} has no leader: most members are away"), remedy));
    }
    for error in status.errors.iter().filter(|error| !error.contains("no leader")) {
        let remedy = match error.contains("NOSPACE") {
            true => format!(
                "etcdctl --endpoints {endpoint} compact REVISION, then defrag, then alarm disarm (etcd.io/docs: space quota)"
            ),
            false => format!("etcdctl --endpoints {endpoint} alarm list"),
        };
        all.push(Observation::wrong(SUBJECT, format!("{endpoint} has an alarm, and takes no writes: {error}"), remedy));
    }
    if status.is_learner {
        let remedy = format!("etcdctl --endpoints {endpoint} member promote ID");
        all.push(Observation::note(SUBJECT, format!("{endpoint} is a learner, which serves few requests"), remedy));
    }
    all.extend(room(endpoint, status));
    all
}

fn room(endpoint: &str, status: &MemberStatus) -> Option<Observation> {
    let quota = status.quota.unwrap_or(USUAL_QUOTA);
    let share = status.size.saturating_mul(100) / quota.max(1);
    let of = if status.quota.is_some() { "its quota" } else { "etcd's usual quota" };
    let what = format!("{endpoint}: the database has {} MiB, {share}% of {of}", status.size >> 20);
    let remedy = format!("etcdctl --endpoints {endpoint} defrag; set --auto-compaction-retention 1h on etcd");
    match share {
        // A quota that is only assumed may be greater.
        share if share >= FULL.1 && status.quota.is_some() => Some(Observation::wrong(SUBJECT, what, remedy)),
        share if share >= FULL.0 => Some(Observation::note(SUBJECT, what, remedy)),
        _ => None,
    }
}

fn versions(members: &[MemberHealth]) -> Option<Observation> {
    let mut versions: Vec<_> =
        members.iter().filter_map(|member| Some(member.status.as_ref().ok()?.version.as_str())).collect();
    versions.sort_unstable();
    versions.dedup();
    let what = format!("its members have the versions {}", versions.join(" and "));
    (versions.len() > 1).then(|| Observation::note(SUBJECT, what, "finish the upgrade of etcd"))
}

/// Our clock against theirs, and theirs against one another.
fn clock(members: &[MemberHealth]) -> Option<Observation> {
    let told: Vec<_> = members.iter().filter_map(|member| Some((member.endpoint.as_str(), member.ahead?))).collect();
    let (first, last) = (told.iter().min_by_key(|(_, ahead)| *ahead)?, told.iter().max_by_key(|(_, ahead)| *ahead)?);
    let remedy = "timedatectl: is the clock synchronised, here and there?";
    if last.1 - first.1 >= SKEW {
        let what = format!("the clock of {} is {} s ahead of that of {}", last.0, last.1 - first.1, first.0);
        return Some(Observation::wrong("time", what, remedy));
    }
    let (endpoint, ahead) = told.iter().max_by_key(|(_, ahead)| ahead.abs())?;
    let way = if *ahead < 0 { "ahead of" } else { "behind" };
    Some(match ahead.abs() >= SKEW {
        true => Observation::wrong("time", format!("our clock is {} s {way} that of {endpoint}", ahead.abs()), remedy),
        false => Observation::ok("time", "our clock and etcd's agree"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    fn member(name: &str, change: impl FnOnce(&mut MemberStatus), ahead: Option<i64>) -> MemberHealth {
        let mut status = MemberStatus {
            version: "3.5.16".to_owned(),
            has_leader: true,
            size: 20 << 20,
            quota: None,
            errors: Vec::new(),
            is_learner: false,
        };
        change(&mut status);
        MemberHealth { endpoint: format!("http://{name}:2379"), status: Ok(status), ahead }
    }

    #[test]
    fn a_healthy_cluster_is_one_line() {
        check(&observe(&[]), &[]);
        let all = observe(&[member("a", |_| (), Some(0)), member("b", |_| (), Some(-1))]);
        check(&all, &["ok: 2 of 2 members answer, version 3.5.16", "ok: our clock and etcd's agree"]);
    }

    #[test]
    fn what_ails_a_member_is_told() {
        let of = |change: fn(&mut MemberStatus)| observe(&[member("a", change, None)]);
        check(&of(|status| status.has_leader = false), &["wrong: http://a:2379 has no leader"]);
        let alarmed = of(|status| status.errors.push("memberID:1 alarm:NOSPACE ".to_owned()));
        check(
            &alarmed,
            &["wrong: http://a:2379 has an alarm, and takes no writes: memberID:1 alarm:NOSPACE  | etcdctl"],
        );
        check(&of(|status| status.is_learner = true), &["note: http://a:2379 is a learner"]);
        check(
            &of(|status| status.size = 1900 << 20),
            &["note: http://a:2379: the database has 1900 MiB, 92% of etcd's usual"],
        );
        check(&of(|status| status.size = 2040 << 20), &["note:"]);
        check(
            &of(|status| (status.size, status.quota) = (98 << 20, Some(100 << 20))),
            &["wrong: http://a:2379: the database has 98 MiB, 98% of its quota | etcdctl"],
        );
        let older = |status: &mut MemberStatus| status.version = "3.4.0".to_owned();
        check(
            &observe(&[member("a", |_| (), None), member("b", older, None)]),
            &["note: its members have the versions 3.4.0 and 3.5.16"],
        );
        let gone = MemberHealth {
            endpoint: "http://b:2379".to_owned(),
            status: Err(StoreError::Unreachable { endpoint: "http://b:2379".to_owned(), why: "gone".to_owned() }),
            ahead: None,
        };
        check(
            &observe(&[member("a", |_| (), None), gone]),
            &["wrong: cannot reach etcd at http://b:2379: gone | curl"],
        );
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let of = |a, b| observe(&[member("a", |_| (), a), member("b", |_| (), b)]).split_off(1);
        check(
            &of(Some(0), Some(90)),
            &["wrong: the clock of http://b:2379 is 90 s ahead of that of http://a:2379 | timedatectl"],
        );
        check(&of(Some(60), Some(61)), &["wrong: our clock is 61 s behind that of http://b:2379"]);
        check(&of(Some(-60), None), &["wrong: our clock is 60 s ahead of that of http://a:2379"]);
        check(&of(Some(2), Some(0)), &["ok: our clock"]);
        check(&of(None, None), &[]);
    }
}
