//! Flags, environment and file, parsed once into [`Settings`]. Reads only the file of settings: the environment and
//! the machine's facts are arguments.
//!
//! ```text
//! FLAGS (the one home of every setting) -> layers: flag > POINTSMAN_x > file > older variable -> Choice (text, origin)
//!                                      -> Draft (values, read one by one) -> Settings (rules between values)
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `model` | the types of the settings |
//! | `choice` | the source of a value |
//! | `parse`, `docker_host` | single values |
//! | `flag` | the form of a setting |
//! | `flags`, `flags_acme`, `flags_agent`, `flags_traces` | the one home of every setting; those of certificates by ACME, of the agent, of traces |
//! | `kontena` | certificates in variables of Kontena's load balancer |
//! | `layers` | which source wins |
//! | `stats_socket` | the socket for HAProxy's tools |
//! | `suggest` | the name that was meant |

mod choice;
mod docker_host;
mod flag;
mod flags;
mod flags_acme;
mod flags_agent;
mod flags_traces;
mod kontena;
mod layers;
mod model;
mod parse;
mod stats_socket;
pub(crate) mod suggest;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_store::{Location, StoreSettings};
use pointsman_table::Bind;

pub use choice::{Choice, CommandLine, Environment, Origin};
pub use docker_host::DockerHost;
pub use flag::{Flag, Group};
pub use flags::FLAGS;
use model::Draft;
pub use model::{AccessSettings, AcmeSettings, AgentSettings, DnsUpdates, Engine, Host, Settings, SettingsError};
pub use stats_socket::{StatsLevel, StatsSocket};

/// The port that `https://` without a port means (RFC 9110 §4.2.2).
const HTTPS_PORT: u16 = 443;
/// How often the store is listed in full and compared with the watched keys.
const AUDIT: Duration = Duration::from_secs(180);

/// The text chosen for each setting, kept to find what a later reading changes.
#[derive(Clone, PartialEq, Eq)]
pub struct Chosen {
    choices: layers::Choices,
    /// The reason that the default settings file is left out, if it is.
    left_out: Option<String>,
}

impl Chosen {
    /// Chooses a source for every setting that has one.
    ///
    /// # Errors
    /// The file of settings cannot be used, or a single setting is given twice.
    pub fn gather(given: &CommandLine, environment: &Environment, host: Host) -> Result<Self, SettingsError> {
        let (choices, left_out) = layers::choose(given, environment, host)?;
        Ok(Self { choices, left_out })
    }

    /// Whether any source has this setting.
    pub fn has(&self, name: &str) -> bool {
        self.choices.contains_key(name)
    }

    /// The source that this setting has, if any has it.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.choices.get(name).map(|choice| &choice.origin)
    }

    /// Warnings: a default settings file that is left out, and unknown variables that look like ours.
    pub fn warnings(&self, environment: &Environment) -> Vec<String> {
        self.left_out.iter().cloned().chain(layers::unknown_variables(environment)).collect()
    }

    /// The settings whose text differs.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        FLAGS.iter().map(|flag| flag.name).filter(|name| self.choices.get(name) != other.choices.get(name)).collect()
    }

    /// The address of the admin pages, even if other settings are wrong.
    ///
    /// # Errors
    /// It is not an address. The error names the source.
    pub fn admin(&self) -> Result<Option<SocketAddr>, SettingsError> {
        let mut draft = Draft::default();
        FLAGS.iter().filter(|flag| flag.name == "admin").try_for_each(|flag| self.read(flag, &mut draft))?;
        Ok(draft.admin)
    }

    fn read(&self, flag: &Flag, draft: &mut Draft) -> Result<(), SettingsError> {
        let Some(choice) = self.choices.get(flag.name) else {
            return Ok(());
        };
        let read = (flag.read)(draft, choice);
        read.map_err(|what| SettingsError { origin: choice.origin.to_string(), what })
    }

    /// Reads every value and applies the rules between them.
    ///
    /// # Errors
    /// A value is wrong, by itself or together with others. The error names the source.
    pub fn settings(&self, environment: &Environment, host: Host) -> Result<Settings, SettingsError> {
        let mut draft = Draft::default();
        for flag in FLAGS {
            self.read(flag, &mut draft)?;
        }
        draft.finish(environment, host)
    }
}

