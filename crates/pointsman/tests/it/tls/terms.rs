//! What `config/` demands of handshakes: the oldest version, and a server name with a certificate.

use super::scene;
use crate::harness::wait;

#[test]
fn the_oldest_version_is_set_by_a_key() {
    let scene = scene(&[("a", "DNS:a.test", "ec")], &[]);
    let shown = |version: &str| scene.shown(&format!("{version} -servername a.test"));
    wait("TLS 1.2", || shown("-tls1_2") == "a");
    scene.site.put("config/tls_min_version", "1.3");
    wait("an end to TLS 1.2", || shown("-tls1_2").is_empty());
    assert_eq!(shown("-tls1_3"), "a");
    scene.site.put("config/tls_min_version", "1.4");
    scene.running.wait_problem("bad_value", &["config/tls_min_version", "expected 1.2 or 1.3"]);
    assert_eq!([shown("-tls1_2"), shown("-tls1_3")], ["", "a"], "the last good value stays");
    scene.site.remove("config/tls_min_version");
    wait("TLS 1.2 again", || shown("-tls1_2") == "a");
}

#[test]
fn strict_names_are_those_that_a_certificate_covers() {
    let certs = [("a", "DNS:a.test", "ec"), ("wild", "DNS:*.w.test", "ec"), ("default", "DNS:d.test", "ec")];
    let scene = scene(&certs, &[]);
    let shown = |name: &str| scene.shown(&format!("-servername {name}"));
    wait("a certificate for every name", || !shown("x.test").is_empty());
    assert!(!scene.shown("-noservername").is_empty());
    scene.site.put("config/tls_strict_sni", "true");
    wait("an end to unknown names", || shown("x.test").is_empty());
    assert_eq!([&*shown("a.test"), &*shown("y.w.test"), &*shown("d.test")], ["a", "wild", "default"]);
    assert_eq!([shown("p.q.w.test"), shown("w.test"), scene.shown("-noservername")], ["", "", ""]);
    scene.site.put("config/tls_strict_sni", "false");
    wait("a certificate for every name again", || !shown("x.test").is_empty());
}
