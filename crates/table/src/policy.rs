//! The policy for a service's requests, as data. Reads its keys; handles no request.

use std::fmt::{Display, Formatter};
use std::sync::Arc;

use crate::access::Access;
use crate::capabilities::Capabilities;
use crate::client_auth::ClientAuth;
use crate::compress::Compress;
use crate::cookie::{self, Cookie};
use crate::cors::Cors;
use crate::forward_auth::ForwardAuth;
use crate::header_edit::HeaderLines;
use crate::hsts::Hsts;
use crate::instance_link::InstanceAuthorities;
use crate::maintenance::Maintenance;
use crate::names::ServiceName;
use crate::page::{self, Pages};
use crate::rate_limit::RateLimit;
use crate::reader::Reader;
use crate::redirect::Redirect;
use crate::rewrite::Rewrite;
use crate::split::{self, Split};
use crate::text::{Placeholder, Text};
use crate::userlist::{self, UserList};
use crate::value::{self, Parsed};

/// The policy for a service's requests. Its fields are steps: engines take them in this order.
///
/// The order of all steps is fixed, and a new key becomes a field at its place in it: `scheme`, `hsts`, `client_ca`, `allow`
/// and `deny`,
/// `rate_limit`, `max_body`, preflights of `cors`, `basic_auth_secrets`, `redirect`, `maintenance`, `forward_auth`, `rewrite`, `request_headers` and `response_headers`,
/// `compress`, `cors`, `errors/<status>`, `timeout/request`, `abort`, and last what
/// chooses the instance: `split/<service>`, `mirror/<service>`, `cookie`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `scheme`. First, so that no client is asked for a password before it is redirected to HTTPS.
    pub scheme: Scheme,
    /// `hsts`: what browsers are told in every answer over HTTPS.
    pub hsts: Option<Hsts>,
    /// `client_ca` and `client_verify`.
    pub client_auth: Option<ClientAuth>,
    /// `allow` and `deny`. Of TCP services too, whose only policy it is.
    pub access: Option<Access>,
    /// `rate_limit`. Only in tables for an engine that honours it.
    pub rate_limit: Option<RateLimit>,
    /// `max_body`, bytes.
    pub max_body: Option<u64>,
    /// `cors`. Before passwords: browsers send none when they ask first.
    pub cors: Option<Cors>,
    /// `request_id`: instances and clients are told it. With the configuration's default already in.
    pub request_id: bool,
    /// `basic_auth_secrets`.
    pub basic_auth: Option<UserList>,
    /// `redirect`.
    pub redirect: Option<Redirect>,
    /// `rewrite`.
    pub rewrite: Option<Rewrite>,
    /// `request_headers`.
    pub request_headers: Option<HeaderLines>,
    /// `response_headers`.
    pub response_headers: Option<HeaderLines>,
    /// `compress`. After `response_headers`: what they set counts.
    pub compress: Option<Compress>,
    /// `maintenance=true` and `maintenance/except`.
    pub maintenance: Option<Maintenance>,
    /// `forward_auth` and `forward_auth_ca`. Only in tables for an engine that honours it.
    pub forward_auth: Option<ForwardAuth>,
    /// `errors/<status>`: bodies of local replies, by status. Only in tables for an engine that honours it.
    pub errors: Pages,
    /// `abort=false`: a request is finished even if its client left.
    pub finish: bool,
    /// `split/<service>` and `split_by`.
    pub split: Option<Split>,
    /// `mirror/<service>`: services that get copies, and of which share of the requests. Only in tables for an engine that
    /// honours it.
    pub mirrors: Box<[(ServiceName, u32)]>,
    /// `cookie`. Only in tables for an engine that honours it.
    pub cookie: Option<Cookie>,
}

/// `scheme`: how clients reach a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Over plain HTTP: nothing is redirected.
    #[default]
    Http,
    /// Over HTTPS: plain HTTP is redirected there.
    Https,
    /// Over both: nothing is redirected.
    HttpAndHttps,
}

