//! Our own text of a configuration, section by section, as a template may place it. Writes none of it.

use super::super::model::Part;

/// Our own text, section by section.
pub struct Sections {
    /// `global`.
    pub global: Vec<Part>,
    /// `defaults` and the sections that belong to it.
    pub defaults: Vec<Part>,
    /// Frontends of HTTP services.
    pub http: Vec<Part>,
    /// Frontends of TCP services.
    pub tcp: Vec<Part>,
    /// The lines that find a request's backend.
    pub rules: String,
}

impl Sections {
    /// The parts that have an owner.
    pub(super) fn owned(&self) -> impl Iterator<Item = &Part> {
        let all = [&self.global, &self.defaults, &self.http, &self.tcp];
        all.into_iter().flatten().filter(|part| part.owner.is_some())
    }
}
