//! What a service's policy changes in requests and answers, as rules of HAProxy. Pure: a service in, lines out.
//!
//! ```text
//! what texts ask for -> variables    first: later rules change what the request says
//! redirect -> maintenance -> request_id, request_headers, response_headers, compress -> custom_settings -> virtual_path
//!   -> rewrite
//! ```

use std::fmt::Write as _;

use pointsman_table::{
    Compress, Config, Cors, HeaderLines, HeaderVerb, Origin, Paths, Piece, Placeholder, Policy, Redirect, Rewrite,
    RewriteLine, Service, Text,
};

use super::forwarded::{CLIENT, OVER_HTTPS};
use super::pattern;
use super::words::quote;

/// A header that holds an address while it is compared with the request's own; no instance and no client sees it.
const LOCATION: &str = "X-Pointsman-Location";
/// Beginnings of a relative address that would lead to another host: two slashes or backslashes. A range stands for the
/// backslash, which would need quoting twice.
const OTHER_HOST: &str = r#"regsub("^/[/[-^]+","/")"#;

/// The answer to a browser that asks first.
const PREFLIGHT: &str = "    http-request set-var(txn.asked_method) req.fhdr(access-control-request-method)
    http-request set-var(txn.asked_headers) req.fhdr(access-control-request-headers,1)
    http-request set-var(txn.preflight) bool(true) if METH_OPTIONS { var(txn.origin) -m found } { var(txn.asked_method) -m found }
    http-request return status 204 if { var(txn.preflight) -m bool }
";
/// What lets a page read an answer.
const ALLOWED: &str = "    http-after-response del-header Access-Control-Allow-Origin
    http-after-response del-header Access-Control-Allow-Credentials
    http-after-response set-header Access-Control-Allow-Origin * if { var(txn.cors) -m str any }
    http-after-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if { var(txn.cors) -m str exact below }
    http-after-response set-header Access-Control-Allow-Credentials true if { var(txn.cors) -m str exact }
    http-after-response add-header Vary Origin,\\ Access-Control-Request-Method,\\ Access-Control-Request-Headers if { var(txn.preflight) -m bool }
    http-after-response set-header Access-Control-Allow-Methods %[var(txn.asked_method)] if { var(txn.preflight) -m bool } { var(txn.cors) -m found }
    http-after-response set-header Access-Control-Allow-Headers %[var(txn.asked_headers)] if { var(txn.preflight) -m bool } { var(txn.cors) -m found } { var(txn.asked_headers) -m found }
    http-after-response set-header Access-Control-Max-Age 600 if { var(txn.preflight) -m bool } { var(txn.cors) -m found }
";
/// Tells the id of a request to its instance and to its client.
const REQUEST_ID: &str = "    http-request set-header X-Request-Id %[var(txn.said_id)]
    http-after-response set-header X-Request-Id %[var(txn.said_id)]
";

/// KeyedLines, each under the key that it comes from.
type KeyedLines = Vec<(&'static str, String)>;

/// The lines of one service's changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Before anything is changed or answered.
    pub(crate) variables: KeyedLines,
    /// Before passwords are asked.
    pub(crate) first: KeyedLines,
    /// Before it is asked whether the service is closed.
    pub(crate) redirect: KeyedLines,
    /// Before the path is cut.
    pub(crate) before: KeyedLines,
    /// After that.
    pub(crate) after: KeyedLines,
}

impl Changes {
    /// # Errors
    /// Keys that HAProxy cannot honour, each with the reason.
    pub(crate) fn of(service: &Service, config: &Config) -> Result<Self, Vec<(&'static str, String)>> {
        let Some(policy) = service.policy.as_deref() else { return Ok(Self::default()) };
        let words = Words::new(service, policy, config)?;
        let mut changes = Self::default();
        if let Some(cors) = &policy.cors {
            changes.variables.push(("cors", allowed(cors)));
            changes.first.push(("cors", PREFLIGHT.to_owned()));
        }
        changes.variables.extend(words.variables());
        changes.before.extend(policy.request_id.then(|| ("request_id", REQUEST_ID.to_owned())));
        changes.redirect.extend(policy.redirect.as_ref().map(|redirect| ("redirect", words.redirect(redirect))));
        let request = policy.request_headers.as_ref();
        let response = policy.response_headers.as_ref();
        changes.before.extend(request.map(|lines| ("request_headers", words.headers(TextPlace::Request, lines))));
        changes.before.extend(response.map(|lines| ("response_headers", words.headers(TextPlace::Answer, lines))));
        changes.before.extend(policy.compress.as_ref().map(|compress| ("compress", compression(compress))));
        if let Some(rewrite) = &policy.rewrite {
            let lines = words.rewrite(rewrite).map_err(|why| vec![("rewrite", why)])?;
            changes.after.push(("rewrite", lines));
        }
        Ok(changes)
    }
}

