//! The form of a setting: its flag, help, default, older names and reader. Holds no setting.

use super::choice::Choice;
use super::model::Draft;

/// Which commands take a flag; also its heading in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where the keys are: every command that reads or writes them.
    Store,
    /// How to serve: `run`, and the commands that ask a running balancer.
    Serve,
    /// The native engine: as [`Group::Serve`], without effect on the HAProxy engine.
    Native,
    /// The HAProxy engine: as [`Group::Serve`], without effect on the native engine.
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
            Self::Native => "Native engine",
            Self::Haproxy => "HAProxy engine",
            Self::Agent => "Agent",
            Self::General => "General",
        }
    }
}

/// The prefix of every environment variable.
pub(super) const VARIABLES: &str = "POINTSMAN_";

/// One setting.
pub struct Flag {
    /// The long flag without its dashes; also the key in the file.
    pub name: &'static str,
    /// The placeholder of the value in help.
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
    /// Environment variables of the systems that Pointsman replaces, in order. Every other source beats them.
    pub legacy: &'static [&'static str],
    /// Reads the value into the draft. The error says what is wrong and what is expected.
    pub(super) read: fn(&mut Draft, &Choice) -> Result<(), String>,
}

impl Flag {
    /// The environment variable: `POINTSMAN_ETCD_API`.
    pub fn variable(&self) -> String {
        format!("{VARIABLES}{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The first words of its help, for a list of flags.
    pub fn brief(&self) -> &'static str {
        let end = [". ", ": ", "; "].iter().filter_map(|mark| self.help.find(mark)).min();
        &self.help[..end.unwrap_or(self.help.len())]
    }
}

/// What most settings share.
pub(super) const PLAIN: Flag = Flag {
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
