//! Rows: sources in, settings or the error out.

use std::num::NonZeroUsize;

use super::*;

const HOST: Host = Host { root: false, cores: NonZeroUsize::MIN, config: None, needs_config: false };

/// One row: flags and variables as `name=value` words, the file's text.
#[derive(Default)]
struct Row {
    flags: &'static str,
    variables: &'static str,
    file: &'static str,
}

fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_whitespace().map(|word| word.split_once('=').expect("name=value"))
}

fn read(row: &Row) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let mut given = CommandLine::new();
    for (name, value) in words(row.flags) {
        let flag = FLAGS.iter().find(|flag| flag.name == name).unwrap();
        given.entry(flag.name).or_default().push(value.to_owned());
    }
    let mut environment: Environment = words(row.variables).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    environment.entry("HOME".to_owned()).or_insert_with(|| "/home/me".to_owned());
    if !row.file.is_empty() {
        let path = folder.path().join("p.toml");
        std::fs::write(&path, row.file).unwrap();
        given.insert("config", vec![path.display().to_string()]);
    }
    Chosen::gather(&given, &environment, HOST)?.settings(&environment, HOST)
}

fn check(row: &Row, expected: &str) {
    let shown = match read(row) {
        Ok(settings) => format!("{settings:?}"),
        Err(error) => error.to_string(),
    };
    assert!(
        shown.contains(expected),
        "{} | {} | {}: {shown:?} does not say {expected:?}",
        row.flags,
        row.variables,
        row.file
    );
}

#[test]
fn flag_beats_environment_beats_file_beats_legacy() {
    let file = "store = \"http://file:1\"\nid = \"x\"";
    let variables = "POINTSMAN_STORE=http://env:1 ETCD_NODE=legacy HAPROXY-ID=h";
    for (row, expected) in [
        (Row { flags: "store=http://flag:1", variables, file }, "http://flag:1"),
        (Row { variables, file, ..Row::default() }, "http://env:1"),
        (Row { variables: "ETCD_NODE=legacy", file, ..Row::default() }, "http://file:1"),
        (Row { variables: "ETCD_NODE=legacy HAPROXY_ID=h", ..Row::default() }, "http://legacy:2379"),
        (
            Row { variables: "ETCDCTL_ENDPOINTS=a:1,b:2 HAPROXY_ID=h", ..Row::default() },
            "[\"http://a:1\", \"http://b:2\"]",
        ),
        (Row { variables: "ETCD_NODE=n ETCDCTL_ENDPOINTS=a:1 HAPROXY_ID=h", ..Row::default() }, "http://n:2379"),
        (Row { variables: "POINTSMAN_STORE= ETCD_NODE=n HAPROXY_ID=h", ..Row::default() }, "http://n:2379"),
        (
            Row { flags: "http=:1 http=:2", variables: "POINTSMAN_HTTP=:3", ..Row::default() },
            "http: [0.0.0.0:1, 0.0.0.0:2]",
        ),
        (Row { variables: "POINTSMAN_HTTP=:3,[::]:4", ..Row::default() }, "http: [0.0.0.0:3, [::]:4]"),
        (Row { file: "http = [\":3\", 4]\nworkers = 7", ..Row::default() }, "http: [0.0.0.0:3, 0.0.0.0:4]"),
        (Row { file: "workers = 7", ..Row::default() }, "workers: 7"),
        (Row { flags: "admin=off", ..Row::default() }, "admin: None"),
        (Row { variables: "KONTENA_LB_HEALTH_URI=/up", ..Row::default() }, "health_uri: Some(\"/up\")"),
        (Row::default(), "admin: Some(127.0.0.1:8404)"),
        (Row::default(), "Directory(\"/home/me/.local/state/pointsman/store\")"),
        (Row { variables: "XDG_STATE_HOME=/s", ..Row::default() }, "Directory(\"/s/pointsman/store\")"),
        (Row { flags: "state=/x", ..Row::default() }, "Directory(\"/x/store\")"),
        (Row { variables: "STATE_DIRECTORY=/u:/v XDG_STATE_HOME=/s", ..Row::default() }, "Directory(\"/u/store\")"),
        (Row { flags: "state=/x", variables: "STATE_DIRECTORY=/u", ..Row::default() }, "Directory(\"/x/store\")"),
        (Row { flags: "engine=haproxy state=/x", ..Row::default() }, "engine: Haproxy"),
        (Row { flags: "engine=haproxy https=:443", ..Row::default() }, "https: [0.0.0.0:443]"),
        (Row { variables: "KONTENA_LB_CUSTOM_SETTINGS=x", ..Row::default() }, "custom_settings: Some(\"x\")"),
        (Row { variables: "KONTENA_LB_GLOBAL_SETTINGS=x", ..Row::default() }, "global_settings: Some(\"x\")"),
        (Row { variables: "KONTENA_LB_SSL_CIPHERS=HIGH", ..Row::default() }, "ciphers: Some(\"HIGH\")"),
        (Row { flags: "certs=/c", ..Row::default() }, "certs: Some(\"/c\")"),
        (Row { variables: "SSL_CERT_A=hunter2", ..Row::default() }, "cert_variables: [ssl_cert_a from SSL_CERT_A],"),
        (
            Row { flags: "acme-ca=/c", ..Row::default() },
            "acme: AcmeSettings { ca: Some(\"/c\"), hook: None, updates: None, answers: Answers { bodies: {}, certs: {} } }",
        ),
        (
            Row { flags: "acme-dns-server=10.0.0.1 acme-dns-zone=shop.test acme-dns-key=/k", ..Row::default() },
            "updates: Some(DnsUpdates { server: 10.0.0.1:53, zone: Some(\"shop.test\"), key: Some(\"/k\") })",
        ),
        (
            Row { variables: "ACME_CHALLENGE_a=token.print ACME_CHALLENGE_b=", ..Row::default() },
            "answers: Answers { bodies: {\"token\": \"token.print\"}",
        ),
        (Row { flags: "haproxy-hard-stop=2m", ..Row::default() }, "hard_stop: 120s"),
        (Row { flags: "haproxy-reload-every=500ms", ..Row::default() }, "reload_every: 500ms"),
        (
            Row { flags: "haproxy=/h haproxy-template=/t", ..Row::default() },
            "program: Some(\"/h\"), template: Some(\"/t\")",
        ),
    ] {
        check(&row, expected);
    }
}