/// Whether the page that asks may read answers, and what tells it so in every answer, also in those that turn a request away.
fn allowed(cors: &Cors) -> String {
    let mut text = "    http-request set-var(txn.origin) req.fhdr(origin)\n".to_owned();
    let mut grant = |kind: &str, condition: &str| {
        let first = "!{ var(txn.cors) -m found }";
        writeln!(text, "    http-request set-var(txn.cors) str({kind}) if {first} {condition}")
            .expect("a String takes all");
    };
    let exact = cors.origins.iter().filter_map(|origin| match origin {
        Origin::Exact(name) => Some(&**name),
        Origin::Below(..) => None,
    });
    exact.for_each(|name| grant("exact", &format!("{{ var(txn.origin) -m str -i {} }}", quote(name))));
    for origin in &cors.origins {
        if let Origin::Below(scheme, name) = origin {
            let expression = format!("^{}[a-zA-Z0-9_-]+{}$", escaped(scheme), escaped(name));
            grant("below", &format!("{{ var(txn.origin) -m reg -i {} }}", quote(&expression)));
        }
    }
    if cors.any {
        grant("any", "{ var(txn.origin) -m found }");
    }
    text.push_str(ALLOWED);
    if !cors.is_uniform() {
        text.push_str("    http-after-response add-header Vary Origin if !{ var(txn.preflight) -m bool }\n");
    }
    text
}

/// gzip is what clients read of HAProxy's codings. A line of HAProxy has at most 64 words.
fn compression(compress: &Compress) -> String {
    let mut text = "    filter compression\n    compression algo gzip\n".to_owned();
    let types: Vec<_> = compress.types().map(|own| quote(own).to_string()).collect();
    types.chunks(16).for_each(|types| text.push_str(&format!("    compression type {}\n", types.join(" "))));
    text
}

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextPlace {
    Address,
    Request,
    Answer,
}

/// Texts in HAProxy's language.
struct Words<'a> {
    service: &'a str,
    /// Proxies are trusted, so that the client's address is in a variable.
    trusts: bool,
    /// The id of a request is told.
    tells_id: bool,
    /// A redirect compares addresses.
    compares: bool,
    asked: Vec<(&'static str, &'a Placeholder)>,
    /// Headers that texts ask for, without repetition.
    headers: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(service: &'a Service, policy: &'a Policy, config: &Config) -> Result<Self, Vec<(&'static str, String)>> {
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
        Ok(Self {
            service: service.name.as_str(),
            trusts,
            tells_id: policy.request_id,
            compares: policy.redirect.is_some(),
            asked,
            headers,
        })
    }

    fn asks(&self, what: &Placeholder) -> Option<&'static str> {
        self.asked.iter().find(|(_, placeholder)| *placeholder == what).map(|(key, _)| *key)
    }

    /// What is not there any more when a later rule would ask for it.
    fn variables(&self) -> KeyedLines {
        let mut lines = KeyedLines::new();
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
        let id = self.asks(&Placeholder::RequestId).or(self.tells_id.then_some("request_id"));
        set(id, "id", "var(txn.told_id)", " if { var(txn.told_id) -m reg ^[!-~]{1,128}$ }");
        set(id, "id", "uuid()", " unless { var(txn.said_id) -m found }");
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
        let location = self.format(target, TextPlace::Address);
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

    fn headers(&self, place: TextPlace, lines: &HeaderLines) -> String {
        let rules = if place == TextPlace::Request { "http-request" } else { "http-after-response" };
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
            let (slash, path) = (if begins { "/" } else { "" }, self.format(replacement, TextPlace::Address));
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
    fn format(&self, text: &Text, place: TextPlace) -> String {
        let mut format = String::new();
        let is_address = place == TextPlace::Address;
        for piece in text.pieces() {
            match piece {
                Piece::Placeholder(Placeholder::Instance) if place != TextPlace::Answer => {}
                Piece::Literal(text) => format.push_str(&text.replace('%', "%%")),
                Piece::Placeholder(Placeholder::Service) if is_address => {
                    format.push_str(&encoded(self.service).replace('%', "%%"))
                }
                Piece::Placeholder(Placeholder::Service) => format.push_str(&self.service.replace('%', "%%")),
                Piece::Placeholder(Placeholder::Capture(group)) => {
                    write!(format, "\\{group}").expect("a String takes all")
                }
                Piece::Placeholder(any @ (Placeholder::Header(_) | Placeholder::Method | Placeholder::RequestId))
                    if is_address =>
                {
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
            Placeholder::RequestId => "var(txn.said_id)",
            Placeholder::Service | Placeholder::Capture(_) => "str()",
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

/// A text as an expression that matches it.
fn escaped(text: &str) -> String {
    text.replace('.', "[.]").replace('+', "[+]")
}