/// Port 443 of each address for HTTP: who serves on loopback only does not mean to serve HTTPS to everybody.
fn usual_https(http: &[SocketAddr]) -> Box<[Bind]> {
    let addresses: BTreeSet<_> = http.iter().map(SocketAddr::ip).collect();
    addresses.into_iter().map(|address| Bind { address, port: HTTPS_PORT }).collect()
}

impl Draft {
    fn finish(self, environment: &Environment, host: Host) -> Result<Settings, SettingsError> {
        let state = state_folder(self.state.as_deref(), environment, host);
        let location = match &self.store {
            Some(location) => location.clone(),
            None => Location::Directory(state.clone()?.join("store")),
        };
        let state = if self.engine == Engine::Haproxy { Some(state?) } else { state.ok() };
        Ok(Settings {
            store: self.store_settings(location)?,
            usual_https: if self.https.is_none() { usual_https(&self.http) } else { Box::default() },
            http: self.http,
            https: self.https.unwrap_or_default(),
            admin: self.admin,
            admin_hosts: self.admin_hosts,
            stats_socket: self.stats_socket,
            metrics_detail: self.metrics_detail,
            engine: self.engine,
            haproxy: self.haproxy,
            access: self.access,
            otlp: self.otlp,
            places: self.places,
            resolvers: self.resolvers,
            agent: self.agent,
            state,
            name: self.name,
            workers: self.workers.unwrap_or(host.cores),
            health_uri: self.health_uri,
            accept_proxy: self.accept_proxy,
            certs: self.certs,
            acme: AcmeSettings { answers: kontena::answers(environment), ..self.acme },
            guard: self.guard,
            cert_variables: kontena::certificates(environment),
            log: self.log,
        })
    }

    fn store_settings(&self, location: Location) -> Result<StoreSettings, SettingsError> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(rule("--etcd-cert", "a certificate needs its key; give --etcd-key too"));
            }
            (None, Some(_)) => {
                return Err(rule("--etcd-key", "a key needs its certificate; give --etcd-cert too"));
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

    /// Id and prefix name the same thing: the stronger source wins, or the prefix if both have the same.
    fn key_prefix(&self, location: &Location) -> Result<String, SettingsError> {
        match (&self.prefix, &self.id, location) {
            (Some((prefix, rank)), Some((_, weaker)), _) if rank <= weaker => Ok(prefix.clone()),
            (_, Some((id, _)), _) => Ok(format!("/haproxy-{id}")),
            (Some((prefix, _)), None, _) => Ok(prefix.clone()),
            (None, None, Location::Directory(_)) => Ok(String::new()),
            (None, None, Location::Etcd(_)) => Err(rule(
                "--id",
                "etcd also holds other keys; give --id ID for those below /haproxy-ID, or --prefix PREFIX",
            )),
        }
    }
}

/// A duration such as `500ms`, `5s`, `2m` or `1h`: an argument of a command.
///
/// # Errors
/// It is not a duration; the error says what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse::wait(text)
}

/// A time to live: how long keys outlive their owner.
///
/// # Errors
/// It is not a duration, or too short to be renewed in time.
pub fn ttl(text: &str) -> Result<Duration, String> {
    parse::ttl(text)
}

fn rule(origin: &str, what: &str) -> SettingsError {
    SettingsError { origin: origin.to_owned(), what: what.to_owned() }
}

fn state_folder(given: Option<&Path>, environment: &Environment, host: Host) -> Result<PathBuf, SettingsError> {
    // XDG Base Directory: ignore a relative path in the variable.
    let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd.exec(5): the folders of StateDirectory=, separated by colons.
    let of_unit = environment.get("STATE_DIRECTORY").and_then(|all| all.split(':').next());
    let of_unit = of_unit.map(PathBuf::from).filter(|path| path.is_absolute());
    match given.map(Path::to_owned).or(of_unit) {
        Some(folder) => return Ok(folder),
        None if host.root => return Ok(PathBuf::from("/var/lib/pointsman")),
        None => {}
    }
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let state = state.map(|state| state.join("pointsman"));
    state.ok_or_else(|| rule("--state", "there is no home folder for it; give --state DIR or --store DIR"))
}

#[cfg(test)]
mod tests;
