//! What a service's policy changes in requests and answers, as rules of HAProxy. Pure: a service in, lines out.
//!
//! ```text
//! what texts ask for -> variables    first: later rules change what the request says
//! redirect -> request_headers, response_headers -> custom_settings -> virtual_path -> rewrite
//! ```

use std::fmt::Write as _;

use pointsman_table::{
    Config, HeaderLines, HeaderVerb, Paths, Piece, Placeholder, Policy, Redirect, Rewrite, RewriteLine, Service, Text,
};

use super::backend::{OVER_HTTPS, UnsupportedKey};
use super::forwarded::CLIENT;
use super::pattern;
use super::words::quote;

/// A header that holds an address while it is compared with the request's own; no instance and no client sees it.
const LOCATION: &str = "X-Pointsman-Location";
/// Beginnings of a relative address that would lead to another host: two slashes or backslashes. A range stands for the
/// backslash, which would need quoting twice.
const OTHER_HOST: &str = r#"regsub("^/[/[-^]+","/")"#;

/// Lines, each under the key that it comes from.
type Lines = Vec<(&'static str, String)>;

/// The lines of one service's changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Before the path is cut.
    pub(crate) before: Lines,
    /// After that.
    pub(crate) after: Lines,
}

impl Changes {
    /// # Errors
    /// Keys that HAProxy cannot honour, each with the reason.
    pub(crate) fn of(service: &Service, config: &Config) -> Result<Self, Vec<UnsupportedKey>> {
        let Some(policy) = service.policy.as_deref() else { return Ok(Self::default()) };
        let words = Words::new(service, policy, config)?;
        let mut changes = Self::default();
        changes.before.extend(words.variables());
        changes.before.extend(policy.redirect.as_ref().map(|redirect| ("redirect", words.redirect(redirect))));
        let request = policy.request_headers.as_ref();
        let response = policy.response_headers.as_ref();
        changes.before.extend(request.map(|lines| ("request_headers", words.headers(Place::Request, lines))));
        changes.before.extend(response.map(|lines| ("response_headers", words.headers(Place::Answer, lines))));
        if let Some(rewrite) = &policy.rewrite {
            let lines = words.rewrite(rewrite).map_err(|why| vec![("rewrite", why)])?;
            changes.after.push(("rewrite", lines));
        }
        Ok(changes)
    }
}

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Address,
    Request,
    Answer,
}