impl Scheme {
    /// The key's value: `http-and-https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::HttpAndHttps => "http-and-https",
        }
    }

    fn parse(text: &str) -> Parsed<Self> {
        let known = [Self::Http, Self::Https, Self::HttpAndHttps];
        let found = known.into_iter().find(|scheme| scheme.as_str() == text);
        found.ok_or_else(|| "expected http, https or http-and-https".into())
    }
}

impl Display for Scheme {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Policy {
    /// Whether there is anything to do before a request's instance is chosen.
    pub fn judges(&self) -> bool {
        let Self {
            scheme,
            hsts,
            client_auth,
            access,
            rate_limit,
            max_body,
            cors,
            request_id,
            basic_auth,
            redirect,
            rewrite,
            request_headers,
            response_headers,
            compress,
            maintenance,
            forward_auth,
            errors: _,
            finish: _,
            split: _,
            mirrors: _,
            cookie: _,
        } = self;
        *scheme != Scheme::default()
            || *request_id
            || hsts.is_some()
            || client_auth.is_some()
            || access.is_some()
            || rate_limit.is_some()
            || max_body.is_some()
            || cors.is_some()
            || basic_auth.is_some()
            || redirect.is_some()
            || rewrite.is_some()
            || request_headers.is_some()
            || response_headers.is_some()
            || compress.is_some()
            || maintenance.is_some()
            || forward_auth.is_some()
    }

    /// Whether anything asks for a request's id.
    pub fn asks_for_id(&self) -> bool {
        let redirect = self.redirect.iter().map(|redirect| &redirect.target);
        let lines = self.rewrite.iter().flat_map(|rewrite| rewrite.lines());
        let headers = [&self.request_headers, &self.response_headers].into_iter().flatten();
        let texts = redirect.chain(lines.map(|line| &line.replacement)).chain(headers.flat_map(HeaderLines::texts));
        self.request_id || texts.flat_map(Text::placeholders).any(|placeholder| *placeholder == Placeholder::RequestId)
    }

    /// The same with `request_id`, or without.
    pub(crate) fn with_request_id(policy: Option<&Arc<Self>>, request_id: bool) -> Option<Arc<Self>> {
        match policy {
            None => request_id.then(|| Arc::new(Self { request_id, ..Self::default() })),
            Some(policy) if policy.request_id == request_id => Some(Arc::clone(policy)),
            Some(policy) => Some(Arc::new(Self { request_id, ..(**policy).clone() })),
        }
    }

    /// The same, with the protection that another one asks for where it asks for some.
    pub(crate) fn protected_as(&self, other: &Self) -> Self {
        Self {
            access: match (&other.access, &self.access) {
                (Some(other), Some(own)) => Some(other.or(own)),
                (other, own) => other.as_ref().or(own.as_ref()).cloned(),
            },
            client_auth: other.client_auth.clone().or_else(|| self.client_auth.clone()),
            basic_auth: other.basic_auth.clone().or_else(|| self.basic_auth.clone()),
            forward_auth: other.forward_auth.clone().or_else(|| self.forward_auth.clone()),
            ..self.clone()
        }
    }

    /// What says who may come in.
    fn protection(&self) -> impl PartialEq + '_ {
        (&self.access, &self.client_auth, &self.basic_auth, &self.forward_auth)
    }

    /// Whether it says who may come in.
    pub fn protects(&self) -> bool {
        !self.protects_as(&Self::default())
    }

    /// Whether two say the same about who may come in.
    pub fn protects_as(&self, other: &Self) -> bool {
        self.protection() == other.protection()
    }

