//! The one home of every setting: its flag, help, default, older names and reader. The environment variable and the
//! file key follow from the flag's name. Never looks at where a value came from, beyond naming it.

use std::path::PathBuf;

use pointsman_store::Api;

use super::choice::Choice;
use super::docker_host::DockerHost;
use super::model::{Draft, Engine};
use super::parse;

/// Which commands take a flag; also its heading in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where the keys are: every command that reads or writes them.
    Store,
    /// How to serve: `run`, and the commands that ask a running balancer.
    Serve,
    /// How to serve through HAProxy: as [`Group::Serve`], without effect on the native engine.
    Haproxy,
    /// Which containers, and how balancers reach them.
    Agent,
    /// Everything else: every command.
    General,
}

impl Group {
    /// The heading in `--help`.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Store => "Store",
            Self::Serve => "Serving",
            Self::Haproxy => "HAProxy engine",
            Self::Agent => "Agent",
            Self::General => "General",
        }
    }
}

/// One setting.
pub struct Flag {
    /// The long flag without its dashes; also the key in the file.
    pub name: &'static str,
    /// What stands for the value in help.
    pub value: &'static str,
    /// Which commands take it.
    pub group: Group,
    /// One or two sentences.
    pub help: &'static str,
    /// The default in words; empty where there is none.
    pub default: &'static str,
    /// Whether it may be given more than once (comma separated in the environment, a list in the file).
    pub many: bool,
    /// Whether its value must never be printed.
    pub secret: bool,
    /// Environment variables of the systems that Pointsman replaces, first one first. They lose to everything else.
    pub legacy: &'static [&'static str],
    /// Reads the value into the draft. The error says what is wrong and what would be right.
    pub(super) read: fn(&mut Draft, &Choice) -> Result<(), String>,
}