#[test]
fn the_stronger_of_id_and_prefix_wins() {
    let etcd = "POINTSMAN_STORE=http://e:1";
    for (flags, variables, expected) in [
        ("id=haproxy-1", "", "prefix: \"/haproxy-haproxy-1\""),
        ("prefix=/a", "HAPROXY-ID=b", "prefix: \"/a\""),
        ("prefix=/a id=b", "", "prefix: \"/a\""),
        ("id=b", "POINTSMAN_PREFIX=/a", "prefix: \"/haproxy-b\""),
        ("prefix=/", "HAPROXY_ID=b", "prefix: \"\""),
        ("", "HAPROXY-ID=one HAPROXY_ID=two", "prefix: \"/haproxy-one\""),
        ("", "", "--id: etcd also holds other keys; give --id ID"),
    ] {
        let variables: &'static str = format!("{etcd} {variables}").leak();
        check(&Row { flags, variables, file: "" }, expected);
    }
    check(&Row::default(), "prefix: \"\"");
}

#[test]
fn errors_name_the_source_and_what_is_expected() {
    for (row, expected) in [
        (
            Row { flags: "http=80x", ..Row::default() },
            "--http: \"80x\" is not an address; write 0.0.0.0:80 or [::]:80 or :8080",
        ),
        (Row { variables: "POINTSMAN_HTTP=80x", ..Row::default() }, "POINTSMAN_HTTP: \"80x\" is not an address"),
        (Row { file: "http = \"80x\"", ..Row::default() }, "p.toml: http: \"80x\" is not an address"),
        (Row { file: "htpt = \":80\"", ..Row::default() }, "htpt: there is no such setting; did you mean http?"),
        (Row { file: "etcd_api = 3", ..Row::default() }, "did you mean etcd-api?"),
        (Row { file: "config = \"x\"", ..Row::default() }, "config: there is no such setting"),
        (Row { file: "log = true", ..Row::default() }, "log: expected a text or a number"),
        (Row { file: "id = \"a\"\nlog = ", ..Row::default() }, "line 2: "),
        (Row { flags: "config=/nowhere/x.toml", ..Row::default() }, "--config: /nowhere/x.toml: No such file"),
        (Row { flags: "engine=nginx", ..Row::default() }, "--engine: \"nginx\" is not an engine; write native or"),
        (Row { flags: "haproxy-hard-stop=5", ..Row::default() }, "--haproxy-hard-stop: \"5\" is not a duration; write"),
        (Row { flags: "id=a id=b", ..Row::default() }, "--id: it is given more than once"),
        (Row { flags: "store=", ..Row::default() }, "--store: it is empty"),
        (Row { flags: "etcd-cert=a", ..Row::default() }, "--etcd-cert: a certificate needs its key"),
        (Row { variables: "HOME=relative", ..Row::default() }, "--state: there is no home folder"),
        (Row { variables: "ETCD_NODE=ftp://x", ..Row::default() }, "ETCD_NODE: \"ftp://x\" is not an endpoint"),
    ] {
        check(&row, expected);
    }
}

