//! Both engines use the same names of faults, so that metrics and alerts work with either.

use pointsman_haproxy::stats::Tally;

#[test]
fn the_haproxy_engine_names_faults_as_the_native_engine_does() {
    for (name, _) in Tally::default().snapshot().faults {
        assert!(pointsman_native::FAULTS.contains(&name), "{name} is no fault");
    }
}
