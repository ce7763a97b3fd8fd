//! Instances: those with health checks are asked once, as `check --probe` does; of others, a running balancer tells.

use std::time::Duration;

use pointsman_native::{self as native, Probed};
use pointsman_table::{Table, shown};
use tokio::time::timeout;

use super::balancer::RunningBalancer;
use super::observation::Observation;
use crate::control::plural;

const SUBJECT: &str = "instances";
/// Instances that are named.
const MOST: usize = 5;

pub(super) async fn look(
    table: Option<&Table>,
    running: Option<&RunningBalancer>,
    within: Duration,
) -> Vec<Observation> {
    let Some(table) = table else { return running.map(down).unwrap_or_default() };
    let mut all = match timeout(within, Box::pin(native::probe_once(table))).await {
        Ok(probed) => of_probes(&probed),
        Err(_) => {
            let what = format!("not every health check was answered within {within:?}");
            vec![Observation::note(SUBJECT, what, "pointsman check --probe")]
        }
    };
    all.extend(running.map(down).unwrap_or_default());
    if all.is_empty() {
        let count = table.services().iter().map(|service| service.instances.len()).sum();
        all.push(Observation::ok(SUBJECT, format!("{}, none known to be down", plural(count, "instance"))));
    }
    all
}

fn of_probes(probed: &[Probed]) -> Vec<Observation> {
    let failed: Vec<_> = probed.iter().filter(|probed| !probed.passed).collect();
    let one = |probed: &&Probed| {
        let Probed { protocol, service, instance, target, said, .. } = probed;
        let what = format!(
            "{protocol}/{} ({}) fails its check: {}",
            shown(&format!("{service}/{instance}")),
            shown(target),
            shown(said)
        );
        Observation::wrong(
            SUBJECT,
            what,
            format!("start it, or take it away: pointsman drain {}", shown(&format!("{service}/{instance}"))),
        )
    };
    let mut all: Vec<_> = failed.iter().take(MOST).map(one).collect();
    if let Some(more @ 1..) = failed.len().checked_sub(MOST) {
        let what = format!("{} more fail their checks", plural(more, "instance"));
        all.push(Observation::wrong(SUBJECT, what, "pointsman check --probe lists all"));
    }
    all
}

/// What the running balancer says of instances without health checks.
fn down(running: &RunningBalancer) -> Vec<Observation> {
    let each = running.services.iter().flat_map(|service| service.instances.iter().map(move |one| (service, one)));
    let down = each.filter(|(_, one)| one.check.is_none() && one.state == "down");
    let names: Vec<_> =
        down.map(|(service, one)| shown(&format!("{}/{}", service.name, one.name)).to_string()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let named = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    let what = format!("{} down: {named}", plural(names.len(), "instance"));
    vec![Observation::wrong(
        SUBJECT,
        what,
        "pointsman routes says why; start them, or pointsman drain SERVICE/INSTANCE",
    )]
}