/// Texts in HAProxy's language.
struct Words<'a> {
    service: &'a str,
    /// Proxies are trusted, so that the client's address is in a variable.
    trusts: bool,
    /// A redirect compares addresses.
    compares: bool,
    asked: Vec<(&'static str, &'a Placeholder)>,
    /// Headers that texts ask for, without repetition.
    headers: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(service: &'a Service, policy: &'a Policy, config: &Config) -> Result<Self, Vec<UnsupportedKey>> {
        let asked = asked(policy);
        let mut headers: Vec<&str> = Vec::new();
        for (key, placeholder) in &asked {
            let Placeholder::Header(name) = placeholder else { continue };
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
                let why = format!("HAProxy can read no header {name}; letters, digits and hyphens are");
                return Err(vec![(key, why)]);
            }
            if !headers.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                headers.push(name);
            }
        }
        let trusts = !config.trusted_proxies.is_empty();
        Ok(Self { service: service.name.as_str(), trusts, compares: policy.redirect.is_some(), asked, headers })
    }

    fn asks(&self, what: &Placeholder) -> Option<&'static str> {
        self.asked.iter().find(|(_, placeholder)| *placeholder == what).map(|(key, _)| *key)
    }

    /// What is not there any more when a later rule would ask for it.
    fn variables(&self) -> Lines {
        let mut lines = Lines::new();
        let redirect = self.compares.then_some("redirect");
        let mut set = |key: Option<&'static str>, name: &str, value: &str, condition: &str| {
            let line = |key| (key, format!("    http-request set-var(txn.said_{name}) {value}{condition}\n"));
            lines.extend(key.map(line));
        };
        let over_https = format!(" if {OVER_HTTPS}");
        let scheme = self.asks(&Placeholder::Scheme).or(redirect);
        set(scheme, "scheme", "str(http)", "");
        set(scheme, "scheme", "str(https)", &over_https);
        set(redirect, "host", "req.fhdr(host),lower", "");
        set(redirect, "self", "'var(txn.said_scheme),concat(\"://\",txn.said_host),concat(,txn.target)'", "");
        let port = self.asks(&Placeholder::Port);
        set(port, "port", "str(80)", "");
        set(port, "port", "str(443)", &over_https);
        set(port, "port", "req.fhdr(host),field(-1,:)", " if { req.fhdr(host) -m reg ':[0-9]+$' }");
        let query = self.asks(&Placeholder::Query);
        set(query, "query", r#"'var(txn.target),regsub("^[^?]*","")'"#, "");
        set(self.asks(&Placeholder::Method), "method", "method", "");
        for (number, name) in self.headers.iter().enumerate() {
            let is_it = |placeholder: &Placeholder| matches!(placeholder, Placeholder::Header(of) if of.eq_ignore_ascii_case(name));
            let key = self.asked.iter().find(|(_, placeholder)| is_it(placeholder)).map(|(key, _)| *key);
            set(key, &format!("header{number}"), &format!("req.fhdr({name},1)"), "");
        }
        lines
    }

    /// A redirect is not made where it leads to.
    fn redirect(&self, Redirect { status, target }: &Redirect) -> String {
        let is_relative = match target.pieces() {
            [Piece::Literal(text), ..] => text.starts_with('/'),
            [Piece::Placeholder(placeholder), ..] => *placeholder != Placeholder::Scheme,
            [] => false,
        };
        let within = if is_relative { format!(",{OTHER_HOST}") } else { String::new() };
        let location = self.format(target, Place::Address);
        let is = |own: &str| format!("{{ var(txn.said_location),strcmp(txn.{own}) eq 0 }}");
        format!(
            "    http-request set-header {LOCATION} {location}
    http-request set-var(txn.said_location) 'req.fhdr({LOCATION}){within}'
    http-request del-header {LOCATION}
    http-request redirect location %[var(txn.said_location)] code {status} unless {} or {}\n",
            is("said_self"),
            is("target")
        )
    }

    fn headers(&self, place: Place, lines: &HeaderLines) -> String {
        let rules = if place == Place::Request { "http-request" } else { "http-after-response" };
        let mut text = String::new();
        for line in lines.lines() {
            let name = quote(&line.name);
            let change = match &line.verb {
                HeaderVerb::Set(value) => format!("set-header {name} {}", self.format(value, place)),
                HeaderVerb::Add(value) => format!("add-header {name} {}", self.format(value, place)),
                HeaderVerb::Remove => format!("del-header {name}"),
            };
            writeln!(text, "    {rules} {change}").expect("a String takes whatever is written");
        }
        text
    }

    /// The first line that matches counts.
    fn rewrite(&self, rewrite: &Rewrite) -> Result<String, String> {
        let mut text = String::new();
        for (number, RewriteLine { paths, replacement }) in rewrite.lines().iter().enumerate() {
            let (matching, expression, rest) = match paths {
                Paths::Prefix(prefix) => {
                    (format!("beg {}", quote(prefix)), format!("^.{{{}}}(.*)$", prefix.len()), "\\\\1")
                }
                Paths::Expression(groups) => {
                    let expression = quote(&pattern::with_groups(groups.pattern())?).into_owned();
                    (format!("reg {expression}"), expression, "")
                }
            };
            // HAProxy loses a path that begins with no slash.
            let begins = matches!(replacement.pieces(), [Piece::Placeholder(_), ..]);
            let (slash, path) = (if begins { "/" } else { "" }, self.format(replacement, Place::Address));
            let is_this = format!("{{ var(txn.rewrite) -m int {number} }}");
            writeln!(
                text,
                "    http-request set-var(txn.rewrite) int({number}) if !{{ var(txn.rewrite) -m found }} {{ path -m {matching} }}
    http-request replace-path {expression} {slash}{path}{rest} if {is_this}"
            )
            .expect("a String takes whatever is written");
            if begins {
                let line = format!("    http-request set-path '%[path,regsub(\"^//\",\"/\")]' if {is_this}\n");
                text.push_str(&line);
            }
        }
        Ok(text)
    }

    /// A text as one word, with samples for its placeholders. In addresses, of what may be any text only unreserved
    /// characters stay as they are.
    fn format(&self, text: &Text, place: Place) -> String {
        let mut format = String::new();
        let is_address = place == Place::Address;
        for piece in text.pieces() {
            match piece {
                Piece::Placeholder(Placeholder::Instance) if place != Place::Answer => {}
                Piece::Literal(text) => format.push_str(&text.replace('%', "%%")),
                Piece::Placeholder(Placeholder::Service) if is_address => {
                    format.push_str(&encoded(self.service).replace('%', "%%"))
                }
                Piece::Placeholder(Placeholder::Service) => format.push_str(&self.service.replace('%', "%%")),
                Piece::Placeholder(Placeholder::Capture(group)) => {
                    write!(format, "\\{group}").expect("a String takes all")
                }
                Piece::Placeholder(any @ (Placeholder::Header(_) | Placeholder::Method)) if is_address => {
                    write!(format, "%[{},url_enc]", self.sample(any)).expect("a String takes all");
                }
                Piece::Placeholder(any) => write!(format, "%[{}]", self.sample(any)).expect("a String takes all"),
            }
        }
        quote(&format).into_owned()
    }

    fn sample(&self, placeholder: &Placeholder) -> String {
        let known = match placeholder {
            Placeholder::ClientIp if self.trusts => return format!("var({CLIENT})"),
            Placeholder::ClientIp => "src",
            Placeholder::ClientPort => "src_port",
            Placeholder::Host => "var(txn.host)",
            Placeholder::Port => "var(txn.said_port)",
            Placeholder::Scheme => "var(txn.said_scheme)",
            Placeholder::Method => "var(txn.said_method)",
            Placeholder::Path => "var(txn.target),field(1,?)",
            Placeholder::Query => "var(txn.said_query)",
            Placeholder::Uri => "var(txn.target)",
            Placeholder::Instance => "srv_name",
            Placeholder::TlsVersion => "ssl_fc_protocol",
            Placeholder::Header(name) => {
                let number = self.headers.iter().position(|known| known.eq_ignore_ascii_case(name));
                return format!("var(txn.said_header{})", number.unwrap_or_default());
            }
            // These are no samples.
            Placeholder::RequestId | Placeholder::Service | Placeholder::Capture(_) => "str()",
        };
        known.to_owned()
    }
}

/// What the texts of a policy ask of a request, each under its key.
fn asked(policy: &Policy) -> Vec<(&'static str, &Placeholder)> {
    let redirect = policy.redirect.iter().map(|redirect| ("redirect", &redirect.target));
    let lines = policy.rewrite.iter().flat_map(|rewrite| rewrite.lines());
    let rewrite = lines.map(|line| ("rewrite", &line.replacement));
    let request = policy.request_headers.iter().flat_map(HeaderLines::texts).map(|text| ("request_headers", text));
    let response = policy.response_headers.iter().flat_map(HeaderLines::texts).map(|text| ("response_headers", text));
    let texts = redirect.chain(rewrite).chain(request).chain(response);
    texts.flat_map(|(key, text)| text.placeholders().map(move |placeholder| (key, placeholder))).collect()
}

/// A name as a part of an address.
fn encoded(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}
