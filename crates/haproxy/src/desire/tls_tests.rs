//! TCP services whose TLS ends at HAProxy.

use super::tests::{DB, World, check};

#[test]
fn tls_ends_for_all_services_of_an_address_or_for_none() {
    for (keys, expected) in [
        (
            &["tcp-services/s/tls = terminate", "tcp-services/s/port = 5432", "tcp-services/s/sni = a.test"][..],
            &[
                "bind 0.0.0.0:5432 ssl crt-list /run/pointsman/certs.list strict-sni",
                "mode tcp",
                "timeout client 3600s",
                "tcp-request content set-var(sess.sni) ssl_fc_sni,lower",
                "!req.ssl_sni",
            ][..],
        ),
        // HAProxy cannot do both at one address.
        (
            &["tcp-services/s/port = 5432", "tcp-services/s/sni = a.test"],
            &["bind 0.0.0.0:5432", "mode tcp", "!ssl_fc_sni"],
        ),
        (&["tcp-services/s/port = 77", "tcp-services/s/sni = a.test"], &["bind 0.0.0.0:77", "mode tcp"]),
    ] {
        let ends = World::of(&DB).and(&["tcp-services/db/tls = terminate"]).and(keys);
        check(&ends, expected);
        let problems = ends.desired().1;
        let is_mixed = keys.len() == 2 && expected[0].contains("5432");
        assert_eq!(
            problems.iter().any(|problem| problem.contains("db/tls = \"terminate\": unsupported")),
            is_mixed,
            "{problems:?}"
        );
        assert_eq!(ends.rendered().files.iter().any(|file| &*file.name == "certs.list"), !is_mixed);
    }
}
