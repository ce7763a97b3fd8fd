//! The source of a setting's value, and the chosen text. Never interprets a value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Values given on the command line, by flag name.
pub type CommandLine = BTreeMap<&'static str, Vec<String>>;

/// Environment variables. An empty one counts as not set.
pub type Environment = BTreeMap<String, String>;

/// The source of a value, shown in errors: `--http`, `POINTSMAN_HTTP`, `/etc/pointsman.toml: http`, `ETCD_NODE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag(&'static str),
    /// The flag's environment variable.
    Environment(String),
    /// The file of settings, and the key.
    File(PathBuf, &'static str),
    /// An environment variable of a system that Pointsman replaces.
    Legacy(&'static str),
}

impl Origin {
    /// 0 is the strongest.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Environment(_) => 1,
            Self::File(..) => 2,
            Self::Legacy(_) => 3,
        }
    }

    /// Whether it is an older variable, which allows looser forms.
    pub fn is_legacy(&self) -> bool {
        matches!(self, Self::Legacy(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path, key) => write!(f, "{}: {key}", path.display()),
            Self::Legacy(variable) => f.write_str(variable),
        }
    }
}

/// The text chosen for one setting. Not `Debug`: it may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Choice {
    /// At least one, none empty.
    pub(super) values: Vec<String>,
    /// Its source.
    pub(super) origin: Origin,
}

impl Choice {
    /// The value of a setting that has only one.
    pub(super) fn text(&self) -> &str {
        &self.values[0]
    }
}
