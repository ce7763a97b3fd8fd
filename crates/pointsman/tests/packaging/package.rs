//! The Debian package without systemd: installed, used by hand, upgraded, removed, purged.

use std::path::PathBuf;
use std::process::Command;

use crate::root::Root;
use crate::support::{cache, finish, has, long, repository, skip};

/// A version above all others.
pub(crate) const LATER: &str = "99.0.0";

/// Builds the package with this version: from the program under test, or in the long form as we ship it.
pub(crate) fn package(version: &str) -> Option<PathBuf> {
    if !has("dpkg-shlibdeps") {
        skip("there is no dpkg-dev");
        return None;
    }
    let mut command = Command::new(repository().join("packaging/deb/build.sh"));
    if !long() {
        command.args(["--fast", "--binary", env!("CARGO_BIN_EXE_pointsman")]);
    }
    let path = finish(command.args(["--version", version]).arg(cache())).ok();
    Some(PathBuf::from(path.lines().last().expect("its path")))
}

#[test]
fn installed_used_upgraded_removed_and_purged() {
    let (Some(now), Some(later)) = (package("1.0.0~packaging"), package(LATER)) else { return };
    let files = finish(Command::new("dpkg-deb").arg("--contents").arg(&now)).ok();
    let shipped = ["packaging/prometheus/pointsman.rules.yml", "packaging/grafana/pointsman.json"];
    for page in ["README.md", "docs/keys.md", "docs/decisions/exit-codes.md"].into_iter().chain(shipped) {
        assert!(files.contains(&format!("/usr/share/doc/pointsman/{page}\n")), "{page} is where links lead: {files}");
    }
    let Some(root) = Root::new() else { return };
    root.bring(&now);
    root.bring(&later);
    let dpkg = |words: &str| root.sh(&format!("dpkg {words}")).ok();

    dpkg("-i /root/pointsman_1.0.0~packaging_*.deb");
    assert_eq!(root.sh("stat -c '%U:%G %a' /etc/default/pointsman").ok(), "root:root 640");
    let enabled = "/etc/systemd/system/multi-user.target.wants/pointsman.service";
    root.sh(&format!("test -L {enabled} && test ! -e {}", enabled.replace(".service", "-agent.service"))).ok();
    let taught = "
        test -s /usr/share/bash-completion/completions/pointsman
        test -s /usr/share/zsh/vendor-completions/_pointsman
        test -s /usr/share/fish/vendor_completions.d/pointsman.fish
        zcat /usr/share/man/man1/pointsman.1.gz | grep -q drain
        zcat /usr/share/man/man1/pointsman-run.1.gz | grep -q POINTSMAN_HTTP && echo taught";
    assert_eq!(root.sh(taught).ok(), "taught");
    let serves = "
        echo 'http = \":8080\"' >/etc/pointsman.toml
        mkdir -p /var/lib/pointsman && chown pointsman:pointsman /var/lib/pointsman
        setpriv --reuid pointsman --regid pointsman --clear-groups pointsman run --state /var/lib/pointsman >/tmp/log 2>&1 &
        until pointsman health >/dev/null 2>&1; do kill -0 $! && sleep 0.1; done
        pointsman set services/a/domain a.test
        until pointsman routes | grep -q a.test; do sleep 0.1; done
        grep -q 'listening for HTTP on 0.0.0.0:8080' /tmp/log
        rm /etc/pointsman.toml
        kill $! && wait $! && echo served";
    assert_eq!(root.sh(serves).ok(), "served");

    // An operator's changes stay, including whether the unit is enabled.
    root.sh(&format!("echo POINTSMAN_LOG=debug >>/etc/default/pointsman; rm {enabled}")).ok();
    dpkg(&format!("-i --force-confdef /root/pointsman_{LATER}_*.deb"));
    assert_eq!(
        root.sh("dpkg-query -W -f '${Version} ${db:Status-Status}' pointsman").ok(),
        format!("{LATER} installed")
    );
    root.sh(&format!("grep -q POINTSMAN_LOG=debug /etc/default/pointsman && test ! -e {enabled}")).ok();
    root.sh("test -f /var/lib/pointsman/store/services/a/domain").ok();

    dpkg("-r pointsman");
    root.sh("test ! -e /usr/bin/pointsman && test -f /etc/default/pointsman && id pointsman").ok();
    dpkg("-P pointsman");
    let left =
        "find / -xdev -name '*pointsman*' -not -path '/root/*' -not -path '/proc/*'; getent passwd pointsman ||:";
    assert_eq!(root.sh(left).ok(), "");
    assert_eq!(root.sh("find / -xdev '(' -nouser -o -nogroup ')' -not -path '/proc/*'").ok(), "");
}

#[test]
fn nothing_is_started_where_the_policy_says_so() {
    let Some(now) = package("1.0.0~policy") else { return };
    let Some(root) = Root::new() else { return };
    root.bring(&now);
    // As if systemd ran: records every command that would start or stop a unit.
    let stage = "
        mkdir -p /run/systemd/system
        printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
        mv /usr/bin/systemctl /usr/bin/systemctl.real
        printf '#!/bin/sh\\necho \"$@\" >>/root/asked\\n' >/usr/bin/systemctl && chmod 755 /usr/bin/systemctl
        dpkg -i /root/pointsman_*.deb >/dev/null 2>&1
        grep -v preset /root/asked";
    assert_eq!(root.sh(stage).ok(), "--system daemon-reload");
}
