//! Judges the keys below `config/`. A bad one keeps its last good value, else its default.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::acme::{self, AcmeTerms, ChallengeKind};
use crate::capabilities::{Capabilities, Consequence};
use crate::eject;
use crate::health_check::{self, CheckKeys, WayKey};
use crate::keys::{Tree, did_you_mean, is_known, meant, others_of_folder};
use crate::limits::Limits;
use crate::model::{Config, Timeouts, TlsVersion};
use crate::networks::Networks;
use crate::on_demand::OnDemand;
use crate::page::{self, Page, Pages};
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::reader::Reader;
use crate::retries::{self, Bounds, Retries};
use crate::value::{self, Parsed};

/// Judges the configuration. A bad key keeps its value in `last`.
pub(crate) fn judge(raw: &RawKeys, last: &Config, limits: &Limits) -> (Config, Box<[Problem]>) {
    let mut reader = Reader::new(raw, Report::of_tree(&limits.prefix, "config"));
    let fallback = Config::default();
    // The guard reads it from the keys, before they are compiled.
    let _ = reader.read("guard", eject::panic);
    let mut keys = Keys { reader: &mut reader, last, default: &fallback };
    let config = Config {
        timeouts: keys.timeouts(),
        bounds: keys.bounds(limits.capabilities),
        max_connections: keys.read("limit/connections", most, |config| &config.max_connections),
        head_bytes: keys.read(
            "limit/head_bytes",
            |text| value::within(text, 1024, 1 << 20),
            |config| &config.head_bytes,
        ),
        headers: keys.read("limit/headers", |text| value::within(text, 1, 256), |config| &config.headers),
        streams: keys.read("limit/streams", |text| value::within(text, 1, 10_000), |config| &config.streams),
        request_id: keys.read("request_id", value::boolean, |config| &config.request_id),
        health_uri: keys.read("health_uri", |text| value::uri(text).map(Some), |config| &config.health_uri),
        eject: keys.read("eject", eject::eject, |config| &config.eject),
        panic: keys.read("panic", eject::panic, |config| &config.panic),
        health_check: keys.checks(),
        trusted_proxies: keys.read("trusted_proxies", Networks::parse, |config| &config.trusted_proxies),
        accept_proxy: keys.read("accept_proxy", Networks::parse, |config| &config.accept_proxy),
        tls_min_version: keys.read("tls_min_version", tls_version, |config| &config.tls_min_version),
        tls_strict_sni: keys.read("tls_strict_sni", value::boolean, |config| &config.tls_strict_sni),
        acme: keys.acme(limits.capabilities),
        errors: keys.errors(),
    };
    report_unknown(&mut reader);
    report_unmet(&mut reader, limits.capabilities);
    (config, reader.report.finish())
}

/// The keys, and where else a value may come from.
struct Keys<'a, 'r> {
    reader: &'a mut Reader<'r>,
    last: &'a Config,
    default: &'a Config,
}

impl Keys<'_, '_> {
    fn timeouts(&mut self) -> Timeouts {
        Timeouts {
            connect: self.wait("timeout/connect", |timeouts| timeouts.connect),
            head: self.wait("timeout/head", |timeouts| timeouts.head),
            keep_alive: self.wait("timeout/keep_alive", |timeouts| timeouts.keep_alive),
            client: self.wait("timeout/client", |timeouts| timeouts.client),
            server: self.wait("timeout/server", |timeouts| timeouts.server),
            tunnel: self.wait("timeout/tunnel", |timeouts| timeouts.tunnel),
            drain: self.wait("timeout/drain", |timeouts| timeouts.drain),
            slow_start: self.read(
                "slow_start",
                |text| value::duration(text).map(Some),
                |config| &config.timeouts.slow_start,
            ),
        }
    }

    /// The defaults of services, as far as the engine honours them.
    fn bounds(&mut self, capabilities: Capabilities) -> Bounds {
        let bounds = Bounds {
            retries: self.read("retries", |text| Retries::parse(text).map(Some), |config| &config.bounds.retries),
            request: self.read("timeout/request", retries::request, |config| &config.bounds.request),
            requests: self.read("limit/requests", retries::requests, |config| &config.bounds.requests),
            queue: self.read("limit/queue", |text| retries::queue(text).map(Some), |config| &config.bounds.queue),
            queue_wait: self.read(
                "timeout/queue",
                |text| value::duration(text).map(Some),
                |config| &config.bounds.queue_wait,
            ),
        };
        bounds.honoured(|key| {
            let is_honoured = capabilities.honours(key);
            if !is_honoured && let Some(value) = self.reader.text(key) {
                let advice = Consequence::Without.advice(key);
                self.reader.report.add(ProblemKind::Unsupported, key, Some(value), advice);
            }
            is_honoured
        })
    }

    fn wait(&mut self, key: &str, of: fn(&Timeouts) -> Duration) -> Duration {
        match self.attempt(key, value::duration) {
            Some(Ok(wait)) => wait,
            Some(Err(())) => of(&self.last.timeouts),
            None => of(&self.default.timeouts),
        }
    }

    fn read<T: Clone>(&mut self, key: &str, parse: impl FnOnce(&str) -> Parsed<T>, of: fn(&Config) -> &T) -> T {
        match self.attempt(key, parse) {
            Some(Ok(value)) => value,
            Some(Err(())) => of(self.last).clone(),
            None => of(self.default).clone(),
        }
    }

