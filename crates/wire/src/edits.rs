//! Changes to a response's headers that a service asks for, beyond those of any proxy. Made once, and used for many
//! responses; a response without any pays nothing. Decides nothing.

use crate::head::{Header, push_header};

/// Headers of an instance's response that are left out, and lines that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    left_out: Vec<Box<str>>,
    lines: Vec<u8>,
}

impl HeaderEdits {
    /// Replaces every header of this name. Both are written as they are: neither holds a control character.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.left_out.push(name.into());
        push_header(&mut self.lines, name, value.as_bytes());
        self
    }

    /// Leaves out every header of this name.
    pub fn leave_out(&mut self, name: &str) {
        self.left_out.push(name.into());
    }

    /// Adds a header to those of the instance. Neither name nor value holds a control character.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        push_header(&mut self.lines, name, value);
    }

    /// Whether this header of the instance is left out.
    pub(crate) fn leaves_out(&self, header: &Header<'_>) -> bool {
        self.left_out.iter().any(|name| header.name.eq_ignore_ascii_case(name))
    }

    /// The names of headers that are left out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(|name| &**name)
    }

    /// The headers to add.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((str::from_utf8(&line[..colon]).ok()?, line[colon + 1..].trim_ascii()))
        })
    }

    /// The lines to add.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }
}
