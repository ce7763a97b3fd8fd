//! The same of a server over TLS, whose certificate is verified.

use super::asked_http2::unsupported;
use crate::harness::{Authority, Backend, Pointsman, Site, get, wait};
use crate::outbound::{Nginx, certified};

/// Waits until nobody is let in, and the log says why.
#[track_caller]
fn wait_refused(running: &Pointsman, why: &str) {
    wait(why, || {
        let is_refused = get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 503);
        is_refused && running.process.log().contains(why)
    });
}

#[test]
fn a_server_over_tls_must_show_a_certificate_of_its_authorities() {
    if unsupported() {
        return;
    }
    let (site, authority, backend) = (Site::new(), Authority::new(), Backend::naming("one"));
    let says = "add_header X-User ann;";
    let good = certified(&authority.issue("good", "DNS:localhost,IP:127.0.0.1"));
    let other = certified(&authority.issue("other", "DNS:other.test,DNS:a.test"));
    let nginx = Nginx::serving(&site, &[("ssl", good + says), ("ssl", other + says)]);
    let port = |number: usize| nginx.addresses[number].port();
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", backend.instance());
    site.put("services/a/forward_auth_ca", authority.pem());
    site.put("services/a/forward_auth", format!("https://127.0.0.1:{}/verify X-User", port(0)));
    let running = Pointsman::serving(&site);
    running.wait_backend("a.test", "/", "one");
    let ask = || {
        let mut connection = running.connect();
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-User: eve\r\nX-Tell: 1\r\n\r\n").expect("open");
        connection.response("GET").expect("an answer").text()
    };
    let told = ask();
    assert!(told.contains("X-User: ann\r\n") && !told.contains("eve"), "{told}");
    let counted = format!("https://127.0.0.1:{} of a", port(0));
    assert!(running.metric("pointsman_requests_total", &[&counted]) >= 1.0);
    // Its name, not that of the request, must be in the certificate.
    site.put("services/a/forward_auth", format!("https://127.0.0.1:{}/verify", port(1)));
    wait_refused(&running, "its certificate is not for 127.0.0.1");
    wait("the line", || running.process.log().contains("auth_unreachable: a.test/ of service a"));
    site.put("services/a/forward_auth", format!("https://localhost:{}/verify X-User", port(0)));
    running.wait_backend("a.test", "/", "one");
    // A connection that another service opened unverified is none for this one, whose authorities are now the machine's.
    site.put("services/any/upstreams/one", nginx.tls(0));
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", backend.instance());
    site.put("services/b/forward_auth", "any:/verify");
    running.wait_backend("b.test", "/", "one");
    site.remove("services/a/forward_auth_ca");
    site.put("services/a/forward_auth", format!("https://127.0.0.1:{}/verify", port(0)));
    wait_refused(&running, "its certificate is of no authority that is trusted");
    let seen = backend.whole();
    assert_eq!(get(running.http, "a.test", "/").expect("an answer").status, 503);
    assert_eq!(backend.whole(), seen, "nothing reached the instance");
    running.wait_backend("b.test", "/", "one");
    // Who is not verified is no value of this key, and a bad one lets nobody in.
    site.put("services/a/forward_auth_ca", "none");
    running
        .wait_problem("bad_value", &["services/a/forward_auth_ca", "expected system, or certificates of authorities"]);
    running.wait_gone("a.test", "/");
}
