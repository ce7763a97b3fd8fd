//! The access log of the native engine: its lines, and that nobody waits for whoever takes them.

mod lines;
mod outlets;

use std::path::{Path, PathBuf};

use crate::harness::{Engine, Launch, PATIENCE, Pointsman, Site, get, wait_within};

/// A balancer with an access log, and the service `a.test`.
struct Logged {
    running: Pointsman,
    site: Site,
    path: PathBuf,
}

impl Logged {
    /// With these keys and flags, and the log in a file.
    fn new(keys: &[(&str, &str)], flags: &[&str]) -> Self {
        let site = site(keys);
        let path = site.home().join("access.log");
        let launch = Launch::engine(Engine::Native).store(&site).arg("--access-log").arg(&path).args(flags);
        // Lines of one worker are in order.
        let launch = if flags.contains(&"--workers") { launch } else { launch.args(&["--workers", "1"]) };
        Self { running: ready(launch.start()), site, path }
    }

    /// The first lines of the log, once there are so many.
    #[track_caller]
    fn lines(&self, count: usize) -> Vec<String> {
        lines_of(&self.path, count)
    }

    fn get(&self, target: &str) -> u16 {
        get(self.running.http, "a.test", target).map_or(0, |response| response.status)
    }
}

/// The keys of the service `a.test`, and more.
fn site(keys: &[(&str, &str)]) -> Site {
    let site = Site::with(&[("services/a/domain", "a.test")]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    site
}

/// Waits until it serves.
fn ready(running: Pointsman) -> Pointsman {
    running.wait_ready();
    running
}

/// The lines of a file, once there are so many.
#[track_caller]
fn lines_of(path: &Path, count: usize) -> Vec<String> {
    wait_within(&format!("{count} lines in {}", path.display()), PATIENCE, || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}
