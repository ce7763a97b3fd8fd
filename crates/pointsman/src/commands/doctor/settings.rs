//! The settings: whether they can be used, misspelt variables, and settings without effect.

use super::observation::Observation;
use crate::commands::run::idle;
use crate::settings::{Chosen, Environment, Settings};
use pointsman_store::Location;

const SUBJECT: &str = "settings";

/// The settings, as far as they could be read.
#[derive(Clone, Copy)]
pub struct KnownSettings<'k> {
    /// The settings, or why they cannot be used.
    pub settings: Result<&'k Settings, &'k str>,
    /// Where each comes from; `None` if not even that could be read.
    pub chosen: Option<&'k Chosen>,
    /// The environment.
    pub environment: &'k Environment,
}

impl KnownSettings<'_> {
    /// Whether any source has this setting.
    pub(super) fn has(&self, name: &str) -> bool {
        self.chosen.is_some_and(|chosen| chosen.has(name))
    }
}

pub(super) fn observe(known: &KnownSettings<'_>) -> Vec<Observation> {
    let warnings = known.chosen.map(|chosen| chosen.warnings(known.environment)).unwrap_or_default();
    let mut all: Vec<_> = warnings.into_iter().map(of_warning).collect();
    let settings = match known.settings {
        Ok(settings) => settings,
        Err(error) => {
            let help = "pointsman run --help lists the settings; correct this one, then run doctor again";
            all.push(Observation::wrong(SUBJECT, error, help));
            return all;
        }
    };
    let idle = known.chosen.map(|chosen| idle(settings.engine, chosen)).unwrap_or_default();
    all.extend(idle.into_iter().map(|line| Observation::note(SUBJECT, line, "leave it out, or change --engine")));
    if known.has("id") && known.has("prefix") {
        let what = format!("both an id and a prefix are given; the keys are those below {}", settings.store.prefix);
        all.push(Observation::note(SUBJECT, what, "give one of --id and --prefix"));
    }
    all.extend(usual_store(known, settings));
    if all.is_empty() {
        all.push(Observation::ok(SUBJECT, format!("they can be used; engine {}", settings.engine.word())));
    }
    all
}

fn of_warning(line: String) -> Observation {
    match line.split(' ').next().filter(|word| word.starts_with("POINTSMAN_")) {
        Some(variable) => {
            let remedy = format!("unset {variable}");
            Observation::wrong(SUBJECT, line, remedy)
        }
        None => Observation::note(SUBJECT, line, "run doctor as the balancer's user"),
    }
}

/// In a container, no store is a mistake more often than not.
fn usual_store(known: &KnownSettings<'_>, settings: &Settings) -> Option<Observation> {
    let Location::Directory(folder) = &settings.store.location else { return None };
    let in_container = known.environment.get("container").is_some_and(|kind| !kind.is_empty());
    let what = format!("no store is named, so the keys are files in {}", folder.display());
    (in_container && !known.has("store"))
        .then(|| Observation::note(SUBJECT, what, "-e POINTSMAN_STORE=http://HOST:2379 -e POINTSMAN_ID=ID"))
}
