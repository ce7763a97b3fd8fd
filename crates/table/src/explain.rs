//! Why a request or a connection goes where it goes, and which services are not served that might have taken it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address;
use crate::conditions::Imagined;
use crate::form::Form;
use crate::host::{HostBuffer, host_name, parents};
use crate::index::{Found, HostMatch, Numbered, Precedence};
use crate::index_build;
use crate::leaf::{EXPRESSION, NO_RULE};
use crate::model::{HttpEntry, Service};
use crate::names::{Protocol, ServiceName};
use crate::near;
use crate::problem::Problem;
use crate::raw::RawKeys;
use crate::settings::HOST_KEYS;
use crate::split::{Split, WHOLE, shown_share};
use crate::steps::steps;
use crate::value::Parsed;

/// The service that takes a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The service that takes it, if any.
    pub chosen: Option<Verdict>,
    /// The target is too long for the table's expressions, so no service takes it.
    pub too_long: bool,
    /// Other services that match and lost, best first.
    pub passed_over: Vec<Verdict>,
    /// Services that are not served because of their keys, and whose rules match as far as they can be read.
    pub withheld: Vec<Withheld>,
    /// If no service takes it: what comes close, a line each.
    pub near: Vec<String>,
}

/// A service that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The service.
    pub service: ServiceName,
    /// What is wrong with its settings.
    pub problems: Box<[Problem]>,
}

/// One service that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The service.
    pub service: ServiceName,
    /// Index into the table's services.
    pub index: u32,
    /// The rule in words: `host shop.test, path /cart, priority 0`.
    pub rule: String,
    /// Why it lost to the one before it; empty for the chosen one.
    pub reason: String,
}

/// A service that matches, and how.
struct Match<'a> {
    service: &'a Service,
    entry: &'a HttpEntry,
    found: Found,
    /// Its conditions that do not hold.
    failing: Vec<String>,
}

/// Tries each service alone with the lookup of requests, then orders those that match by precedence.
pub(crate) fn explain<'a>(
    services: &'a [Arc<Service>],
    forms: &[Arc<Form>],
    (host, target): (&str, &str),
    asked: &Imagined,
) -> Explanation {
    let ask = |(number, service): (u32, &'a Arc<Service>)| {
        let numbered = Numbered::new(number, service)?;
        let found = index_build::build(&[numbered], None).closest(host, target).ok()??;
        let conditions = numbered.entry.conditions.as_ref();
        let failing = conditions.map(|conditions| conditions.failing(target, asked)).unwrap_or_default();
        Some(Match { service, entry: numbered.entry, found, failing })
    };
    let matches: Vec<_> = (0..).zip(services).filter_map(ask).collect();
    let (matches, failing): (Vec<_>, Vec<_>) = matches.into_iter().partition(|one| one.failing.is_empty());
    let (matches, failing) = (in_order(matches), in_order(failing));
    let before = std::iter::once(None).chain(matches.iter().map(Some));
    let mut verdicts = before.zip(&matches).map(|(before, one)| one.verdict(before, host));
    let withheld = withheld(forms, Protocol::Http, |form| might_take(form, host, target));
    let chosen = verdicts.next();
    let near = if chosen.is_none() { near::of_request(services, host, target) } else { Vec::new() };
    let failing = failing.iter().map(|one| one.verdict(None, host));
    Explanation { chosen, too_long: false, passed_over: verdicts.chain(failing).collect(), withheld, near }
}

/// The services that are not served and might have been meant.
pub(crate) fn withheld(forms: &[Arc<Form>], protocol: Protocol, is_meant: impl Fn(&Form) -> bool) -> Vec<Withheld> {
    let unserved = forms.iter().filter(|form| form.protocol == protocol && form.served().is_none());
    let meant = unserved.filter(|form| is_meant(form));
    meant.map(|form| Withheld { service: form.name.clone(), problems: form.judged.problems.clone() }).collect()
}

/// Whether a service would take the request: by its rules if they are good, else by those host names that are.
fn might_take(form: &Form, host: &str, target: &str) -> bool {
    let takes = |entry: &HttpEntry, target: &str| {
        let alone = [Numbered { number: 0, entry, is_empty: false }];
        index_build::build(&alone, None).closest(host, target).is_ok_and(|found| found.is_some())
    };
    if let Some(entry) = form.judged.settings.as_ref().and_then(|settings| settings.http()) {
        return takes(entry, target);
    }
    let hosts = written(&form.raw, HOST_KEYS, address::host_pattern);
    hosts.is_empty() || takes(&HttpEntry { hosts, ..HttpEntry::default() }, "/")
}

/// Those items of several keys with the same meaning that are good.
pub(crate) fn written<T>(raw: &RawKeys, keys: &[&str], parse: fn(&str) -> Parsed<T>) -> Box<[T]> {
    let texts = keys.iter().filter_map(|key| raw.get(key)).map(String::from_utf8_lossy);
    texts.flat_map(|text| text.split(',').filter_map(|item| parse(item.trim()).ok()).collect::<Vec<_>>()).collect()
}

