//! The one home of every setting: its flag, help, default, older names and reader. The environment variable and the
//! file key follow from the flag's name. Knows the source of a value only to name it in errors.

use std::path::PathBuf;

use pointsman_native::LineFormat;
use pointsman_store::Api;
use pointsman_table::{Area, guard_share};

use super::flag::{Flag, Group, PLAIN};
use super::flags_acme;
use super::flags_agent;
use super::flags_traces;
use super::model::Engine;
use super::parse;
use super::stats_socket;
use crate::logging::access::{LogTarget, SyslogForm};

/// Every setting, in the order of `--help`.
pub static FLAGS: &[Flag] = &[
    Flag {
        name: "store",
        value: "URL[,URL...]|DIR",
        group: Group::Store,
        help: "Where the keys are: etcd's URLs (http or https, default port 2379), or a folder whose files are the \
               keys",
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
        help: "This balancer's id: its keys are below /haproxy-ID",
        default: "none for a folder, which is read from its top; etcd needs --id or --prefix",
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
        help: "The prefix of the keys, instead of /haproxy-ID: /kontena/haproxy/lb, or / for the top",
        default: "/haproxy-ID if an id is given",
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
        help: "The etcd API to use; auto takes the one that was used before, else the first that holds keys of the prefix",
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
        help: "PEM file of this client's certificate for etcd; goes with --etcd-key",
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
        help: "PEM file of the private key of --etcd-cert",
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
        help: "Listening address of HTTP services: IP:PORT, or :PORT for every IPv4 address. May be given more than \
               once. TCP services listen on the ports in their keys",
        default: "0.0.0.0:80",
        many: true,
        read: |draft, choice| {
            draft.http = choice.values.iter().map(|text| parse::address(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "https",
        value: "ADDR|off",
        group: Group::Serve,
        help: "Listening address of HTTP services over TLS, with the certificates below certs/, or off. May be given \
               more than once",
        default: "port 443 of --http's addresses, once there are certificates",
        many: true,
        read: |draft, choice| {
            let each = |text: &String| parse::address(text).map_err(|error| format!("{error}, or off"));
            draft.https = Some(match choice.values.as_slice() {
                [only] if only == "off" => Vec::new(),
                some => some.iter().map(each).collect::<Result<_, _>>()?,
            });
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "admin",
        value: "ADDR|off",
        group: Group::Serve,
        help: "Listening address of the admin pages: health, metrics and the table. Anyone who can reach it can read \
               every key except secrets",
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
        name: "admin-host",
        value: "NAME",
        group: Group::Serve,
        help: "A host name of the admin pages. Requests for other names than this, localhost and IP addresses get 421, \
               so that web pages of other sites cannot read them. May be given more than once",
        many: true,
        read: |draft, choice| {
            draft.admin_hosts = choice.values.iter().map(|text| parse::host_name(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "stats-socket",
        value: "PATH",
        group: Group::Serve,
        help: "A Unix socket for HAProxy's tools: it answers commands of HAProxy's stats socket. In quotes, words of HAProxy \
               may follow: mode 660, level admin. Only with level admin can its clients change keys",
        default: "none; mode 600, level operator",
        read: |draft, choice| {
            draft.stats_socket = Some(stats_socket::parse(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "metrics-detail",
        value: "NUMBER|all",
        group: Group::Serve,
        help: "About how many series /metrics has at most: beyond it, only the busiest services are named. all: no limit",
        default: "2000",
        read: |draft, choice| {
            draft.metrics_detail = parse::metrics_detail(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "engine",
        value: "native|haproxy",
        group: Group::Serve,
        help: "The proxy engine: native, in this process, or a real HAProxy, started and driven by Pointsman",
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
        name: "instances-allow",
        value: "PLACE",
        group: Group::Serve,
        help: "Where instances may be, and nowhere else: a network (10.0.0.0/8), an address, loopback, private, \
               link-local, all, or a path of Unix sockets. May be given more than once",
        default: "everywhere, except for link-local addresses",
        many: true,
        read: |draft, choice| {
            draft.places.allow = Area::parse(&choice.values.join(","))?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "instances-deny",
        value: "PLACE",
        group: Group::Serve,
        help: "Where instances may not be: even if --instances-allow permits it. May be given more than once",
        many: true,
        read: |draft, choice| {
            draft.places.deny = Area::parse(&choice.values.join(","))?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "resolver",
        value: "IP[:PORT]",
        group: Group::Serve,
        help: "Name server that is asked for the host names of instances. May be given more than once",
        default: "those of /etc/resolv.conf",
        many: true,
        read: |draft, choice| {
            draft.resolvers = choice.values.iter().map(|text| parse::resolver(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "name",
        value: "NAME",
        group: Group::Serve,
        help: "This balancer's name: in `pointsman status`, unique within its id",
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
        help: "Number of worker threads",
        default: "one per core",
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
        help: "A path that the balancer itself answers with 200; the key config/health_uri overrides it",
        legacy: &["KONTENA_LB_HEALTH_URI"],
        read: |draft, choice| {
            draft.health_uri = Some(parse::health_uri(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "guard",
        value: "SHARE|off",
        group: Group::Serve,
        help: "The share of services or instances that may be taken away at once: or ten, if that is more; what goes beyond \
               is served on, with a problem. The key config/guard overrides it",
        default: "50%",
        read: |draft, choice| {
            draft.guard.share = guard_share(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "guard-hold",
        value: "TIME",
        group: Group::Serve,
        help: "How long more than that is served on: unless its keys come back or `pointsman guard release` lets it go",
        default: "10m",
        read: |draft, choice| {
            draft.guard.hold = parse::wait(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "certs",
        value: "DIR",
        group: Group::Serve,
        help: "Folder of certificates: each file is one, with its chain and its key in PEM, named as the file without \
               .pem. Followed; a key below certs/ of the same name goes first",
        read: |draft, choice| {
            draft.certs = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    flags_acme::ACME_CA,
    flags_acme::ACME_DNS_HOOK,
    flags_acme::ACME_DNS_SERVER,
    // After the server that they are about.
    flags_acme::ACME_DNS_ZONE,
    flags_acme::ACME_DNS_KEY,
    Flag {
        name: "accept-proxy",
        value: "PLACE",
        group: Group::Serve,
        help: "Whose connections begin with a PROXY header: networks, private or all; the key config/accept_proxy \
               overrides it",
        legacy: &["KONTENA_LB_ACCEPT_PROXY"],
        read: |draft, choice| {
            draft.accept_proxy = parse::accept_proxy(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "access-log",
        value: "FILE|stdout|stderr|syslog:ADDR|off",
        group: Group::Native,
        help: "Log every request: to the end of a file, to a standard stream, or to syslog: IP:PORT (UDP), tcp:IP:PORT or \
               /dev/log; may be given more than once",
        default: "off",
        many: true,
        read: |draft, choice| {
            let targets = choice.values.iter().map(|text| LogTarget::parse(text));
            draft.access.to = targets.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "access-log-format",
        value: "httplog|json|clf|combined|TEMPLATE",
        group: Group::Native,
        help: "How a line is written: as HAProxy or Apache do, as JSON, or a text with placeholders such as {client_ip} {status}",
        default: "httplog",
        read: |draft, choice| {
            draft.access.format = LineFormat::parse(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "access-log-sample",
        value: "SHARE",
        group: Group::Native,
        help: "The share of requests that are logged, such as 0.01; those with a fault always are",
        default: "1",
        read: |draft, choice| {
            draft.access.sample = parse::share(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "access-log-syslog",
        value: "rfc5424|rfc3164",
        group: Group::Native,
        help: "How lines for syslog are framed",
        default: "rfc5424",
        read: |draft, choice| {
            draft.access.syslog = match choice.text() {
                "rfc5424" => SyslogForm::Rfc5424,
                "rfc3164" => SyslogForm::Rfc3164,
                text => return Err(format!("{text:?} is no form of syslog; write rfc5424 or rfc3164")),
            };
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "recent-requests",
        value: "NUMBER",
        group: Group::Native,
        help: "How many requests are kept in memory for `pointsman logs` and `plan`; 0 for none",
        default: "10000 with --access-log, else 0",
        read: |draft, choice| {
            draft.access.recent = Some(parse::recent(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    flags_traces::OTLP,
    flags_traces::OTLP_SAMPLE,
    flags_traces::OTLP_HEADER,
    flags_traces::METRICS_EXEMPLARS,
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
        help: "Your own haproxy.cfg as a template; {{ global }}, {{ defaults }}, {{ frontends }} and {{ backends }} \
               insert what Pointsman writes without a template",
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
        name: "haproxy-ciphers",
        value: "LIST",
        group: Group::Haproxy,
        help: "Cipher suites of TLS 1.2 and earlier for --https, as openssl ciphers takes them",
        legacy: &["KONTENA_LB_SSL_CIPHERS"],
        read: |draft, choice| {
            draft.haproxy.ciphers = Some(parse::ciphers(choice.text())?);
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
        help: "Least time between two reloads; changes that need no reload do not wait",
        default: "1s",
        read: |draft, choice| {
            draft.haproxy.reload_every = parse::wait(choice.text())?;
            Ok(())
        },
        ..PLAIN
    },
    flags_agent::DOCKER,
    flags_agent::NODE,
    flags_agent::HOST,
    flags_agent::NETWORK,
    flags_agent::TTL,
    Flag {
        name: "state",
        value: "DIR",
        help: "Folder for the balancer's own files: what it keeps over a restart, HAProxy's, and the store if --store is \
               not given",
        default: "$STATE_DIRECTORY (systemd), else /var/lib/pointsman for root, else pointsman in $XDG_STATE_HOME or ~/.local/state",
        read: |draft, choice| {
            draft.state = Some(PathBuf::from(choice.text()));
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "log",
        value: "LEVEL",
        help: "Log level: error, warn, info, debug or trace; or a filter such as info,pointsman::store=debug",
        default: "info for run, demo, agent and register, else warn",
        read: |draft, choice| {
            draft.log = Some(parse::log(choice.text())?);
            Ok(())
        },
        ..PLAIN
    },
    Flag {
        name: "config",
        value: "FILE",
        help: "TOML file of settings: a key is a flag without its dashes, such as etcd-api = \"3\". A flag beats the \
               environment, the environment beats the file",
        default: "/etc/pointsman.toml, if it is there",
        ..PLAIN
    },
];
