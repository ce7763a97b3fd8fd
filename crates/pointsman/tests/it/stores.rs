//! What stores do to the program: silent endpoints, links and backups in folders, names that nobody sees, places that
//! cannot be.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Backend, Launch, Pointsman, Site, finish, run, wait};

/// A store that is removed at a stroke: no file of ours appears in it meanwhile, which would make `rm` fail.
#[test]
fn a_store_is_removed_beside_a_running_balancer() {
    for round in 0..20 {
        let site = Site::new();
        for number in 0..100 {
            site.put(&format!("services/s{number}/domain"), format!("s{number}.test"));
        }
        let running = Pointsman::serving(&site);
        wait("its status", || {
            site.folder().join(".pointsman/status").exists() || site.folder().join(".pointsman").exists()
        });
        let removed = finish(Command::new("rm").arg("-rf").arg(site.folder()));
        assert_eq!((removed.code, removed.stderr.as_str()), (Some(0), ""), "round {round}");
        drop(running);
    }
}
