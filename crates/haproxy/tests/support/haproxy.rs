//! The HAProxy to test with: `haproxy` in PATH, or the one of POINTSMAN_TEST_HAPROXY, for other versions.

use std::process::Command;
use std::sync::LazyLock;

use pointsman_haproxy::version::Version;

/// The program.
pub(crate) fn program() -> String {
    std::env::var("POINTSMAN_TEST_HAPROXY").unwrap_or_else(|_| "haproxy".to_owned())
}

/// What it can do.
pub(crate) fn version() -> Version {
    static VERSION: LazyLock<Version> = LazyLock::new(|| {
        let output = Command::new(program()).arg("-vv").output().expect("HAProxy is installed");
        Version::parse(&String::from_utf8_lossy(&output.stdout)).expect("it says its version")
    });
    *VERSION
}
