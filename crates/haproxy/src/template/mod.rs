//! `--haproxy-template`: renders the operator's own haproxy.cfg from our sections and the table's values. Pure: reads
//! no file, and a template has access to its variables only.
//!
//! A printed value is escaped into one word of HAProxy's configuration, so that no key can inject a line; `| safe`
//! prints it as it is. Our own sections need no `safe`.

mod context;
mod sections;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use pointsman_table::{Service, Table};

use super::model::{Addresses, BACKENDS, Owner, Part};
use super::shape::Shape;
use super::words::quote;

pub use self::sections::Sections;

/// The owner of the template's own text.
const TEMPLATE: Owner = Owner::Setting("haproxy-template");

/// Renders the configuration. [`BACKENDS`] marks the place of the backends, if the template prints them.
///
/// # Errors
/// The template's error, with its line.
pub fn frame(
    source: &str,
    table: &Table,
    services: &[Arc<Service>],
    addresses: &Addresses,
    shape: &Shape,
    sections: &Sections,
) -> Result<Vec<Part>, String> {
    let context = context::context(table, services, addresses, shape, sections);
    let text = environment().render_str(source, context).map_err(|error| said(&error))?;
    match text.matches(BACKENDS.trim_end()).count() {
        0 | 1 => Ok(cut(&text, sections)),
        _ => Err("{{ backends }} is in it more than once; each backend can be there only once".to_owned()),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("haproxy"));
    environment.set_formatter(print);
    environment
}

/// Prints a value as one word.
fn print(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let written = match (value.kind(), value.as_str()) {
        (_, Some(text)) if value.is_safe() => out.write_str(text),
        (_, Some(text)) => out.write_str(&quote(text)),
        (ValueKind::Number, _) => write!(out, "{value}"),
        (ValueKind::Bool, _) => write!(out, "{}", value.is_true()),
        (ValueKind::Undefined, _) => return Err(ErrorKind::UndefinedError.into()),
        (ValueKind::None, _) => return Err(unprintable("it has no value here; test it with {% if %}")),
        (kind, _) => return Err(unprintable(&format!("a {kind} is no text; print one of its parts"))),
    };
    written.map_err(Error::from)
}

fn unprintable(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}

/// `line 3: unknown filter: ...`.
fn said(error: &Error) -> String {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", error.kind())
}

/// Cuts the text into parts by owner: our own sections are found again if they were printed whole.
fn cut(text: &str, sections: &Sections) -> Vec<Part> {
    let mut found = Vec::new();
    for part in sections.owned() {
        let wanted = part.text.trim_end();
        found.extend(text.find(wanted).map(|at| (at, at + wanted.len(), part.owner.clone())));
    }
    let marker = BACKENDS.trim_end();
    found.extend(text.find(marker).map(|at| (at, at + marker.len(), None)));
    found.sort_by_key(|(start, ..)| *start);
    let (mut parts, mut end) = (Vec::new(), 0);
    for (start, stop, owner) in found.into_iter().filter(|(start, stop, _)| start < stop) {
        // Sections overlap only if one contains the exact text of another.
        if start < end {
            continue;
        }
        parts.extend(lines(&text[end..start], Some(TEMPLATE)));
        parts.push(match owner {
            Some(owner) => Part { text: text[start..stop].into(), owner: Some(owner) },
            None => Part::ours(BACKENDS),
        });
        end = stop;
    }
    parts.extend(lines(&text[end..], Some(TEMPLATE)));
    parts
}

fn lines(text: &str, owner: Option<Owner>) -> Option<Part> {
    (!text.is_empty()).then(|| Part { text: text.into(), owner })
}