/// Orders the best first. Services with the same rule stay together, at the place of the first of them.
fn in_order(mut matches: Vec<Match<'_>>) -> Vec<Match<'_>> {
    let mut first: BTreeMap<_, (bool, u32)> = BTreeMap::new();
    for one in &matches {
        let best = first.entry(one.same_rule()).or_insert(one.contender());
        *best = (*best).min(one.contender());
    }
    matches.sort_by_cached_key(|one| {
        let (_, first) = first[&one.same_rule()];
        (Reverse(one.found.precedence()), first, one.contender())
    });
    matches
}

impl<'a> Match<'a> {
    /// Equal for two matches with the same rule.
    fn same_rule(&self) -> (Precedence, Option<&'a str>) {
        let is_expression = self.found.leaf.closeness == EXPRESSION;
        let text = is_expression.then(|| self.entry.paths[self.found.leaf.rule as usize].text());
        (self.found.precedence(), text)
    }

    /// Orders matches with the same rule: the least goes first.
    fn contender(&self) -> (bool, u32) {
        (self.service.is_empty(), self.found.leaf.service)
    }
}

impl Match<'_> {
    fn verdict(&self, before: Option<&Self>, host: &str) -> Verdict {
        Verdict {
            service: self.service.name.clone(),
            index: self.found.leaf.service,
            rule: self.rule(host),
            reason: match self.failing.is_empty() {
                true => before.map(|before| self.lost_to(before)).unwrap_or_default(),
                false => format!("its conditions do not hold: {}", self.failing.join(", ")),
            },
        }
    }

    fn rule(&self, host: &str) -> String {
        if self.found.host == HostMatch::Default {
            return "default".into();
        }
        let host = match self.found.host {
            HostMatch::Exact => format!("host {}", host_name(host)),
            HostMatch::Wildcard(length) => format!("host *.{}", parent_of_length(host, length)),
            HostMatch::Any | HostMatch::Default => "any host".into(),
        };
        let path = match self.found.leaf.rule {
            NO_RULE => "any path".into(),
            rule => self.entry.paths[rule as usize].to_string(),
        };
        let steps = self.service.policy.as_ref().map(|policy| policy.turns_away()).filter(|steps| !steps.is_empty());
        let steps = steps.map(|steps| format!("; {steps}")).unwrap_or_default();
        let conditions = self.entry.conditions.as_ref().map(|conditions| format!(", {}", conditions.as_str()));
        let conditions = conditions.unwrap_or_default();
        format!("{host}, {path}{conditions}, priority {}{steps}{}", self.entry.priority, self.shares())
    }

    /// What is done with its requests, and which other services take a share of them, or get copies.
    fn shares(&self) -> String {
        let split = self.service.split();
        let by = split.map(|split| format!("; split by {}", split.by)).unwrap_or_default();
        let total = split.map_or(0, Split::total);
        let sides = split.into_iter().flat_map(|split| &split.sides).map(|(side, share)| {
            let part = u64::from(*share) * u64::from(WHOLE) / u64::from(total.max(1));
            format!(": {} goes to {side}", shown_share(u32::try_from(part).unwrap_or(WHOLE)))
        });
        let mirrors = self.service.mirrors().iter();
        let mirrors = mirrors.map(|(mirror, share)| format!("; {mirror} gets copies of {}", shown_share(*share)));
        let steps = self.service.policy.as_deref().map(steps).unwrap_or_default();
        [steps, by].into_iter().chain(sides).chain(mirrors).collect()
    }

    /// Which step of precedence decided.
    fn lost_to(&self, winner: &Self) -> String {
        let (ours, theirs) = (&self.found, &winner.found);
        if self.same_rule() == winner.same_rule() && self.contender().0 && !winner.contender().0 {
            return format!(
                "{} has the same rule and instances, and this service has no instance",
                winner.service.name
            );
        }
        if ours.host == HostMatch::Default {
            return match theirs.host {
                HostMatch::Default if ours.leaf.conditions != theirs.leaf.conditions => {
                    format!("{} is a default too, and has more conditions", winner.service.name)
                }
                HostMatch::Default => format!("{} is a default too, and its name comes first", winner.service.name),
                _ => "the default takes only what no other service takes".into(),
            };
        }
        if ours.leaf.priority != theirs.leaf.priority {
            return format!("its priority {} is lower than {}", ours.leaf.priority, theirs.leaf.priority);
        }
        if ours.host != theirs.host {
            return format!("its host rule is less specific than that of {}", winner.service.name);
        }
        match (ours.leaf.closeness, theirs.leaf.closeness) {
            (our, their) if our == their && ours.leaf.conditions != theirs.leaf.conditions => {
                format!("{} has more conditions", winner.service.name)
            }
            (our, their) if our == their => {
                format!("the name {} comes first", winner.service.name)
            }
            (0, _) => "it has no path rule that matches".into(),
            (EXPRESSION, _) => "a prefix goes before an expression".into(),
            _ => "its prefix is shorter".into(),
        }
    }
}

fn parent_of_length(host: &str, length: usize) -> String {
    let mut buffer = HostBuffer::default();
    let parent = parents(buffer.normal(host)).find(|parent| parent.len() == length);
    String::from_utf8_lossy(parent.unwrap_or_default()).into_owned()
}
