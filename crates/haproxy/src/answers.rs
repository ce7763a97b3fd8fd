//! Reads HAProxy's answers on its command sockets. Pure: text in, values out, for every version from 2.4 on.

use std::time::Duration;

/// Why HAProxy did not do what a command asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The backend has no server of that name.
    #[error("no such server")]
    NoSuchServer,
    /// There is no backend of that name.
    #[error("no such backend")]
    NoSuchBackend,
    /// The backend already has a server of that name.
    #[error("a server of that name is there already")]
    ServerExists,
    /// The server is not in maintenance, or has connections, busy or idle: it cannot be deleted yet.
    #[error("the server is still in use: {0}")]
    ServerInUse(Box<str>),
    /// There is no map of that file.
    #[error("no such map")]
    NoSuchMap,
    /// The map has no such key.
    #[error("no such key in the map")]
    NoSuchKey,
    /// This HAProxy does not know the command, or calls it experimental.
    #[error("HAProxy does not know the command: {0}")]
    Unknown(Box<str>),
    /// Anything else, in HAProxy's words.
    #[error("{0}")]
    Other(Box<str>),
}

/// The refusal in the answer to a command that changes something. `None`: the command succeeded.
pub fn refusal(answer: &str) -> Option<Refusal> {
    let words = answer.trim();
    if is_consent(words) {
        return None;
    }
    let starts = |lead: &str| words.starts_with(lead);
    Some(match words {
        _ if starts("No such server") => Refusal::NoSuchServer,
        _ if starts("No such backend") || starts("Can't find backend") => Refusal::NoSuchBackend,
        _ if starts("Already exists a server") => Refusal::ServerExists,
        _ if is_in_use(words) => Refusal::ServerInUse(one_line(words)),
        _ if starts("Unknown map identifier") => Refusal::NoSuchMap,
        _ if NO_KEY.iter().any(|lead| starts(lead)) => Refusal::NoSuchKey,
        _ if starts("Unknown command") || starts("This command is restricted") => Refusal::Unknown(first_line(words)),
        _ => Refusal::Other(one_line(words)),
    })
}

/// `del map`, `set map` by key, `set map` by number.
const NO_KEY: [&str; 3] = ["Key not found", "entry not found", "key or pattern not found"];

/// Success. Commands that change something answer nothing then, except for these.
fn is_consent(words: &str) -> bool {
    const LEADS: [&str; 7] = [
        "New server registered",
        "Server deleted",
        "New version created",
        "nothing changed",
        "no need to change",
        "IP changed from",
        "port changed from",
    ];
    words.is_empty() || LEADS.iter().any(|lead| words.starts_with(lead))
}

fn is_in_use(words: &str) -> bool {
    words.starts_with("Only servers in maintenance mode") || words.starts_with("Server still has connections")
}

fn first_line(words: &str) -> Box<str> {
    words.lines().next().unwrap_or_default().trim().into()
}

fn one_line(words: &str) -> Box<str> {
    words.split_whitespace().collect::<Vec<_>>().join(" ").into()
}

/// One server in `show servers state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// The backend's name.
    pub backend: Box<str>,
    /// The server's name.
    pub server: Box<str>,
    /// Its IP address or Unix socket; `-` for a name that is not resolved.
    pub address: Box<str>,
    /// Its port.
    pub port: u16,
    /// The host name that HAProxy resolves for it, if any.
    pub name: Option<Box<str>>,
    /// The weight in force, 0 to 256.
    pub weight: u16,
    /// The weight of the configuration.
    pub initial_weight: u16,
    /// Its health, by checks and traffic.
    pub operation: Operation,
    /// In maintenance: gets no work and no checks.
    pub maintenance: bool,
    /// Draining: gets no new work.
    pub drain: bool,
    /// Time since the last change of state.
    pub since: Duration,
}

/// A server's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It failed its checks, or is in maintenance.
    Down,
    /// Recovered and warming up (`slowstart`).
    Starting,
    /// It is up.
    Up,
    /// It announced that it will stop.
    Stopping,
}

/// The servers in an answer to `show servers state`. Malformed lines are skipped.
pub fn servers(answer: &str) -> Vec<ServerState> {
    let Some(header) = answer.lines().find_map(|line| line.strip_prefix("# ")) else { return Vec::new() };
    let columns = StateColumns::of(header);
    let lines = answer.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| columns.server(line)).collect()
}

/// The columns of `show servers state`: later versions append some.
struct StateColumns<'a>(Vec<&'a str>);

impl<'a> StateColumns<'a> {
    fn of(header: &'a str) -> Self {
        Self(header.split(' ').collect())
    }

