//! The Debian package under systemd: the unit's sandbox is real.

use std::sync::Arc;

use crate::docker::{Docker, Thing};
use crate::package::{LATER, package};
use crate::root;
use crate::support::{backend, skip, wait};

/// A container with systemd as its first process, and both packages in /root.
struct Machine<'d>(Thing<'d>);

impl<'d> Machine<'d> {
    fn boot(docker: &'d Arc<Docker>) -> Option<Self> {
        let (now, later) = (package("1.0.0~service")?, package(LATER)?);
        docker.import(&root::tar()?, root::IMAGE);
        // systemd needs writable cgroups; in a container of its own that harms nobody.
        let init = "for folder in /sys/fs/cgroup /sys/fs/cgroup/systemd; do
            mount -o remount,rw $folder 2>/dev/null; done; systemctl mask -q haproxy; exec /sbin/init";
        let rights = ["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cgroupns", "private"];
        let open = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"];
        let folders = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-e", "container=docker"];
        let machine =
            Self(docker.container(&[&rights[..], &open, &folders, &[root::IMAGE, "sh", "-c", init]].concat()));
        for package in [now, later] {
            docker.run(&["cp", &package.to_string_lossy(), &format!("{}:/root/", machine.0.name)]);
        }
        let ended = || machine.0.inspect("{{.State.Running}}") != "true";
        let state = wait("systemd", 60, || {
            let state = machine.0.exec(&["systemctl", "is-system-running"]).stdout;
            (ended() || ["running", "degraded"].contains(&state.as_str())).then_some(state)
        });
        if state.is_empty() || ended() {
            skip(&format!("systemd does not run in a container here: {}", machine.0.log()));
            return None;
        }
        Some(machine)
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.0.sh(script).ok()
    }

    /// A property of the balancer's unit in systemd.
    #[track_caller]
    fn show(&self, property: &str) -> String {
        self.sh(&format!("systemctl show --property {property} --value pointsman"))
    }

    /// Waits until the balancer answers a.test with this status.
    #[track_caller]
    fn wait_status(&self, status: u16) {
        let address = format!("{}:80", self.0.inspect("{{.NetworkSettings.IPAddress}}"));
        let address = address.parse().expect("the container's address");
        let what = format!("{status} from the unit");
        wait(&what, 20, || crate::support::get(address, "a.test").filter(|answer| answer.0 == status));
    }
}

#[test]
fn installed_reloaded_upgraded_and_purged() {
    let Some(docker) = Docker::get() else { return };
    let Some(machine) = Machine::boot(&docker) else { return };
    machine.sh("dpkg -i /root/pointsman_1.0.0~service_*.deb");
    // Its start has waited for the first table, so no wait is needed here.
    assert_eq!(machine.show("ActiveState"), "active");
    assert!(machine.show("StatusText").starts_with("serving 0 services"), "{}", machine.show("StatusText"));
    sandboxed(&machine);
    serves(&machine);
    machine.sh("systemctl reload pointsman");
    assert_eq!(machine.show("ActiveState"), "active");
    let before = machine.show("MainPID");

    // HAProxy in the same unit: its ports, and its expressions compiled to machine code.
    machine.sh("echo POINTSMAN_ENGINE=haproxy >>/etc/default/pointsman; systemctl restart pointsman");
    machine.wait_status(200);
    machine.sh("pointsman set tcp-services/t/port 443; pointsman set tcp-services/t/one 127.0.0.1:9");
    wait("the port of the TCP service", 20, || {
        machine.0.sh("pointsman routes | grep -q 0.0.0.0:443").code.filter(|c| *c == 0)
    });
    assert_eq!(machine.sh("journalctl -u pointsman -g 'rejected:|listen:' -q --no-pager || true"), "");

    machine.sh(&format!("dpkg -i --force-confdef /root/pointsman_{LATER}_*.deb"));
    assert_eq!(machine.show("ActiveState"), "active");
    assert_ne!(machine.show("MainPID"), before);
    machine.wait_status(200);
    assert_eq!(machine.show("NRestarts"), "0", "{}", machine.sh("journalctl -u pointsman --no-pager"));
    machine.sh("dpkg -r pointsman");
    assert_eq!(machine.sh("cat /proc/[0-9]*/comm").matches("pointsman").count(), 0);
    machine.sh("dpkg -P pointsman");
    assert_eq!(machine.sh("ls -d /var/lib/pointsman 2>/dev/null || echo gone"), "gone");
    let state = "systemctl is-system-running || { systemctl --failed; journalctl -u pointsman -n 60 --no-pager; }";
    assert_eq!(machine.sh(state), "running");
}

fn sandboxed(machine: &Machine<'_>) {
    let id = machine.show("MainPID");
    let of = |name: &str| machine.sh(&format!("sed -n 's/^{name}:[[:space:]]*//p' /proc/{id}/status"));
    // CAP_NET_BIND_SERVICE is bit 10.
    assert_eq!([of("CapEff"), of("CapBnd")], ["0000000000000400"; 2]);
    assert_eq!([of("Seccomp"), of("NoNewPrivs")], ["2", "1"]);
    assert_eq!(machine.sh(&format!("stat -c %U /proc/{id}")), "pointsman");
}

fn serves(machine: &Machine<'_>) {
    let gateway = machine.0.inspect("{{.NetworkSettings.Gateway}}");
    let app = backend(gateway.parse().expect("the address of this machine there"));
    for (key, value) in [("domain", "a.test"), ("url_reg", "^/[a-z]*"), ("one", &*app.to_string())] {
        machine.sh(&format!("pointsman set services/a/{key} '{value}'"));
    }
    machine.wait_status(200);
}
