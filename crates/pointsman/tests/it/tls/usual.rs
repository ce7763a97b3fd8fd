//! HTTPS at port 443 though no setting says so: once there is a certificate, where the port can be had. Each balancer has
//! a network of its own, so that no port of this machine is taken.

use std::process::Command;

use super::certificate;
use crate::harness::{Backend, Finished, Launch, Pointsman, Site, finish, wait};

/// Makes a network with loopback only, and executes what follows there.
const ALONE: &[&str] = &["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""];

/// A balancer in a network of its own, and what else listens there.
struct Alone {
    running: Pointsman,
    site: Site,
}

fn alone(before: &str, keys: &[(&str, &str)]) -> Alone {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/hsts", "1d")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    let line = format!("ip link set lo up && {before} exec \"$0\" \"$@\"");
    let wrapper = [&ALONE[..4], &[&*line]].concat();
    let running = Launch::on(&site).usual_https().under(&wrapper).start();
    Alone { running, site }
}

impl Alone {
    /// Runs a line in the balancer's network.
    fn shell(&self, line: &str) -> Finished {
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.running.process.id().to_string(), "sh", "-c", line]);
        finish(&mut command)
    }

    /// The status of a service without instances, over HTTPS; `000`: there is no HTTPS.
    fn https(&self) -> String {
        let line = "curl -s -k -o /dev/null -w '%{http_code}' --http1.1 --resolve a.test:443:127.0.0.1 https://a.test/";
        self.shell(line).stdout
    }

    fn add_certificate(&self) {
        self.site.put("certs/a", certificate(&self.site, "a", "DNS:a.test", "ec"));
    }
}

#[test]
fn https_comes_with_the_first_certificate_and_goes_with_the_last() {
    let mut alone = alone("", &[]);
    alone.running.process.wait_log("serving 1 service");
    assert_eq!(alone.https(), "000");
    alone.add_certificate();
    wait("HTTPS", || alone.https() == "503");
    // A balancer is never its own instance, wherever it listens.
    alone.site.put("services/b/domain", "b.test");
    alone.site.put("services/b/one", "127.0.0.1:443");
    wait("the loop", || alone.listed("loop"));
    alone.site.remove("certs/a");
    wait("the end of it", || alone.https() == "000");
}

impl Alone {
    /// Whether a problem of this kind is listed.
    fn listed(&self, kind: &str) -> bool {
        self.shell(&format!("curl -s http://{}/api/problems", self.running.admin)).stdout.contains(kind)
    }
}

#[test]
fn a_port_that_cannot_be_had_is_a_warning_and_nothing_else() {
    let listen = "python3 -c 'import socket,time; s = socket.create_server((\"127.0.0.1\", 443)); time.sleep(600)' >/dev/null 2>&1 & \
                  while ! ss -ltn | grep -q :443; do :; done; echo $! >\"$HOLDER\";";
    let site = Site::with(&[("services/a/domain", "a.test")]);
    let holder = site.home().join("holder");
    let alone = {
        site.put("certs/a", certificate(&site, "a", "DNS:a.test", "ec"));
        let line = format!("ip link set lo up && {listen} exec \"$0\" \"$@\"");
        let wrapper = [&ALONE[..4], &[&*line]].concat();
        let launch = Launch::on(&site).usual_https().env("HOLDER", &holder.to_string_lossy()).under(&wrapper);
        Alone { running: launch.start(), site }
    };
    let mut alone = alone;
    alone.running.process.wait_log("HTTPS is not served: cannot listen on 127.0.0.1:443: Address");
    wait("HTTP", || {
        let line = format!("curl -s -o /dev/null -w '%{{http_code}}' -H 'Host: a.test' http://{}/", alone.running.http);
        alone.shell(&line).stdout == "503"
    });
    let pid = std::fs::read_to_string(&holder).expect("written");
    alone.shell(&format!("kill {}", pid.trim()));
    wait("HTTPS", || alone.https() == "503");
}

#[test]
fn a_tcp_service_goes_before() {
    let backend = Backend::naming("one");
    let alone = alone("", &[("tcp-services/t/one", &backend.instance())]);
    alone.add_certificate();
    wait("HTTPS", || alone.https() == "503");
    alone.site.put("tcp-services/t/port", "127.0.0.1:443");
    // It closes what it cannot lead to its instance, which is in another network.
    wait("the TCP service", || {
        alone.shell("curl -s -k https://a.test/ --resolve a.test:443:127.0.0.1").code != Some(0)
            && !alone.listed("listen")
            && alone.shell("ss -ltn | grep -q 127.0.0.1:443").code == Some(0)
    });
    alone.site.remove("tcp-services/t");
    wait("HTTPS again", || alone.https() == "503");
}
