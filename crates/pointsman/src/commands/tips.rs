//! Tips for wrong command lines: what would be right, where the parser knows only that an argument is unexpected. Parses
//! nothing.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::settings;

/// The error, with a tip if there is one.
pub(super) fn advised(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let unexpected = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word.clone(),
        _ => return error,
    };
    let Some(tip) = words.get(1).and_then(|command| tip(command, &unexpected, &words)) else { return error };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

fn tip(command: &str, word: &str, words: &[&str]) -> Option<String> {
    if word.starts_with('-') {
        return None;
    }
    let before = words.iter().position(|one| *one == word).and_then(|at| words.get(at.checked_sub(1)?));
    let is_time = settings::duration(word).is_ok();
    match command {
        _ if is_time && before == Some(&"--wait") => Some(format!("write the time as --wait={word}")),
        "wait" if is_time => Some(format!("write the time as --timeout {word}")),
        "check" => Some(format!(
            "check reads the keys of a store: --store DIR names a folder; 'pointsman apply {word} --dry-run' judges a file"
        )),
        "drain" | "undrain" if !word.contains('/') => Some("write an instance as SERVICE/INSTANCE".to_owned()),
        _ => None,
    }
}
