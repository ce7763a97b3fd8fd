//! Rows about connections to instances: TLS, its files, and PROXY headers.

use super::tests::{WEB, World, check};

/// An authority, as a row's value.
fn authority() -> String {
    include_str!("../../../table/tests/certificates/authority.pem").replace('\n', "\\n")
}

#[test]
fn connections_to_instances() {
    let (ca, name) = (format!("services/web/tls_ca = {}", authority()), "services/web/tls_server_name = web.test");
    let own = "10.0.0.1 tls";
    for (value, keys, expected) in [
        (own, vec![name], "ssl verify none alpn http/1.1 sni str(web.test) check-sni web.test"),
        (
            own,
            vec![&*ca, name],
            "ssl verify required ca-file /run/pointsman/instances/services-web.ca alpn http/1.1 sni str(web.test) \
             check-sni web.test verifyhost web.test",
        ),
        (
            own,
            vec![&*ca],
            "ssl verify required ca-file /run/pointsman/instances/services-web.ca alpn http/1.1 sni var(txn.host)",
        ),
        (
            own,
            vec!["services/web/tls_ca = system", name],
            "ssl verify required ca-file @system-ca alpn http/1.1 sni str(web.test) check-sni web.test verifyhost web.test",
        ),
        ("10.0.0.1", vec!["services/web/send_proxy = v1"], "send-proxy"),
        (own, vec!["services/web/send_proxy = v2"], "send-proxy-v2 ssl verify none alpn http/1.1 sni var(txn.host)"),
    ] {
        let world = World::of(&WEB).and(&[&format!("services/web/upstreams/b = {value}")]).and(&keys);
        let words = expected.replace("  ", "");
        check(&world, &[&format!("server b 10.0.0.1:80 HEALTH {words}")]);
        let reuse = world.rendered().config.contains("    http-reuse never\n");
        assert_eq!(reuse, words.starts_with("send-proxy"), "{words}");
    }
}

#[test]
fn files_for_connections_to_instances_are_secret() {
    let world =
        World::of(&WEB).and(&["services/web/b = 10.0.0.1 tls", &format!("services/web/tls_ca = {}", authority())]);
    let rendered = world.rendered();
    let file = rendered.files.iter().find(|file| &*file.name == "instances/services-web.ca").unwrap();
    assert!(file.secret && file.bytes.starts_with(b"-----BEGIN CERTIFICATE-----"));
    let unused = World::of(&WEB).and(&[&format!("services/web/tls_ca = {}", authority())]);
    assert!(unused.rendered().files.iter().all(|file| !file.name.starts_with("instances/")));
}

#[test]
fn what_haproxy_cannot_verify_is_left_out() {
    let keys = ["tcp-services/s/port = 5432", "tcp-services/s/b = 10.0.0.2 tls", "tcp-services/s/tls_ca = system"];
    let (_, problems) = World::of(&keys).desired();
    assert!(problems[0].contains("HAProxy verifies names only, so set tls_server_name"), "{problems:?}");
    let mut old = World::of(&keys).and(&["tcp-services/s/tls_server_name = db.test"]);
    assert_eq!(old.desired().1, [""; 0]);
    old.shape.version.minor = 4;
    assert!(old.desired().1[0].contains("does not know tls_ca = system"));
}