    /// Reads the policy of an HTTP service: `None` if no key sets one. Also returns whether the policy has all the
    /// protection that the keys ask for.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        name: &ServiceName,
        capabilities: Capabilities,
    ) -> (Option<Arc<Self>>, bool) {
        let users = users(reader, capabilities);
        let asked = asked(reader, name, capabilities);
        let is_protected = users.is_ok() && asked.is_ok();
        let policy = Self {
            scheme: reader.read("scheme", Scheme::parse).unwrap_or_default(),
            hsts: reader.read("hsts", Hsts::parse),
            client_auth: reader.whole(ClientAuth::read),
            cors: reader.read("cors", Cors::parse),
            request_id: false,
            basic_auth: users.ok().flatten(),
            redirect: Redirect::read(reader),
            rewrite: reader.read("rewrite", Rewrite::parse),
            request_headers: reader.read("request_headers", HeaderLines::of_requests),
            response_headers: reader.read("response_headers", HeaderLines::of_responses),
            compress: reader.read("compress", Compress::parse),
            access: Access::read(reader),
            rate_limit: match capabilities.honours("rate_limit") {
                true => reader.read("rate_limit", RateLimit::parse),
                false => None,
            },
            max_body: reader.read("max_body", value::size),
            maintenance: Maintenance::read(reader),
            forward_auth: asked.ok().flatten(),
            errors: if capabilities.honours("errors/<status>") { page::read(reader) } else { Box::default() },
            finish: reader.read("abort", value::boolean).is_some_and(|abort| !abort),
            split: Split::read(reader, name),
            mirrors: if capabilities.honours("mirror/<service>") { split::mirrors(reader) } else { Box::default() },
            cookie: if capabilities.honours("cookie") { cookie(reader) } else { None },
        };
        ((policy != Self::default()).then(|| Arc::new(policy)), is_protected)
    }

    /// Reads the policy of a TCP service: `None` if no key sets one.
    pub(crate) fn read_tcp(reader: &mut Reader<'_>) -> Option<Arc<Self>> {
        let access = Access::read(reader)?;
        Some(Arc::new(Self { access: Some(access), ..Self::default() }))
    }

    /// What may turn a request away, in words: `deny 10.0.0.0/8, at most 100/s by=client`; empty: nothing. No password is in it.
    pub(crate) fn turns_away(&self) -> String {
        let access = self.access.as_ref().map(Access::to_string);
        let rate = self.rate_limit.as_ref().map(|rate| format!("at most {rate}"));
        let body = self.max_body.map(|most| format!("bodies of at most {most} bytes"));
        let users = self.basic_auth.as_ref().map(|list| format!("a password of one of {} users", list.users.len()));
        let closed = self.maintenance.as_ref().map(|_| "in maintenance".to_owned());
        [access, rate, body, users, closed].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn users(reader: &mut Reader<'_>, capabilities: Capabilities) -> Result<Option<UserList>, ()> {
    let parse = if capabilities.crypts() { userlist::parse } else { userlist::parse_known };
    protection(reader, "basic_auth_secrets", parse)
}

/// `forward_auth` and `forward_auth_ca`.
fn asked(reader: &mut Reader<'_>, name: &ServiceName, capabilities: Capabilities) -> Result<Option<ForwardAuth>, ()> {
    if !capabilities.honours("forward_auth") {
        return Ok(None);
    }
    let asked = protection(reader, "forward_auth", |text| ForwardAuth::parse(name, text));
    let authorities = protection(reader, "forward_auth_ca", InstanceAuthorities::parse)?;
    Ok(asked?.map(|asked| asked.trusting(name, authorities)))
}

/// Who may come in, if that is bad, is more than a bad value: the service must not be served in its last good form, which
/// may lack the protection asked for.
fn protection<T>(reader: &mut Reader<'_>, key: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Result<Option<T>, ()> {
    let was_bad = std::mem::replace(&mut reader.bad, false);
    let value = reader.protecting(key, parse);
    let is_bad = std::mem::replace(&mut reader.bad, was_bad);
    if is_bad { Err(()) } else { Ok(value) }
}

/// The one key whose empty value means something.
fn cookie(reader: &mut Reader<'_>) -> Option<Cookie> {
    reader.raw.get("cookie")?;
    let cookie = reader.read("cookie", cookie::parse).unwrap_or_default();
    let settings = reader.raw.get("custom_settings").map(String::from_utf8_lossy).unwrap_or_default();
    Some(Cookie { key: cookie::key_in(&settings).0, ..cookie })
}
