//! What is seen: well, to be known, or wrong; and what to type. Plain data.

use serde::Serialize;

/// How an observation is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Note,
    /// Does not work, or soon will not.
    Wrong,
}

impl Grade {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Wrong => "wrong",
        }
    }
}

/// One line of what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Observation {
    /// `store`, `ports` and so on.
    pub(super) subject: &'static str,
    pub(super) grade: Grade,
    /// What was seen.
    pub(super) what: String,
    /// What to type, or to do; empty if all is well.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    pub(super) remedy: String,
}

impl Observation {
    pub(super) fn ok(subject: &'static str, what: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Ok, what: what.into(), remedy: String::new() }
    }

    pub(super) fn note(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Note, what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn wrong(subject: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, grade: Grade::Wrong, what: what.into(), remedy: remedy.into() }
    }
}

/// As rows of a test: `wrong: what | do`.
#[cfg(test)]
pub(super) fn lines(all: &[Observation]) -> Vec<String> {
    all.iter().map(|one| format!("{}: {} | {}", one.grade.word(), one.what, one.remedy)).collect()
}

/// Whether the lines are these, as far as their beginnings go.
#[cfg(test)]
pub(super) fn check(all: &[Observation], expected: &[&str]) {
    let lines = lines(all);
    let is_same = lines.len() == expected.len() && lines.iter().zip(expected).all(|(a, b)| a.starts_with(b));
    assert!(is_same, "{lines:#?} is not {expected:#?}");
}