    fn server(&self, line: &str) -> Option<ServerState> {
        let fields: Vec<_> = line.split(' ').collect();
        let text = |name: &str| fields.get(self.0.iter().position(|column| *column == name)?).copied();
        let number = |name: &str| text(name)?.parse::<u32>().ok();
        let small = |name: &str| number(name).and_then(|number| u16::try_from(number).ok());
        let admin = number("srv_admin_state")?;
        Some(ServerState {
            backend: text("be_name")?.into(),
            server: text("srv_name")?.into(),
            address: text("srv_addr")?.into(),
            port: small("srv_port")?,
            name: text("srv_fqdn").filter(|name| *name != "-").map(Into::into),
            weight: small("srv_uweight")?,
            initial_weight: small("srv_iweight")?,
            operation: operation(number("srv_op_state")?)?,
            maintenance: admin & MAINTENANCE != 0,
            drain: admin & DRAIN != 0,
            since: Duration::from_secs(number("srv_time_since_last_change").unwrap_or(0).into()),
        })
    }
}

/// Bits of `srv_admin_state` for maintenance (management guide, "show servers state"): forced, inherited, no address.
/// Not 4, `disabled` in the configuration: that bit stays after the server was enabled.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x20;
/// Bits for draining: forced, inherited.
const DRAIN: u32 = 0x08 | 0x10;

fn operation(code: u32) -> Option<Operation> {
    Some(match code {
        0 => Operation::Down,
        1 => Operation::Starting,
        2 => Operation::Up,
        3 => Operation::Stopping,
        _ => return None,
    })
}

/// The entries in an answer to `show map FILE`, in HAProxy's order: key and value. Keys have no spaces.
pub fn entries(answer: &str) -> impl Iterator<Item = (&str, &str)> {
    answer.lines().filter_map(|line| {
        let (id, rest) = line.split_once(' ')?;
        id.starts_with("0x").then(|| rest.split_once(' ').unwrap_or((rest, "")))
    })
}

/// A request, or a connection of a TCP service, in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// Its id for `shutdown session`.
    pub id: &'a str,
    /// Its backend.
    pub backend: &'a str,
    /// Its server.
    pub server: &'a str,
}

/// The sessions in an answer to `show sess` that have a server.
pub fn sessions(answer: &str) -> impl Iterator<Item = Session<'_>> {
    answer.lines().filter_map(|line| {
        let (id, rest) = line.split_once(": proto=tcp")?;
        let field = |name: &str| rest.split(' ').find_map(|field| field.strip_prefix(name));
        Some(Session { id, backend: field("be=")?, server: field("srv=").filter(|name| *name != "<none>")? })
    })
}

/// A worker's answer to `show info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its process.
    pub pid: u32,
    /// Its version: `2.6.12-1+deb12u4`.
    pub version: Box<str>,
    /// How long it has run.
    pub uptime: Duration,
    /// It was told to stop and finishes its work.
    pub stopping: bool,
    /// Open connections.
    pub connections: u64,
}

/// Reads an answer to `show info`. `None`: it is something else.
pub fn info(answer: &str) -> Option<Info> {
    let field = |name: &str| {
        let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
    Some(Info {
        pid: field("Pid")?.parse().ok()?,
        version: field("Version")?.into(),
        uptime: Duration::from_secs(number("Uptime_sec").unwrap_or(0)),
        stopping: number("Stopping").unwrap_or(0) > 0,
        connections: number("CurrConns").unwrap_or(0),
    })
}

/// A master's answer to `show proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// How often the master was reloaded.
    pub reloads: u32,
    /// Failed reloads since the last good one; `None` before 2.5, which does not tell.
    pub failed: Option<u32>,
    /// Every worker, the youngest first.
    pub workers: Vec<WorkerProcess>,
}

/// A worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerProcess {
    /// Its process.
    pub pid: u32,
    /// Reloads since it started, failed ones included.
    pub reloads: u32,
    /// How long it has run.
    pub uptime: Duration,
    /// Replaced by a younger one: it finishes its work.
    pub old: bool,
}

/// Reads an answer to `show proc`. `None`: it is something else.
pub fn processes(answer: &str) -> Option<Processes> {
    let mut found = Processes::default();
    let mut lines = answer.lines();
    // 2.4 has one more column, before the reloads.
    let reloads_at = if lines.find(|line| line.starts_with("#<PID>"))?.contains("<relative PID>") { 3 } else { 2 };
    for line in lines.filter(|line| !line.starts_with('#')) {
        let line = line.replace("[failed: ", "[failed:").replace("[was: ", "[was:");
        let fields: Vec<_> = line.split_whitespace().collect();
        let Some(reloads) = fields.get(reloads_at).and_then(|field| field.parse().ok()) else { continue };
        match fields[1] {
            "master" => (found.reloads, found.failed) = (reloads, fields.iter().find_map(|field| failed(field))),
            "worker" => found.workers.extend(worker(&fields, reloads)),
            _ => {}
        }
    }
    // After a failed reload, some versions list the serving worker among the old ones.
    found.workers.sort_by_key(|worker| worker.reloads);
    let youngest = found.workers.first().map_or(0, |worker| worker.reloads);
    found.workers.iter_mut().for_each(|worker| worker.old = worker.reloads > youngest);
    Some(found)
}