impl Flag {
    /// The environment variable: `POINTSMAN_ETCD_API`.
    pub fn variable(&self) -> String {
        format!("POINTSMAN_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

const PLAIN: Flag = Flag {
    name: "",
    value: "",
    group: Group::General,
    help: "",
    default: "",
    many: false,
    secret: false,
    legacy: &[],
    read: |_, _| Ok(()),
};

/// Every setting, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    Flag {
        name: "store",
        value: "URL[,URL...]|DIR",
        group: Group::Store,
        help: "Where the keys are: etcd's URLs (http or https, port 2379 unless given), or a folder whose files are \
               the keys",
        default: "the folder `store` below --state",
        legacy: &["ETCD_NODE", "ETCDCTL_ENDPOINTS"],
        read: |draft, choice| {
            draft.store = Some(parse::store(choice.text(), choice.origin.is_legacy())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "id",
        value: "ID",
        group: Group::Store,
        help: "Which balancer this is: its keys are below /haproxy-ID",
        default: "a folder is read from its top; etcd needs --id or --prefix",
        legacy: &["HAPROXY-ID", "HAPROXY_ID"],
        read: |draft, choice| {
            draft.id = Some((parse::id(choice.text())?, choice.origin.rank()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "prefix",
        value: "PREFIX",
        group: Group::Store,
        help: "Where the keys begin, instead of /haproxy-ID: /kontena/haproxy/lb, or / for the top",
        default: "/haproxy-ID where an id is given",
        read: |draft, choice| {
            draft.prefix = Some((parse::prefix(choice.text())?, choice.origin.rank()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "etcd-api",
        value: "auto|2|3",
        group: Group::Store,
        help: "Which of etcd's APIs to speak; auto takes 3 where the server has it, unless only 2 holds the prefix",
        default: "auto",
        read: |draft, choice| {
            draft.api = match choice.text() {
                "auto" => Api::Auto,
                "2" | "v2" => Api::V2,
                "3" | "v3" => Api::V3,
                other => {
                    return Err(format!("{other:?} is not an API of etcd; write auto, 2 or 3"));
                }
            };
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "etcd-user",
        value: "USER[:PASSWORD]",
        group: Group::Store,
        help: "Name and password for etcd. Other users of this machine can read a flag: prefer the environment \
               variable or the file for the password",
        secret: true,
        read: |draft, choice| {
            draft.user = Some(parse::user(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "etcd-ca",
        value: "FILE",
        group: Group::Store,
        help: "PEM file of the authority that signs etcd's certificate",
        read: |draft, choice| {
            draft.ca = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "etcd-cert",
        value: "FILE",
        group: Group::Store,
        help: "PEM file of our certificate for etcd; goes with --etcd-key",
        read: |draft, choice| {
            draft.cert = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "etcd-key",
        value: "FILE",
        group: Group::Store,
        help: "PEM file of the key of --etcd-cert",
        read: |draft, choice| {
            draft.key = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "http",
        value: "ADDR",
        group: Group::Serve,
        help: "Where HTTP services are served: IP:PORT, or :PORT for every IPv4 address. May be given more than once. \
               TCP services listen where their keys say",
        default: "0.0.0.0:80",
        many: true,
        read: |draft, choice| {
            draft.http = choice.values.iter().map(|text| parse::address(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "admin",
        value: "ADDR|off",
        group: Group::Serve,
        help: "Where health, metrics and the table are shown. Whoever reaches it can read every key but secrets",
        default: "127.0.0.1:8404",
        read: |draft, choice| {
            draft.admin = match choice.text() {
                "off" => None,
                text => Some(parse::address(text).map_err(|error| format!("{error}, or off"))?),
            };
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "engine",
        value: "native|haproxy",
        group: Group::Serve,
        help: "What moves the bytes: the native engine in this process, or a real HAProxy that is started and driven",
        default: "native",
        read: |draft, choice| {
            draft.engine = match choice.text() {
                "native" => Engine::Native,
                "haproxy" => Engine::Haproxy,
                other => return Err(format!("{other:?} is not an engine; write native or haproxy")),
            };
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "name",
        value: "NAME",
        group: Group::Serve,
        help: "The name of this balancer among those of its id, in `pointsman status`",
        default: "the host's name and the first --http port",
        read: |draft, choice| {
            draft.name = Some(parse::name(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "workers",
        value: "N",
        group: Group::Serve,
        help: "How many threads serve",
        default: "one a core",
        read: |draft, choice| {
            draft.workers = Some(parse::workers(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "health-uri",
        value: "PATH",
        group: Group::Serve,
        help: "Path that the balancer itself answers with 200; the key config/health_uri goes before it",
        legacy: &["KONTENA_LB_HEALTH_URI"],
        read: |draft, choice| {
            draft.health_uri = Some(parse::health_uri(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "https",
        value: "ADDR",
        group: Group::Haproxy,
        help: "Where HTTP services are served over TLS too, with the certificates below certs/. May be given more than \
               once",
        many: true,
        read: |draft, choice| {
            draft.https = choice.values.iter().map(|text| parse::address(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy",
        value: "FILE",
        group: Group::Haproxy,
        help: "The HAProxy to run, 2.4 or later",
        default: "haproxy in PATH",
        read: |draft, choice| {
            draft.haproxy.program = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy-template",
        value: "FILE",
        group: Group::Haproxy,
        help: "Your own haproxy.cfg, a template: {{ global }}, {{ defaults }}, {{ frontends }} and {{ backends }} are \
               what would be written without it",
        read: |draft, choice| {
            draft.haproxy.template = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy-global-settings",
        value: "LINES",
        group: Group::Haproxy,
        help: "Lines for HAProxy's global section",
        legacy: &["KONTENA_LB_GLOBAL_SETTINGS"],
        read: |draft, choice| {
            draft.haproxy.global_settings = Some(choice.text().into());
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy-custom-settings",
        value: "LINES",
        group: Group::Haproxy,
        help: "Lines for HAProxy's defaults section",
        legacy: &["KONTENA_LB_CUSTOM_SETTINGS"],
        read: |draft, choice| {
            draft.haproxy.custom_settings = Some(choice.text().into());
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy-hard-stop",
        value: "WAIT",
        group: Group::Haproxy,
        help: "How long an old HAProxy process may finish its connections after a reload",
        default: "10m",
        read: |draft, choice| {
            draft.haproxy.hard_stop = parse::wait(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "haproxy-reload-every",
        value: "WAIT",
        group: Group::Haproxy,
        help: "Least time between two reloads; changes that need none are not held up",
        default: "1s",
        read: |draft, choice| {
            draft.haproxy.reload_every = parse::wait(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "docker",
        value: "URL",
        group: Group::Agent,
        help: "Where the Docker daemon is: unix:///PATH or tcp://HOST:PORT",
        default: "unix:///var/run/docker.sock",
        legacy: &["DOCKER_HOST"],
        read: |draft, choice| {
            draft.agent.docker = DockerHost::parse(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "node",
        value: "NAME",
        group: Group::Agent,
        help: "This machine's name, in front of its containers' in the names of instances",
        default: "the name that Docker knows it by",
        read: |draft, choice| {
            draft.agent.node = Some(parse::name(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "host",
        value: "IP",
        group: Group::Agent,
        help: "This machine's address as balancers see it: containers are reached there, by the ports they publish",
        default: "containers are reached by their own addresses",
        read: |draft, choice| {
            let wrong = |_| format!("{:?} is not an address; write one such as 10.0.0.7", choice.text());
            draft.agent.host = Some(choice.text().parse().map_err(wrong)?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "network",
        value: "NAME",
        group: Group::Agent,
        help: "The Docker network in which balancers reach containers that are in several",
        read: |draft, choice| {
            draft.agent.network = Some(choice.text().to_owned());
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "ttl",
        value: "TIME",
        group: Group::Agent,
        help: "How long the keys stay when the agent is gone",
        default: "15s",
        read: |draft, choice| {
            draft.agent.ttl = parse::ttl(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "state",
        value: "DIR",
        help: "Folder for what the balancer keeps: its own store, if --store names none",
        default: "/var/lib/pointsman for root, else pointsman in $XDG_STATE_HOME or ~/.local/state",
        read: |draft, choice| {
            draft.state = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "log",
        value: "LEVEL",
        help: "What is logged: error, warn, info, debug or trace; or a filter such as info,pointsman::store=debug",
        default: "info for run and demo, else warn",
        read: |draft, choice| {
            draft.log = Some(parse::log(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "config",
        value: "FILE",
        help: "TOML file of settings: a key is a flag without its dashes, such as etcd-api = \"3\". A flag goes \
               before the environment, the environment before the file",
        ..PLAIN
    },
];
