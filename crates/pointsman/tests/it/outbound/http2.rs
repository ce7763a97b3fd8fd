//! TLS to instances that speak HTTP/2: what both agree on, whose name is verified, and connections that are never shared.

use super::{Nginx, answer, certified, told, wait_refused, wait_said};
use crate::harness::{Authority, Pointsman, Site, engine, wait};

/// Two servers of nginx with this certificate, of which the first speaks HTTP/2, and a service that verifies them.
fn scene(names: &str, more: &[(&str, &str)]) -> (Pointsman, Nginx, Site, Authority) {
    let (site, authority) = (Site::new(), Authority::new());
    let web = certified(&authority.issue("web", names));
    let nginx = Nginx::serving(&site, &[("ssl http2", web.clone()), ("ssl", web)]);
    site.put("services/a/domain", "a.test");
    site.put("services/a/protocol", "h2");
    site.put("services/a/tls_ca", authority.pem());
    site.put("services/a/one", nginx.tls(0));
    more.iter().for_each(|(key, value)| site.put(key, value));
    let running = Pointsman::serving(&site);
    (running, nginx, site, authority)
}

#[test]
fn both_agree_to_http2() {
    let (running, nginx, site, _authority) = scene("DNS:web.test", &[("services/a/tls_server_name", "web.test")]);
    let said = answer(&running, "a.test");
    assert_eq!([told(&said, "http"), told(&said, "name")], ["HTTP/2.0", "web.test"]);
    site.put("services/a/one", nginx.tls(1));
    wait_refused(&running, "a.test");
    wait_said(&running, "it does not agree to the version of HTTP that is asked for (ALPN)");
    site.remove("services/a/protocol");
    wait("HTTP/1", || told(&answer(&running, "a.test"), "http") == "HTTP/1.1");
}

#[test]
fn requests_for_all_hosts_share_it_so_none_of_them_is_the_name() {
    if engine().differs("host-of-client") {
        return;
    }
    let (running, nginx, site, authority) = scene("IP:127.0.0.1", &[("services/a/domain", "a.test,b.test")]);
    for host in ["a.test", "b.test"] {
        assert_eq!(told(&answer(&running, host), "name"), "", "its address is verified");
    }
    // Who does not verify has a connection of its own.
    site.put("services/open/domain", "open.test");
    site.put("services/open/protocol", "h2");
    site.put("services/open/one", nginx.tls(0));
    let number = |host: &str| told(&answer(&running, host), "connection").to_owned();
    assert_ne!(number("a.test"), number("open.test"));
    let stranger = Authority::new();
    stranger.issue("other", "IP:127.0.0.1");
    site.put("services/a/tls_ca", stranger.pem());
    wait_refused(&running, "a.test");
    assert_eq!(told(&answer(&running, "open.test"), "http"), "HTTP/2.0");
    site.put("services/a/tls_ca", authority.pem());
    answer(&running, "a.test");
}
