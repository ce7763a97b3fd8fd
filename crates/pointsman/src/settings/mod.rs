//! Flags, environment, file: parsed once into what the rest takes. Never reads the process's own environment or
//! touches the machine beyond the file of `--config`: both are arguments.
//!
//! ```text
//! FLAGS (one home of each setting) -> layers: flag > POINTSMAN_x > file > older variable -> Choice (text, origin)
//!                                  -> Draft (values, read one by one) -> Settings (rules between values)
//! ```

mod docker_host;
mod flags;
mod layers;
mod parse;
pub(crate) mod suggest;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_haproxy::HaproxySettings;
use pointsman_store::{Api, Location, StoreSettings};
use pointsman_table::Capabilities;
use thiserror::Error;

pub use docker_host::DockerHost;
pub use flags::{FLAGS, Flag, Group};
pub use layers::{Choice, CommandLine, Environment, Origin};

/// How often the store is listed again and compared with what was watched.
const AUDIT: Duration = Duration::from_secs(180);

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{origin}: {what}")]
pub struct SettingsError {
    /// The flag, variable or file key.
    pub origin: String,
    /// What is wrong and what would be right.
    pub what: String,
}

/// What moves the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The native engine, in this process.
    #[default]
    Native,
    /// A real HAProxy, started and driven.
    Haproxy,
}

impl Engine {
    /// Its word in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Haproxy => "haproxy",
        }
    }

    /// Which keys it honours.
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Native => Capabilities::NATIVE,
            Self::Haproxy => Capabilities::HAPROXY,
        }
    }
}

/// How to follow Docker, and what to say of its containers. Without effect on a balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Where the daemon is.
    pub docker: DockerHost,
    /// This machine's name; `None`: the daemon's.
    pub node: Option<String>,
    /// This machine's address as balancers see it.
    pub host: Option<IpAddr>,
    /// The network that is chosen where there are several.
    pub network: Option<String>,
    /// How long the keys outlive the agent.
    pub ttl: Duration,
}

impl Default for AgentSettings {
    fn default() -> Self {
        let (docker, ttl) = (DockerHost::default(), Duration::from_secs(15));
        Self { docker, node: None, host: None, network: None, ttl }
    }
}

/// What the machine and its user are like, as far as defaults depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Whether the user is root.
    pub root: bool,
    /// How many threads can run at once.
    pub cores: NonZeroUsize,
}

/// Everything the program needs to know to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the keys are.
    pub store: StoreSettings,
    /// Where HTTP services are served.
    pub http: Vec<SocketAddr>,
    /// Where they are served over TLS too.
    pub https: Vec<SocketAddr>,
    /// Where the admin pages are; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    /// What moves the bytes.
    pub engine: Engine,
    /// How to run HAProxy.
    pub haproxy: HaproxySettings,
    /// How to follow Docker.
    pub agent: AgentSettings,
    /// Where the balancer keeps what is its own; `None`: nothing that was asked for needs it, and there is no place.
    pub state: Option<PathBuf>,
    /// This balancer's name, if one was given.
    pub name: Option<String>,
    /// How many threads serve.
    pub workers: NonZeroUsize,
    /// Path answered 200 by the balancer itself, unless the keys name one.
    pub health_uri: Option<Box<str>>,
    /// The log filter asked for, if any.
    pub log: Option<String>,
}

/// Values as read, before the rules between them.
struct Draft {
    store: Option<Location>,
    id: Option<(String, u8)>,
    prefix: Option<(String, u8)>,
    api: Api,
    user: Option<(String, String)>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    engine: Engine,
    haproxy: HaproxySettings,
    agent: AgentSettings,
    name: Option<String>,
    workers: Option<NonZeroUsize>,
    health_uri: Option<Box<str>>,
    state: Option<PathBuf>,
    log: Option<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            store: None,
            id: None,
            prefix: None,
            api: Api::Auto,
            user: None,
            ca: None,
            cert: None,
            key: None,
            http: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))],
            https: Vec::new(),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8404))),
            engine: Engine::Native,
            haproxy: HaproxySettings::default(),
            agent: AgentSettings::default(),
            name: None,
            workers: None,
            health_uri: None,
            state: None,
            log: None,
        }
    }
}

/// The text chosen for each setting, kept to see what a later reading changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Chosen(BTreeMap<&'static str, Choice>);

impl Chosen {
    /// Chooses a source for every setting that has one.
    ///
    /// # Errors
    /// The file of `--config` cannot be used, or a single setting is given twice.
    pub fn gather(given: &CommandLine, environment: &Environment) -> Result<Self, SettingsError> {
        layers::choose(given, environment).map(Self)
    }

