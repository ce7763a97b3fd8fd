//! Command lines, and what help says.

use super::*;

fn check(line: &str, expected: &str) {
    let shown = match parse(line.split(' ').map(OsString::from)) {
        Ok(parsed) => format!("{parsed:?}"),
        Err(error) => error.to_string(),
    };
    assert!(shown.contains(expected), "{line}: {shown} lacks {expected}");
}

#[test]
fn the_command_line_holds_together() {
    command().debug_assert();
}

#[test]
fn command_lines() {
    for (line, expected) in [
        ("pointsman run --http :1 --http :2", r#"(Run { takeover: false }, {"http": [":1", ":2"]})"#),
        (
            "pointsman set --store d services/a/b -1",
            r#"Set { key: "services/a/b", value: "-1", more: [], dry_run: false, force: false, wait: Wait { wait: None } }, {"store": ["d"]}"#,
        ),
        ("pointsman set services/a/b v --store d", r#"{"store": ["d"]}"#),
        ("pointsman ls", r#"Ls { key: "", recursive: false, values: false, secrets: false }"#),
        ("pointsman rm -r a", "recursive: true"),
        ("pointsman rm a --wait", "wait: Some(30s)"),
        ("pointsman set a b --wait=5s", "wait: Some(5s)"),
        (
            "pointsman set --wait a b",
            r#"key: "a", value: "b", more: [], dry_run: false, force: false, wait: Wait { wait: Some(30s) }"#,
        ),
        ("pointsman set a 1 b -2 --force", r#"value: "1", more: ["b", "-2"], dry_run: false, force: true"#),
        (
            "pointsman set a 1 b -----BEGIN --force",
            r#"value: "1", more: ["b", "-----BEGIN"], dry_run: false, force: true"#,
        ),
        (
            "pointsman set a -x --store d --wait",
            r#"value: "-x", more: [], dry_run: false, force: false, wait: Wait { wait: Some(30s) }"#,
        ),
        ("pointsman set a 1 b -- --force", r#"more: ["b", "--force"], dry_run: false, force: false"#),
        ("pointsman set a b --forec", "unexpected argument '--forec'"),
        ("pointsman set --help", "Write the change even if"),
        ("pointsman set a", "<VALUE>"),
        ("pointsman apply - --prune a --prune b", r#"file: "-", prune: ["a", "b"], dry_run: false }, force: false"#),
        ("pointsman set a b --wait=soon", "is not a duration"),
        ("pointsman demo --store d", "unexpected argument '--store'"),
        ("pointsman get --workers 2 a", "unexpected argument '--workers'"),
        ("pointsman run --htpt :1", "a similar argument exists: '--http'"),
        (
            "pointsman explain --json /a",
            r#"Explain { url: "/a", request: ExplainRequest { method: "GET", headers: [], client: None }, json: true }"#,
        ),
        ("pointsman render --output a/b --https :443", r#"Render { output: Some("a/b") }, {"https": [":443"]}"#),
        ("pointsman health --admin :9000", r#"(Health, {"admin": [":9000"]})"#),
        ("pointsman health --http :80", "unexpected argument '--http'"),
        ("pointsman ls --etcd-api v2", r#"{"etcd-api": ["v2"]}"#),
        ("pointsman run --engine nginx", "[possible values: native, haproxy]"),
        ("pointsman drain shop/web-1 --wait 60s", "tip: write the time as --wait=60s"),
        ("pointsman apply a.toml --wait 5m", "tip: write the time as --wait=5m"),
        ("pointsman wait 30s", "tip: write the time as --timeout 30s"),
        ("pointsman check shop.toml", "'pointsman apply shop.toml --dry-run' judges a file"),
        ("pointsman drain shop web-1", "tip: write an instance as SERVICE/INSTANCE"),
        ("pointsman rm -r a --dry-run", "dry_run: true"),
        ("pointsman set a b --dry-run", "dry_run: true"),
        ("pointsman nonsense", "unrecognized subcommand"),
        ("pointsman chekc", "a similar subcommand exists: 'check'"),
        ("pointsman completions bash", r#"Completions { shell: "bash" }, {}"#),
        ("pointsman completions sh", "[possible values: bash, zsh, fish]"),
        ("pointsman help drain", "Adds the word `drain`"),
    ] {
        check(line, expected);
    }
}

#[test]
fn drain_says_that_it_waits_for_open_requests() {
    for (command, expected) in [("drain", true), ("undrain", false), ("set", false)] {
        let help = parse(["pointsman", command, "--help"].map(OsString::from)).unwrap_err().to_string();
        let words: Vec<_> = help.split_whitespace().collect();
        assert_eq!(words.join(" ").contains("no request or connection open to the instance, for"), expected, "{help}");
    }
}

#[test]
fn short_help_is_short_and_has_every_flag() {
    let help = parse(["pointsman", "run", "-h"].map(OsString::from)).unwrap_err().to_string();
    for flag in FLAGS.iter().filter(|flag| takes("run", flag)) {
        assert!(help.contains(&format!("--{} <", flag.name)), "{} in {help}", flag.name);
    }
    assert!(!help.contains("POINTSMAN_") && help.len() < 4500, "{} bytes: {help}", help.len());
    assert!(help.contains("[default: 0.0.0.0:80]"), "{help}");
}

#[test]
fn the_demo_tells_its_own_defaults() {
    let help = parse(["pointsman", "demo", "--help"].map(OsString::from)).unwrap_err().to_string();
    for (text, expected) in [
        ("[default: 127.0.0.1:8080, or a free port", true),
        ("[default: 127.0.0.1:8443, or a free port", true),
        ("[default: in the demo's own folder]", true),
        ("0.0.0.0:80", false),
        ("/var/lib/pointsman", false),
        ("--store", false),
        ("for run, demo", false),
    ] {
        assert_eq!(help.contains(text), expected, "{text}: {help}");
    }
}

#[test]
fn help_teaches_every_flag() {
    for command in ["run", "set", "demo", "health"] {
        let help = parse(["pointsman", command, "--help"].map(OsString::from)).unwrap_err().to_string();
        for flag in FLAGS {
            let expected = takes(command, flag);
            assert_eq!(help.contains(&flag.variable()), expected, "{command} --help and {}", flag.name);
        }
    }
}
