//! The outcome of a request at the client and at the instance, comparable between engines.

use crate::harness::{Engine, Response};

/// A response, and the request as its instance received it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// The request as received, if the instance reported it.
    pub(crate) got: Option<Got>,
}

/// A request at an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Lower-case names, in order; values of the same name are joined.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Headers about a single connection, which each engine handles in its own way.
const HOP: &[&str] = &["connection", "keep-alive", "transfer-encoding"];

impl Answer {
    /// `port`: where the engine listens. Each has its own, which instances see as `PORT` here.
    pub(crate) fn of(response: Response, port: u16) -> Self {
        let told = response.header("x-backend").is_some().then(|| Got::read(&response.text(), port)).flatten();
        Self { response, got: told }
    }

    /// The name of the backend that answered.
    pub(crate) fn backend(&self) -> Option<&str> {
        self.response.header("x-backend")
    }

    /// The difference to another engine's answer to the same request, if any.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<String> {
        let status = (self.response.status != other.response.status)
            .then(|| format!("status {} and {}", self.response.status, other.response.status));
        let backend =
            || (self.backend() != other.backend()).then(|| format!("{:?} and {:?}", self.backend(), other.backend()));
        let got =
            || (self.got != other.got).then(|| format!("at the instance\n{:#?}\nand\n{:#?}", self.got, other.got));
        status.or_else(backend).or_else(got)
    }
}

impl Got {
    /// Parses a backend's report of a request: its head and body.
    fn read(text: &str, port: u16) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        words.next().filter(|version| version.starts_with("HTTP/1."))?;
        let mut headers = Vec::<(String, String)>::new();
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            let value = if name == "x-forwarded-port" && value == port.to_string() { "PORT" } else { value };
            let absent = name == "host" && value.is_empty() && Engine::HaProxy.differs("no-host");
            match headers.iter_mut().find(|(known, _)| *known == name) {
                // An empty list element does not count (RFC 9110 §5.6.1).
                Some((_, values)) if values.is_empty() => *values = value.to_owned(),
                Some((_, values)) => *values = format!("{values}, {value}"),
                None if absent || HOP.contains(&&*name) => {}
                None => headers.push((name, value.to_owned())),
            }
        }
        headers.sort();
        Some(Self { method, target, headers, body: body.to_owned() })
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