    /// Whether any source has something to say on this setting.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The settings whose text differs.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        FLAGS.iter().map(|flag| flag.name).filter(|name| self.0.get(name) != other.0.get(name)).collect()
    }

    /// Where the admin pages are, whatever the other settings say.
    ///
    /// # Errors
    /// It is no address. The error names where it came from.
    pub fn admin(&self) -> Result<Option<SocketAddr>, SettingsError> {
        let mut draft = Draft::default();
        FLAGS.iter().filter(|flag| flag.name == "admin").try_for_each(|flag| self.read(flag, &mut draft))?;
        Ok(draft.admin)
    }

    fn read(&self, flag: &Flag, draft: &mut Draft) -> Result<(), SettingsError> {
        let Some(choice) = self.0.get(flag.name) else {
            return Ok(());
        };
        let read = (flag.read)(draft, choice);
        read.map_err(|what| SettingsError { origin: choice.origin.to_string(), what })
    }

    /// Reads every value and applies the rules between them.
    ///
    /// # Errors
    /// A value cannot be used, alone or beside the others. The error names where it came from.
    pub fn settings(&self, environment: &Environment, host: Host) -> Result<Settings, SettingsError> {
        let mut draft = Draft::default();
        for flag in FLAGS {
            self.read(flag, &mut draft)?;
        }
        draft.finish(environment, host)
    }
}

impl Draft {
    fn finish(self, environment: &Environment, host: Host) -> Result<Settings, SettingsError> {
        if self.engine == Engine::Native && !self.https.is_empty() {
            return Err(rule("--https", "the native engine does not serve TLS yet; give --engine haproxy too"));
        }
        let state = state_folder(self.state.as_deref(), environment, host);
        let location = match &self.store {
            Some(location) => location.clone(),
            None => Location::Directory(state.clone()?.join("store")),
        };
        let state = if self.engine == Engine::Haproxy { Some(state?) } else { state.ok() };
        Ok(Settings {
            store: self.store_settings(location)?,
            http: self.http,
            https: self.https,
            admin: self.admin,
            engine: self.engine,
            haproxy: self.haproxy,
            agent: self.agent,
            state,
            name: self.name,
            workers: self.workers.unwrap_or(host.cores),
            health_uri: self.health_uri,
            log: self.log,
        })
    }

    fn store_settings(&self, location: Location) -> Result<StoreSettings, SettingsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(rule("--etcd-cert", "it goes with a key; give --etcd-key too"));
            }
            (None, Some(_)) => {
                return Err(rule("--etcd-key", "it goes with a certificate; give --etcd-cert too"));
            }
        };
        Ok(StoreSettings {
            prefix: self.key_prefix(&location)?,
            location,
            api: self.api,
            user: self.user.clone(),
            ca: self.ca.clone(),
            identity,
            audit: AUDIT,
        })
    }

    /// Id and prefix say the same thing: the stronger source wins, and the prefix among equals.
    fn key_prefix(&self, location: &Location) -> Result<String, SettingsError> {
        match (&self.prefix, &self.id, location) {
            (Some((prefix, rank)), Some((_, weaker)), _) if rank <= weaker => Ok(prefix.clone()),
            (_, Some((id, _)), _) => Ok(format!("/haproxy-{id}")),
            (Some((prefix, _)), None, _) => Ok(prefix.clone()),
            (None, None, Location::Directory(_)) => Ok(String::new()),
            (None, None, Location::Etcd(_)) => Err(rule(
                "--id",
                "etcd holds more than our keys; give --id ID for those below /haproxy-ID, or --prefix PREFIX",
            )),
        }
    }
}

/// A wait such as `500ms`, `5s`, `2m` or `1h`, for what is given to a command and is no setting.
///
/// # Errors
/// It is none; the error says what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse::wait(text)
}

/// The same, for how long keys outlive their owner.
///
/// # Errors
/// It is none, or too short to be renewed in time.
pub fn ttl(text: &str) -> Result<Duration, String> {
    parse::ttl(text)
}

fn rule(origin: &str, what: &str) -> SettingsError {
    SettingsError { origin: origin.to_owned(), what: what.to_owned() }
}

fn state_folder(given: Option<&Path>, environment: &Environment, host: Host) -> Result<PathBuf, SettingsError> {
    // XDG Base Directory: a relative path in the variable is to be ignored.
    let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match given {
        Some(given) => return Ok(given.to_owned()),
        None if host.root => return Ok(PathBuf::from("/var/lib/pointsman")),
        None => {}
    }
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let state = state.map(|state| state.join("pointsman"));
    state.ok_or_else(|| rule("--state", "there is no home folder to put it in; give --state DIR or --store DIR"))
}

#[cfg(test)]
mod tests;
