//! A mistake on a container, with its remedy. A complaint is data: listed and logged, never thrown.

use pointsman_table::{is_secret, shown};
use std::fmt::{Display, Formatter, Result};

use super::container::Container;
use super::known;

/// The longest value shown, in bytes: a complaint is one line.
const LONGEST_VALUE: usize = 256;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Complaint {
    /// The container's name.
    pub container: Box<str>,
    /// Its kind.
    pub kind: ComplaintKind,
    /// The label, environment variable or key with the mistake.
    pub label: Box<str>,
    /// Its value as written; `None` if there is none or it is secret.
    pub value: Option<Box<str>>,
    /// The mistake and its remedy, one sentence.
    pub advice: Box<str>,
}

/// The kinds of complaint, each with its own name in logs and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComplaintKind {
    /// An invalid value for its label; the container is not used for the service.
    BadLabel,
    /// A label with no meaning.
    UnknownLabel,
    /// Neither the container nor the agent's flags name a balancer.
    NoId,
    /// The port inside the container is not specified.
    NoPort,
    /// The address for balancers is not specified.
    NoAddress,
    /// Containers of one service want different settings; the newest container's value is used.
    Differs,
    /// Another container has an instance with this name; the older one keeps it.
    SameName,
}

impl ComplaintKind {
    /// The name in logs and pages: `bad_label`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadLabel => "bad_label",
            Self::UnknownLabel => "unknown_label",
            Self::NoId => "no_id",
            Self::NoPort => "no_port",
            Self::NoAddress => "no_address",
            Self::Differs => "differs",
            Self::SameName => "same_name",
        }
    }
}

/// The kind as words: `bad label`.
impl Display for ComplaintKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}

impl Complaint {
    /// A complaint about a label and its value, which is shortened, and hidden if it may be a secret.
    pub(super) fn new(
        kind: ComplaintKind,
        container: &Container,
        label: &str,
        value: Option<&str>,
        advice: impl Into<Box<str>>,
    ) -> Self {
        let value = value.filter(|value| !is_hidden(label, value)).map(shorten);
        Self { container: container.name.as_str().into(), kind, label: label.into(), value, advice: advice.into() }
    }
}

/// One plain line: `web-1: pointsman.port = "eighty": bad label: expected a port between 1 and 65535`.
impl Display for Complaint {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: {}", shown(&self.container), shown(&self.label))?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}: {}", self.kind, shown(&self.advice))
    }
}

/// Whether a label's value may be a secret, also if the label is misspelt.
fn is_hidden(label: &str, value: &str) -> bool {
    let last = label.rsplit(['.', '/']).next().unwrap_or_default().to_ascii_lowercase();
    is_secret(label, value) || known::nearest(&last).as_deref() == Some("basic_auth_secrets")
}

fn shorten(value: &str) -> Box<str> {
    let value = value.trim();
    if value.len() <= LONGEST_VALUE {
        return value.into();
    }
    let end = (0..=LONGEST_VALUE).rev().find(|&at| value.is_char_boundary(at)).unwrap_or_default();
    format!("{}…", &value[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(label: &str, value: Option<&str>, advice: &str, expected: &str) {
        let container = Container { name: "web\n1".to_owned(), ..Container::default() };
        let complaint = Complaint::new(ComplaintKind::BadLabel, &container, label, value, advice);
        assert_eq!(complaint.to_string(), expected);
    }

    #[test]
    fn is_one_line_and_keeps_secrets() {
        check("pointsman.port", Some("x"), "why", r#"web\n1: pointsman.port = "x": bad label: why"#);
        check("a\u{1b}b", Some("x\ny"), "a\nb", r#"web\n1: a\u001bb = "x\ny": bad label: a\nb"#);
        check(
            "pointsman.basic_auth_secrets",
            Some("pw"),
            "why",
            r"web\n1: pointsman.basic_auth_secrets: bad label: why",
        );
        check(
            "pointsman.shop.basic_aut_secretz",
            Some("pw"),
            "w",
            r"web\n1: pointsman.shop.basic_aut_secretz: bad label: w",
        );
        check("KONTENA_LB_BASIC_AUTH_SECRETS", Some("pw"), "w", r"web\n1: KONTENA_LB_BASIC_AUTH_SECRETS: bad label: w");
        check("x", Some(&"é".repeat(200)), "w", &format!(r#"web\n1: x = "{}…": bad label: w"#, "é".repeat(128)));
    }
}
