//! TCP services whose TLS ends at HAProxy.

use pointsman_engine::tickets::TicketSecrets;

use super::tests::{DB, WEB, World, check};
use crate::tickets::{FILE, TicketKeys};

const AUTHORITY: &str = include_str!("../../../table/tests/certificates/authority.pem");
const OTHER: &str = include_str!("../../../table/tests/certificates/nameless.pem");
const LEAF: &str = include_str!("../../../table/tests/certificates/leaf.pem");
const KEY: &str = include_str!("../../../table/tests/certificates/leaf.key");

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

/// What handshakes ask for, by certificate and name; and services that HAProxy cannot protect, which are not served.
#[test]
fn handshakes_ask_for_what_the_services_of_a_name_ask_for() {
    let row = |key: &str, value: &str| format!("{key} = {}", value.replace('\n', "\\n"));
    let (cert, ca) = (row("certs/shop", &[LEAF, KEY].concat()), row("services/web/client_ca", AUTHORITY));
    let world = |more: &[&str]| {
        let mut world = World::of(&WEB).and(&[&cert, &ca]).and(more);
        world.shape.https = world.shape.http.clone();
        world
    };
    let file = |world: &World, name: &str| {
        let files = world.rendered().files;
        let file = files.iter().find(|file| &*file.name == name);
        file.map(|file| String::from_utf8_lossy(&file.bytes).replace("/run/pointsman/", "")).unwrap_or_default()
    };
    let web = world(&[]);
    let map = file(&web, "clients.map");
    let id = map.lines().find_map(|line| line.strip_prefix("shop.test ")).expect("it asks").to_owned();
    assert_eq!((map.as_str(), id.len()), (&*format!("*.shop.test -\nshop.test {id}\n"), 64));
    let (first, authorities) = ("certs/shop.pem pointsman.invalid\n", format!("clients/{id}.pem"));
    let asked = format!("certs/shop.pem [ca-file {authorities} verify required]");
    assert_eq!(file(&web, &authorities), AUTHORITY);
    assert_eq!(file(&web, "clients.list"), format!("{first}certs/shop.pem *.shop.test\n{asked} shop.test\n"));
    let below = world(&["services/web/domain = *.shop.test,no.test"]);
    let expected = format!("{first}certs/shop.pem shop.test\n{asked} *.shop.test\n{asked} no.test\n");
    assert_eq!(file(&below, "clients.list"), expected);
    let shown = "{ ssl_fc_has_crt } { ssl_c_verify 0 }";
    check(
        &web,
        &[
            &format!("http-request return status 403 errorfiles pointsman unless {shown}"),
            &format!("http-request set-header Client-Cert :%[ssl_c_der,base64]: if {shown}"),
        ],
    );
    check(&web, &["tune.ssl.cachesize 0"]);
    let config = web.rendered().config;
    assert!(config.contains("clients.list no-tls-tickets alpn h2,http/1.1"), "{config}");
    assert!(config.contains(&format!("!{{ var(sess.clients) -m str {id} }}")), "{config}");
    let (open, other) = ("services/b/domain = shop.test", row("services/b/client_ca", OTHER));
    for (more, why) in [
        (vec!["services/web/domain = ", "services/web/path = /x"], "not reached by its domain alone"),
        (vec!["services/web/default = true"], "not reached by its domain alone"),
        (vec![open, "services/b/path = /b", &other], "another one there has other authorities"),
    ] {
        let world = world(&more);
        let problems = world.desired().1;
        assert!(problems.iter().any(|it| it.contains("web/client_ca") && it.contains(why)), "{problems:?}");
        assert_eq!((file(&world, "clients.list"), world.desired().0.backends.len()), (String::new(), 0), "{more:?}");
    }
    let optional = world(&[open, "services/b/path = /b"]);
    let list = file(&optional, "clients.list");
    assert!(list.contains("verify optional] shop.test\n"), "{list}");
}