/// `[failed:2]`.
fn failed(field: &str) -> Option<u32> {
    field.strip_prefix("[failed:")?.strip_suffix(']')?.parse().ok()
}

fn worker(fields: &[&str], reloads: u32) -> Option<WorkerProcess> {
    let uptime = fields.iter().find_map(|field| uptime(field))?;
    Some(WorkerProcess { pid: fields[0].parse().ok()?, reloads, uptime, old: false })
}

/// `0d00h02m07s`.
fn uptime(field: &str) -> Option<Duration> {
    let (days, rest) = field.split_once('d')?;
    let (hours, rest) = rest.split_once('h')?;
    let (minutes, rest) = rest.split_once('m')?;
    let [days, hours, minutes, seconds] =
        [days, hours, minutes, rest.strip_suffix('s')?].map(|part| part.parse::<u64>().ok());
    Some(Duration::from_secs(((days? * 24 + hours?) * 60 + minutes?) * 60 + seconds?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_with_a_server() {
        let answer = "0x55e0: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00\n\
                      0x55a3: proto=tcpv4 src=127.0.0.1:37936 fe=tcp:18099 be=tcp-services:t srv=one ts=00 epoch=0\n\
                      0x55a4: proto=tcpv6 src=[::1]:1 fe=http be=services:a srv=<none> ts=00\n";
        let expected = Session { id: "0x55a3", backend: "tcp-services:t", server: "one" };
        assert_eq!(sessions(answer).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn answers_to_changes_are_consent_or_refusal() {
        let other = |words: &str| Some(Refusal::Other(words.into()));
        for (answer, expected) in [
            ("", None),
            ("\n", None),
            ("New server registered.\n", None),
            ("Server deleted.", None),
            ("New version created: 1\n", None),
            ("nothing changed\n", None),
            ("no need to change the addr, port changed from '1' to '99' by 'stats socket command'\n", None),
            ("IP changed from '127.0.0.1' to '::1' by 'stats socket command'\n", None),
            ("port changed from '1' to '99' by 'stats socket command'\n", None),
            ("No such server.\n", Some(Refusal::NoSuchServer)),
            ("No such backend.", Some(Refusal::NoSuchBackend)),
            ("Can't find backend.\n", Some(Refusal::NoSuchBackend)),
            ("Already exists a server with the same name in backend.\n", Some(Refusal::ServerExists)),
            (
                "Only servers in maintenance mode can be deleted.",
                Some(Refusal::ServerInUse("Only servers in maintenance mode can be deleted.".into())),
            ),
            (
                "Server still has connections attached to it, cannot remove it.",
                Some(Refusal::ServerInUse("Server still has connections attached to it, cannot remove it.".into())),
            ),
            ("Unknown map identifier. Please use #<id> or <file>.\n", Some(Refusal::NoSuchMap)),
            ("Key not found.\n", Some(Refusal::NoSuchKey)),
            ("entry not found.\n", Some(Refusal::NoSuchKey)),
            (
                "Unknown command: 'x', but maybe\n  help\n",
                Some(Refusal::Unknown("Unknown command: 'x', but maybe".into())),
            ),
            (
                "This command is restricted to experimental mode only.\n",
                Some(Refusal::Unknown("This command is restricted to experimental mode only.".into())),
            ),
            ("Invalid addr 'nope'\n", other("Invalid addr 'nope'")),
            ("regex '(' is invalid.\n", other("regex '(' is invalid.")),
            (
                "Absolute weight can only be\n between 0 and 256.",
                other("Absolute weight can only be between 0 and 256."),
            ),
        ] {
            assert_eq!(refusal(answer), expected, "{answer:?}");
        }
    }

    const STATE: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change \
srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn \
srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port
3 services:web 1 a 127.0.0.1 2 0 12 1 61 1 0 2 6 0 0 0 - 8080 - 0 0 - - 0
3 services:web 2 b ::1 0 1 1 1 2 1 0 2 0 0 0 0 - 2 - 0 0 - - 0
3 services:web 3 c - 0 32 1 1 2 1 0 2 0 0 0 0 c.test 80 - 0 0 - - 0
4 services:old 1 d 10.0.0.1 3 8 0 256 0 1 0 2 0 0 0 0 - 80 - 0 0 - - 0
4 services:old x

";

    #[test]
    fn servers_are_read_by_the_names_of_columns() {
        let rows: Vec<_> = servers(STATE).iter().map(describe).collect();
        assert_eq!(
            rows,
            [
                "services:web/a 127.0.0.1:8080 12/1 Up 61s",
                "services:web/b ::1:2 1/1 Down maint 2s",
                "services:web/c -:80 1/1 Down maint 2s c.test",
                "services:old/d 10.0.0.1:80 0/256 Stopping drain 0s",
            ]
        );
        assert!(servers("Can't find backend.\n").is_empty());
    }

    fn describe(state: &ServerState) -> String {
        let ServerState { backend, server, address, port, weight, initial_weight, operation, since, .. } = state;
        let mut line = format!("{backend}/{server} {address}:{port} {weight}/{initial_weight} {operation:?}");
        line.push_str(if state.maintenance { " maint" } else { "" });
        line.push_str(if state.drain { " drain" } else { "" });
        line.push_str(&format!(" {}s", since.as_secs()));
        line.push_str(&state.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default());
        line
    }

    #[test]
    fn entries_of_maps_are_key_and_value() {
        let answer = "0x5642b5a46740 foo bar\n0x7f0 a\\x2eb services:web|5|0\n0x1 k v with space\n0x2 bare\n\n";
        let found: Vec<_> = entries(answer).collect();
        assert_eq!(found, [("foo", "bar"), ("a\\x2eb", "services:web|5|0"), ("k", "v with space"), ("bare", "")]);
        assert_eq!(entries("Unknown map identifier. Please use #<id> or <file>.\n").count(), 0);
    }

    #[test]
    fn info_is_read() {
        let answer = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 8232\nUptime: 0d 0h00m07s\nUptime_sec: 7\n\
                      CurrConns: 3\nStopping: 1\n";
        let version = "2.6.12-1+deb12u4".into();
        let expected = Info { pid: 8232, version, uptime: Duration::from_secs(7), stopping: true, connections: 3 };
        assert_eq!(info(answer), Some(expected));
        assert_eq!(info("Unknown command."), None);
    }

    const TAIL: &str = "# programs\n1244            foo             0               0d00h00m00s     -\n\n";

    #[test]
    fn processes_are_read_from_every_version() {
        let head_24 =
            "#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>      \n";
        let head = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n";
        for (name, answer, expected) in [
            (
                "2.4",
                format!(
                    "{head_24}11612           master          0               2               0d00h00m06s     2.4.0-6cbbecf09\n# workers\n11700           worker          1               0               0d00h00m00s     2.4.0-6cbbecf09\n# old workers\n11729           worker          [was: 1]        1               0d00h00m03s     2.4.0-6cbbecf09\n{TAIL}"
                ),
                "2 None 11700:0s 11729:3s:old",
            ),
            (
                "2.4 after a reload that failed",
                format!(
                    "{head_24}11612           master          0               2               0d00h00m06s     2.4.0-6cbbecf09\n# workers\n# old workers\n11729           worker          [was: 1]        1               0d00h00m03s     2.4.0-6cbbecf09\n{TAIL}"
                ),
                "2 None 11729:3s",
            ),
            (
                "2.6",
                format!(
                    "{head}1162            master          5 [failed: 2]   1d02h03m07s     2.6.12-1+deb12u4\n# workers\n1271            worker          2               0d00h00m09s     2.6.12-1+deb12u4\n# old workers\n1233            worker          4               1d01h00m43s     2.6.12-1+deb12u4\n{TAIL}"
                ),
                "5 Some(2) 1271:9s 1233:90043s:old",
            ),
            (
                "columns that outgrow their width",
                format!(
                    "{head}1162            master          1000 [failed: 100] 1d02h03m07s     2.6.12-1+deb12u4\n# workers\n1271            worker          100             0d00h00m09s     2.6.12-1+deb12u4\n"
                ),
                "1000 Some(100) 1271:9s",
            ),
            (
                "3.5 after a reload that failed",
                format!(
                    "{head}12777           master          2 [failed: 1]   0d00h00m05s     3.5-dev5-03bde20ef\n# workers\n# old workers\n12793           worker          1               0d00h00m03s     3.5-dev5-03bde20ef\n\n"
                ),
                "2 Some(1) 12793:3s",
            ),
        ] {
            let found = processes(&answer).unwrap();
            let workers = found.workers.iter().map(|worker| {
                format!(" {}:{}s{}", worker.pid, worker.uptime.as_secs(), if worker.old { ":old" } else { "" })
            });
            let told = format!("{} {:?}{}", found.reloads, found.failed, workers.collect::<String>());
            assert_eq!(told, expected, "{name}");
        }
        assert_eq!(processes("Unknown command."), None);
    }
}
