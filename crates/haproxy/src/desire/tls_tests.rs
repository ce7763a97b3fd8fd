//! TCP services whose TLS ends at HAProxy.

use pointsman_engine::tickets::TicketSecrets;

use super::tests::{DB, World, check};
use crate::tickets::{FILE, TicketKeys};

/// Other secrets for tickets change no line, so that they need no reload; only the file that the lines name.
#[test]
fn tickets_have_our_keys_wherever_tls_ends() {
    let desired = |byte: u8| {
        let mut world = World::of(&DB).and(&["tcp-services/db/tls = terminate"]);
        world.shape.tickets = TicketKeys::derive(&TicketSecrets::from(vec![[byte; 32]]));
        let list = "ssl crt-list /run/pointsman/certs.list strict-sni";
        check(&world, &[&format!("bind 0.0.0.0:5432 {list} tls-ticket-keys /run/pointsman/tickets.keys")]);
        check(&world, &["tune.ssl.lifetime 21600"]);
        let file = world.rendered().files.into_iter().find(|file| &*file.name == FILE).expect("it is named");
        assert!(file.secret);
        (world.desired().0, file)
    };
    let ((one, file), (other, changed)) = (desired(1), desired(2));
    assert_eq!((one.frame, one.files), (other.frame, other.files));
    assert_ne!(file, changed);
    // A frame that names no file has no use for keys, and HAProxy would refuse to change them.
    let mut world = World::of(&DB);
    world.shape.tickets = TicketKeys::derive(&TicketSecrets::from(vec![[1; 32]]));
    assert_eq!(world.desired().0.tickets, None);
}

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
