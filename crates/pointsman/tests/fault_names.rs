//! Both engines name a fault alike, so that metrics and alerts hold whichever one serves.

use pointsman_haproxy::stats::Tally;

#[test]
fn the_haproxy_engine_names_faults_as_the_native_engine_does() {
    for (name, _) in Tally::default().snapshot().faults {
        assert!(pointsman_native::FAULTS.contains(&name), "{name} is no fault");
    }
}
