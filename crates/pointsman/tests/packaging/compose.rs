//! The compose file, checked with Compose.

use std::process::Command;

use crate::support::{finish, has, repository, skip};

#[test]
fn the_compose_file_is_sound() {
    let plugin = has("docker") && finish(Command::new("docker").args(["compose", "version"])).code == Some(0);
    let words: &[&str] = match (plugin, has("docker-compose")) {
        (true, _) => &["docker", "compose"],
        (false, true) => &["docker-compose"],
        (false, false) => return skip("there is no docker-compose"),
    };
    let mut command = Command::new(words[0]);
    let file = repository().join("packaging/docker/compose.yaml");
    finish(command.args(&words[1..]).arg("-f").arg(file).args(["config", "--quiet"])).ok();
}
