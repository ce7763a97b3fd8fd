//! `errors/<status>`: the body of our own answers with a status. Knows no request.

use std::sync::Arc;

use crate::reader::Reader;
use crate::text::Text;
use crate::value::{self, Parsed};

/// The body of an answer of our own: HTML if it begins with `<`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// As it was written.
    pub body: Box<str>,
    /// With its placeholders.
    pub text: Text,
}

/// Pages by status, ordered.
pub type Pages = Box<[(u16, Arc<Page>)]>;

impl Page {
    fn new(body: &str) -> Arc<Self> {
        Arc::new(Self { body: body.into(), text: Text::page(body) })
    }

    /// Whether values must be escaped in it.
    pub fn is_html(&self) -> bool {
        self.body.trim_start().starts_with('<')
    }

    /// The page of this status.
    pub fn of(pages: &[(u16, Arc<Self>)], status: u16) -> Option<&Self> {
        pages.iter().find(|(of, _)| *of == status).map(|(_, page)| &**page)
    }
}

/// Reads `errors/<status>` of a service.
pub(crate) fn read(reader: &mut Reader<'_>) -> Pages {
    let raw = reader.raw;
    let keys = raw.iter().filter_map(|(key, _)| Some((key, key.strip_prefix("errors/")?)));
    let named = keys.filter(|(_, status)| !status.is_empty() && !status.contains('/'));
    let mut pages: Vec<_> = named.filter_map(|(key, status)| reader.read(key, |text| page(status, text))).collect();
    pages.sort_by_key(|(status, _)| *status);
    pages.into()
}

/// The page of a key `errors/<status>`.
pub(crate) fn page(status_text: &str, text: &str) -> Parsed<(u16, Arc<Page>)> {
    Ok((status(status_text)?, Page::new(text)))
}

pub(crate) fn status(text: &str) -> Parsed<u16> {
    let status = value::within(text, 400, 599).ok().filter(|_| text.len() == 3);
    let status = status.and_then(|status| u16::try_from(status).ok());
    status.ok_or_else(|| "expected errors/<status> with a status from 400 to 599".into())
}
