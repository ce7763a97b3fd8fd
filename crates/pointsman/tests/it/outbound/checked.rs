//! Checks go over what requests go over: TLS with its authorities and names, and PROXY headers.

use crate::harness::{Authority, Pointsman, Site, engine, wait};

use super::{Nginx, certified};

#[test]
fn checks_verify_instances_as_requests_do() {
    let (ours, other) = (Authority::new(), Authority::new());
    let site = Site::new();
    let secure = certified(&ours.issue("one", "DNS:one.test"));
    other.issue("other", "DNS:one.test");
    let nginx = Nginx::serving(&site, &[("ssl", secure.clone()), ("ssl proxy_protocol", secure)]);
    for (service, at, more) in [
        ("good", 0, vec![("tls_ca", ours.pem())]),
        ("bad", 0, vec![("tls_ca", other.pem())]),
        ("led", 1, vec![("tls_ca", ours.pem()), ("send_proxy", "v2".to_owned())]),
        ("tcp", 0, vec![("tls_ca", ours.pem()), ("health_check", "tcp".to_owned())]),
    ] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/tls_server_name"), "one.test");
        site.put(&format!("services/{service}/health_check_uri"), "/");
        site.put(&format!("services/{service}/health_check_interval"), "200ms");
        site.put(&format!("services/{service}/health_check_expect"), "~name=one.test");
        site.put(&format!("services/{service}/one"), nginx.tls(at));
        more.iter().for_each(|(key, value)| site.put(&format!("services/{service}/{key}"), value));
    }
    let running = Pointsman::serving(&site);
    let up = |service: &str| running.metric("pointsman_instance_up", &[&format!("service=\"{service}\"")]);
    wait("bad to be down", || up("bad") == 0.0);
    if engine().differs("checks") {
        return;
    }
    let line = "is down: its check GET / failed: its certificate is of no authority that is trusted; see tls_ca";
    wait(line, || running.process.log().contains(line));
    let check = |service: &str| running.metric("pointsman_instance_check_up", &[&format!("service=\"{service}\"")]);
    for service in ["good", "led", "tcp"] {
        wait(&format!("{service} to be up"), || check(service) == 1.0);
        assert_eq!(up(service), 1.0, "{service}");
    }
}