    fn checks(&mut self) -> CheckKeys {
        let method = self.check("health_check_method", health_check::method, |keys| &keys.method);
        let expect = |text: &str| health_check::expect(text, method.as_deref());
        CheckKeys {
            way: self.check("health_check", WayKey::of_all, |keys| &keys.way),
            uri: self.check("health_check_uri", value::uri, |keys| &keys.uri),
            port: self.check("health_check_port", value::port, |keys| &keys.port),
            host: self.check("health_check_host", health_check::host, |keys| &keys.host),
            expect: self.check("health_check_expect", expect, |keys| &keys.expect),
            method,
            interval: self.check("health_check_interval", health_check::interval, |keys| &keys.interval),
            timeout: self.check("health_check_timeout", health_check::timeout, |keys| &keys.timeout),
            rise: self.check("health_check_rise", health_check::in_a_row, |keys| &keys.rise),
            fall: self.check("health_check_fall", health_check::in_a_row, |keys| &keys.fall),
        }
    }

    fn acme(&mut self, capabilities: Capabilities) -> AcmeTerms {
        let contact = |text: &str| value::list(text, acme::contact).map(Into::into);
        AcmeTerms {
            directory: self.read("acme/directory", acme::directory, |config| &config.acme.directory),
            contact: self.read("acme/contact", contact, |config| &config.acme.contact),
            agree: self.read("acme/agree", value::boolean, |config| &config.acme.agree),
            auto: self.read("acme/auto", value::boolean, |config| &config.acme.auto),
            check: self.read("acme/check", acme::check, |config| &config.acme.check),
            challenge: self.challenge(capabilities),
            on_demand: self.on_demand(capabilities),
            key: self.read("acme/key", acme::key, |config| &config.acme.key),
            profile: self.read("acme/profile", acme::profile, |config| &config.acme.profile),
            eab: self.read("acme/eab", acme::eab, |config| &config.acme.eab),
        }
    }

    /// The kind of challenge; another one where the engine cannot answer it.
    fn challenge(&mut self, capabilities: Capabilities) -> ChallengeKind {
        const KEY: &str = "acme/challenge";
        let kind = self.read(KEY, acme::challenge, |config| &config.acme.challenge);
        acme::answered(kind, &mut self.reader.report, KEY, capabilities)
    }

    /// The names that handshakes may have certificates asked for. An engine whose handshakes do not may lead all the same.
    fn on_demand(&mut self, capabilities: Capabilities) -> Option<OnDemand> {
        const KEY: &str = "acme/on_demand";
        let on_demand = self.read(KEY, OnDemand::parse, |config| &config.acme.on_demand);
        if !capabilities.demands_certs()
            && let Some(value) = self.reader.text(KEY)
        {
            let advice = "no handshake with HAProxy asks for a certificate; it serves those that balancers with --engine \
                          native asked for";
            self.reader.report.add(ProblemKind::Unsupported, KEY, Some(value), advice);
        }
        on_demand
    }

    /// A default of the keys `health_check*`.
    fn check<T: Clone>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Parsed<T>,
        of: fn(&CheckKeys) -> &Option<T>,
    ) -> Option<T> {
        match self.attempt(key, parse) {
            Some(Ok(value)) => Some(value),
            Some(Err(())) => of(&self.last.health_check).clone(),
            None => None,
        }
    }

    /// The value, if the key is set: `Err` if it is bad.
    fn attempt<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Option<Result<T, ()>> {
        self.reader.bad = false;
        match self.reader.read(key, parse) {
            Some(value) => Some(Ok(value)),
            None => self.reader.bad.then_some(Err(())),
        }
    }

    fn errors(&mut self) -> Pages {
        let mut errors = Vec::new();
        for (key, _) in self.reader.raw.iter() {
            let Some(status) = key.strip_prefix("errors/") else {
                continue;
            };
            let body = self.attempt(key, |text| page::page(status, text));
            errors.extend(match body {
                Some(Ok(error)) => Some(error),
                Some(Err(())) => self.last_error(status),
                None => None,
            });
        }
        errors.sort_by_key(|(status, _)| *status);
        errors.dedup_by_key(|(status, _)| *status);
        errors.into()
    }

    fn last_error(&self, status: &str) -> Option<(u16, Arc<Page>)> {
        let status = page::status(status).ok()?;
        self.last.errors.iter().find(|(have, _)| *have == status).cloned()
    }
}

fn tls_version(text: &str) -> Parsed<TlsVersion> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("expected 1.2 or 1.3".into()),
    }
}

fn most(text: &str) -> Parsed<Option<NonZeroU32>> {
    value::count(text).map(Some)
}

/// Reports defaults of services that the engine does not honour.
fn report_unmet(reader: &mut Reader<'_>, capabilities: Capabilities) {
    for key in ["eject", "panic"].into_iter().filter(|key| !capabilities.honours(key)) {
        if let Some(value) = reader.text(key).filter(|value| *value != "off") {
            reader.report.add(ProblemKind::Unsupported, key, Some(value), Consequence::Without.advice(key));
        }
    }
}

fn report_unknown(reader: &mut Reader<'_>) {
    for (key, value) in reader.raw.iter() {
        let known = is_known(Tree::Config, key) || key.starts_with("errors/");
        if known || value.trim_ascii().is_empty() {
            continue;
        }
        let advice = match meant(Tree::Config, key) {
            Some(meant) => did_you_mean(key, meant, false),
            None => others_of_folder(Tree::Config, key).unwrap_or_else(|| "no balancer reads it".into()),
        };
        reader.report.add(ProblemKind::UnknownKey, key, Some(&String::from_utf8_lossy(value)), advice);
    }
}
