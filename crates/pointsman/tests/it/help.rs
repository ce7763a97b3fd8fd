//! What teaches: help, completions, manual pages, suggestions; and the file of settings that every command reads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Finished, Site, finish, program_folder, run};

#[test]
fn help_comes_short_and_long() {
    let short = run(&["run", "-h"]).ok();
    for text in ["Serving:", "HAProxy engine:", "--http <ADDR>", "[default: 0.0.0.0:80]"] {
        assert!(short.contains(text), "no {text} in {short}");
    }
    let long = run(&["run", "--help"]).ok();
    assert!(long.lines().count() > 2 * short.lines().count() && !short.contains("POINTSMAN_HTTP"), "{short}");
    assert_eq!(run(&["help", "run"]).ok(), long);
    assert!(run(&["help"]).ok().contains("Exit codes:"));
    let demo = run(&["demo", "--help"]).ok();
    assert!(demo.contains("127.0.0.1:8080") && !demo.contains("0.0.0.0:80") && !demo.contains("--store"), "{demo}");
}

#[test]
fn a_mistyped_command_is_suggested() {
    let finished = run(&["chekc"]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("a similar subcommand exists: 'check'"), "{}", finished.stderr);
}

#[test]
fn shells_complete_commands_and_flags() {
    for (shell, texts) in
        [("bash", ["register", "--etcd-ca"]), ("zsh", ["register", "--etcd-ca"]), ("fish", ["register", "-l etcd-ca"])]
    {
        let script = run(&["completions", shell]).ok();
        for text in texts {
            assert!(script.contains(text), "no {text} for {shell}");
        }
    }
    let site = Site::new();
    let script = site.home().join("completion");
    fs::write(&script, run(&["completions", "bash"]).ok()).expect("our own folder");
    let ask = "source \"$0\"; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _pointsman pointsman \"${@: -1}\" \"${@: -2:1}\"; \
               echo ${COMPREPLY[*]}";
    for (words, expected) in [
        (&["pointsman", "ru"][..], "run"),
        (&["pointsman", "run", "--engine", ""], "native haproxy"),
        (&["pointsman", "ls", "--etcd-api", ""], "auto 2 3"),
    ] {
        let completed = finish(Command::new("bash").args(["-c", ask]).arg(&script).args(words)).ok();
        assert_eq!(completed.trim(), expected, "{words:?}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let site = Site::new();
    let folder = site.home().join("man");
    fs::create_dir(&folder).expect("our own folder");
    run(&["man", &folder.to_string_lossy()]).ok();
    let page = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(page("pointsman.1").contains("pointsman\\-drain(1)"));
    assert!(page("pointsman-run.1").contains("POINTSMAN_HTTP") && page("pointsman-run.1").contains("USR1"));
    assert!(page("pointsman-drain.1").contains("no request or connection open"));
    assert!(!folder.join("pointsman-man.1").exists(), "it is for packagers");
}

#[test]
fn a_mistyped_variable_is_named() {
    let site = Site::new();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(program_folder().join("pointsman"));
        command.args(arguments).env_clear().env("POINTSMAN_SOTRE", "/x").env("POINTSMAN_SERVICE_HOST", "10.0.0.1");
        finish(command.stdin(Stdio::null()))
    };
    let meant = "POINTSMAN_SOTRE is set, and there is no such setting; did you mean POINTSMAN_STORE?";
    let store = site.folder().display().to_string();
    for words in [&["ls", "--store", &store][..], &["ls", "--store", "http://127.0.0.1:1"]] {
        let stderr = ask(words).stderr;
        assert!(stderr.contains(meant) && !stderr.contains("SERVICE_HOST"), "{stderr}");
    }
}

/// Runs the program where /etc is this folder, by a user who may read only what its mode allows.
fn with_etc(etc: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let line = "mount --bind \"$0\" /etc && exec setpriv --bounding-set -dac_override,-dac_read_search \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", line]).arg(etc).arg(program_folder().join("pointsman")).args(arguments);
    finish(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(variables.iter().copied()))
}

#[test]
fn every_command_reads_the_file_of_settings() {
    let site = Site::with(&[("services/shop/domain", "shop.test")]);
    let etc = site.home().join("etc");
    fs::create_dir(&etc).expect("our own folder");
    let (file, store) = (etc.join("pointsman.toml"), site.folder().display().to_string());
    let write = |text: &str| fs::write(&file, text).expect("our own folder");
    write(&format!("store = \"{store}\"\nadmin = \"off\"\n"));
    for (words, expected) in [
        (&["get", "services/shop/domain"][..], "shop.test"),
        (&["ls"], "services"),
        (&["check"], ""),
        (&["routes"], "shop.test"),
        (&["explain", "shop.test"], ""),
        (&["render"], "backend"),
    ] {
        let finished = with_etc(&etc, words, &[]);
        assert!(finished.code != Some(2) && finished.stdout.contains(expected), "{words:?}: {finished:?}");
    }
    let other = Site::new();
    let empty = other.folder().display().to_string();
    assert_eq!(with_etc(&etc, &["get", "services/shop/domain", "--store", &empty], &[]).code, Some(1), "a flag wins");
    let variable = [("POINTSMAN_STORE", &*empty)];
    assert_eq!(with_etc(&etc, &["get", "services/shop/domain"], &variable).code, Some(1), "a variable wins");
    write("stroe = \"x\"\n");
    for words in [&["get", "a"][..], &["set", "a", "b"], &["status"], &["health"], &["agent"], &["run"]] {
        let finished = with_etc(&etc, words, &[]);
        let expected = "pointsman: /etc/pointsman.toml: stroe: there is no such setting; did you mean store?";
        assert!(finished.code == Some(2) && finished.stderr.contains(expected), "{words:?}: {}", finished.stderr);
    }
    assert_eq!(with_etc(&etc, &["version"], &[]).code, Some(0));
    assert_eq!(with_etc(&etc, &["ls", "--config", "/dev/null", "--store", &store], &[]).code, Some(0));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).expect("ours");
    let left_out = "/etc/pointsman.toml may not be read by this user, and is left out";
    let listed = with_etc(&etc, &["ls", "--store", &store], &[]);
    assert!(listed.stdout == "services/\n" && listed.stderr.contains(left_out), "{listed:?}");
    let asked = with_etc(&etc, &["health", "--admin", "127.0.0.1:1"], &[]);
    assert!(asked.stderr.contains(left_out) && asked.stderr.contains("127.0.0.1:1"), "{asked:?}");
    for words in [&["run"][..], &["agent"], &["register", "a"], &["ls", "--config", "/etc/pointsman.toml"]] {
        let refused = with_etc(&etc, words, &[]);
        assert!(refused.code == Some(2) && refused.stderr.contains("Permission denied"), "{words:?}: {refused:?}");
    }
    fs::remove_file(&file).expect("ours");
    fs::create_dir(&file).expect("ours");
    let finished = with_etc(&etc, &["ls"], &[]);
    assert!(finished.code == Some(2) && finished.stderr.contains("/etc/pointsman.toml: "), "{}", finished.stderr);
}
