//! Chooses the source of each setting: flag, environment, file, older variable. Never interprets a value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::choice::{Choice, CommandLine, Environment, Origin};
use super::flag::{Flag, VARIABLES};
use super::flags::FLAGS;
use super::model::{Host, SettingsError};
use super::suggest::nearest;

/// Prefixes of variables that Kubernetes sets in every container beside a service named `pointsman`.
const OF_KUBERNETES: [&str; 2] = ["POINTSMAN_SERVICE_", "POINTSMAN_PORT"];

/// The file of settings, read but not interpreted.
#[derive(Default)]
struct File {
    path: PathBuf,
    values: BTreeMap<&'static str, Vec<String>>,
}

/// The choices, by the name of their setting.
pub(super) type Choices = BTreeMap<&'static str, Choice>;

/// Chooses a source for every setting that has one. The text is a warning that the default settings file is left out.
///
/// # Errors
/// The file of settings cannot be read, is not TOML, or has an unknown key; a single setting is given twice.
pub(super) fn choose(
    given: &CommandLine,
    environment: &Environment,
    host: Host,
) -> Result<(Choices, Option<String>), SettingsError> {
    let mut left_out = None;
    let file = match from_outside(find("config"), given, environment)? {
        Some(choice) => read_file(Path::new(choice.text()), &format!("{}: ", choice.origin))?,
        None => match host.config.filter(|path| !is_missing(path)) {
            Some(path) if !host.needs_config && is_closed(path) => {
                left_out = Some(format!("{} may not be read by this user, and is left out", path.display()));
                File::default()
            }
            Some(path) => read_file(path, "")?,
            None => File::default(),
        },
    };
    let mut choices = Choices::new();
    for flag in FLAGS {
        let choice = match from_outside(flag, given, environment)? {
            Some(choice) => Some(choice),
            None => from_file(flag, &file)?.or_else(|| from_legacy(flag, environment)),
        };
        choices.extend(choice.map(|choice| (flag.name, choice)));
    }
    Ok((choices, left_out))
}

fn find(name: &str) -> &'static Flag {
    FLAGS.iter().find(|flag| flag.name == name).expect("only called with names in the list")
}

/// From the command line, else the environment.
fn from_outside(flag: &Flag, given: &CommandLine, environment: &Environment) -> Result<Option<Choice>, SettingsError> {
    let variable = flag.variable();
    if let Some(values) = given.get(flag.name) {
        return choice(flag, values.clone(), Origin::Flag(flag.name)).map(Some);
    }
    match set(environment, &variable) {
        Some(value) => choice(flag, vec![value.to_owned()], Origin::Environment(variable)).map(Some),
        None => Ok(None),
    }
}

fn from_file(flag: &Flag, file: &File) -> Result<Option<Choice>, SettingsError> {
    let values = file.values.get(flag.name);
    values.map(|values| choice(flag, values.clone(), Origin::File(file.path.clone(), flag.name))).transpose()
}

fn from_legacy(flag: &Flag, environment: &Environment) -> Option<Choice> {
    flag.legacy.iter().find_map(|name| {
        let value = set(environment, name)?;
        Some(Choice { values: vec![value.to_owned()], origin: Origin::Legacy(name) })
    })
}

fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn choice(flag: &Flag, values: Vec<String>, origin: Origin) -> Result<Choice, SettingsError> {
    let split = |value: String| value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let values: Vec<String> = match flag.many {
        true => values.into_iter().flat_map(split).filter(|value| !value.is_empty()).collect(),
        false => values,
    };
    let what = match values.as_slice() {
        [] => "it is empty; give a value or leave it out",
        [value] if value.is_empty() => "it is empty; give a value or leave it out",
        [_, _, ..] if !flag.many => "it is given more than once; give it once",
        _ => return Ok(Choice { values, origin }),
    };
    Err(SettingsError { origin: origin.to_string(), what: what.to_owned() })
}

/// Whether the file does not exist. A file that cannot be examined is not missing.
fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn is_closed(path: &Path) -> bool {
    std::fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn read_file(path: &Path, named_by: &str) -> Result<File, SettingsError> {
    let wrong = |what: String| SettingsError { origin: format!("{named_by}{}", path.display()), what };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let values = parse_file(&text).map_err(wrong)?;
    Ok(File { path: path.to_owned(), values })
}

fn parse_file(text: &str) -> Result<BTreeMap<&'static str, Vec<String>>, String> {
    // Not the parser's whole message: it quotes the line, which may hold a password.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        format!("line {line}: {}", error.message())
    })?;
    table.into_iter().map(|(key, value)| Ok((known(&key)?, texts(&key, value)?))).collect()
}

fn known(key: &str) -> Result<&'static str, String> {
    let names = || FLAGS.iter().map(|flag| flag.name).filter(|name| *name != "config");
    if let Some(name) = names().find(|name| *name == key) {
        return Ok(name);
    }
    let near = nearest(key, names()).map(|name| format!("; did you mean {name}?"));
    Err(format!("{key}: there is no such setting{}", near.unwrap_or_default()))
}

/// Variables that look like ours but are unknown, each with the one that was probably meant.
pub(super) fn unknown_variables(environment: &Environment) -> Vec<String> {
    let names = || FLAGS.iter().map(|flag| flag.name);
    let unknown = |variable: &String| {
        let word = variable.strip_prefix(VARIABLES)?;
        let is_ours = FLAGS.iter().any(|flag| flag.variable() == *variable);
        let is_foreign = OF_KUBERNETES.iter().any(|lead| variable.starts_with(lead));
        let meant = nearest(word, names()).map(|name| format!("did you mean {}?", find(name).variable()));
        let advice = meant.unwrap_or_else(|| "`pointsman run --help` lists them".to_owned());
        (!is_ours && !is_foreign).then(|| format!("{variable} is set, and there is no such setting; {advice}"))
    };
    environment.keys().filter(|variable| set(environment, variable).is_some()).filter_map(unknown).collect()
}

fn texts(key: &str, value: toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Array(values) => {
            let each = values.into_iter().map(|value| texts(key, value)).collect::<Result<Vec<_>, _>>()?;
            Ok(each.concat())
        }
        _ => Err(format!("{key}: expected a text or a number; write {key} = \"...\"")),
    }
}