#[test]
fn a_password_in_a_broken_file_is_not_printed() {
    for file in ["etcd-user = \"root:hunter2", "etcd-user = root:hunter2", "etcd-user = { hunter2 = 1 }"] {
        let error = read(&Row { file, ..Row::default() }).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_second_reading_tells_what_changed() {
    let one =
        Chosen::gather(&CommandLine::from([("log", vec!["info".to_owned()])]), &Environment::new(), HOST).unwrap();
    let two =
        Chosen::gather(&CommandLine::new(), &Environment::from([("POINTSMAN_ID".to_owned(), "a".to_owned())]), HOST)
            .unwrap();
    assert_eq!(one.differences(&two), ["id", "log"]);
}

#[test]
fn root_keeps_its_state_below_var() {
    let chosen = Chosen::gather(&CommandLine::new(), &Environment::new(), HOST).unwrap();
    let settings = chosen.settings(&Environment::new(), Host { root: true, ..HOST }).unwrap();
    assert_eq!(settings.store.location, Location::Directory(PathBuf::from("/var/lib/pointsman/store")));
}

#[test]
fn a_usual_file_is_read_if_it_is_there_and_no_other_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> &'static Path { Box::leak(folder.path().join(name).into_boxed_path()) };
    let gather = |usual: &'static Path, given: &CommandLine| {
        let chosen = Chosen::gather(given, &Environment::new(), Host { config: Some(usual), ..HOST });
        chosen.map(|chosen| chosen.has("id")).map_err(|error| error.to_string())
    };
    let (good, bad, none) = (at("good.toml"), at("bad.toml"), at("none.toml"));
    std::fs::write(good, "id = \"a\"").unwrap();
    std::fs::write(bad, "ids = \"a\"").unwrap();
    let nothing = CommandLine::new();
    let other = |path: &Path| CommandLine::from([("config", vec![path.display().to_string()])]);
    assert_eq!(gather(good, &nothing), Ok(true));
    assert_eq!(gather(none, &nothing), Ok(false));
    assert_eq!(gather(bad, &other(good)), Ok(true));
    assert_eq!(gather(bad, &other(Path::new("/dev/null"))), Ok(false));
    let error = gather(bad, &nothing).unwrap_err();
    assert_eq!(error, format!("{}: ids: there is no such setting; did you mean id?", bad.display()));
    let error = gather(at("."), &nothing).unwrap_err();
    assert!(error.starts_with(&format!("{}", folder.path().display())), "{error}");
}

#[test]
fn variables_that_are_no_settings_are_told() {
    let names = ["POINTSMAN_STROE", "POINTSMAN_BANANA", "POINTSMAN_HTTP", "POINTSMAN_PORT_80_TCP", "OTHER_STROE"];
    let mut environment: Environment = names.map(|name| (name.to_owned(), "x".to_owned())).into();
    environment.insert("POINTSMAN_EMPTY".to_owned(), " ".to_owned());
    assert_eq!(
        layers::unknown_variables(&environment),
        [
            "POINTSMAN_BANANA is set, and there is no such setting; `pointsman run --help` lists them",
            "POINTSMAN_STROE is set, and there is no such setting; did you mean POINTSMAN_STORE?"
        ]
    );
}

/// Every flag has its row in the reference, as the code has it.
#[test]
fn documented() {
    let page = include_str!("../../../../docs/settings.md");
    for flag in FLAGS {
        let key = if flag.name == "config" { "" } else { flag.name };
        let row = format!(
            "| `--{} {}` | `{}` | {} |",
            flag.name,
            flag.value.replace('|', "\\|"),
            flag.variable(),
            quoted(key)
        );
        assert!(page.contains(&row), "docs/settings.md lacks: {row}");
        for name in flag.legacy {
            assert!(page.contains(name), "docs/settings.md lacks {name}");
        }
    }
}

fn quoted(key: &str) -> String {
    if key.is_empty() { "–".to_owned() } else { format!("`{key}`") }
}
