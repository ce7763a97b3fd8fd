//! Which TCP service takes a connection to an address and a TLS server name, and why. Opens nothing.

use std::cmp::Reverse;

use crate::address::{self, Bind, HostPattern};
use crate::explain::{Explanation, Verdict, withheld, written};
use crate::host::{host_name, parents};
use crate::model::Service;
use crate::names::Protocol;
use crate::near;
use crate::settings::BIND_KEYS;
use crate::table::Table;

/// How a service stands to a connection. Later variants go first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claimed {
    /// Another service has the address.
    Taken,
    /// None of its server names, or another service has the same.
    OtherNames,
    /// It takes what no server name matches.
    Rest,
    /// By a wildcard, with the length of the text behind `*.`.
    Wildcard(usize),
    /// By this very name.
    Exact,
}

impl Table {
    /// Says which TCP service gets a connection, and which others listen for it. `host`: one of our addresses, or a name,
    /// which may be the TLS server name too.
    pub fn explain_tcp(&self, host: &str, port: u16) -> Explanation {
        explain(self, host, port)
    }
}

fn explain(table: &Table, host: &str, port: u16) -> Explanation {
    let host = host_name(host);
    let reaches = |bind: Bind| bind.port == port && near::reaches(bind, &host);
    let each = (0..).zip(table.services()).filter_map(|(index, service)| {
        let asked = service.tcp()?.binds.iter().filter(|bind| reaches(**bind));
        let (claimed, bind) = asked.map(|bind| (claimed(table, *bind, index, service, &host), *bind)).max()?;
        Some((claimed, index, bind, service))
    });
    let mut all: Vec<_> = each.collect();
    all.sort_by_key(|(claimed, index, ..)| (Reverse(claimed.clone()), *index));
    let is_taken = all.first().is_some_and(|(claimed, ..)| *claimed >= Claimed::Rest);
    let mut verdicts = all.iter().enumerate().map(|(at, (claimed, index, bind, service))| Verdict {
        service: service.name.clone(),
        index: *index,
        rule: rule(*bind, service),
        reason: if at == 0 && is_taken { String::new() } else { lost(claimed).to_owned() },
    });
    let chosen = if is_taken { verdicts.next() } else { None };
    let withheld = withheld(&table.forms, Protocol::Tcp, |form| {
        let good = form.judged.settings.as_ref().and_then(|settings| settings.tcp());
        let binds = good.map_or_else(|| written(&form.raw, BIND_KEYS, address::bind), |entry| entry.binds.clone());
        binds.is_empty() || binds.iter().any(|bind| reaches(*bind))
    });
    let near = match chosen {
        Some(_) => Vec::new(),
        None => near::of_connection(table.services(), &table.basis.limits.own, &host, port),
    };
    Explanation { chosen, too_long: false, passed_over: verdicts.collect(), withheld, near }
}

fn claimed(table: &Table, bind: Bind, index: u32, service: &Service, host: &str) -> Claimed {
    let names = table.sni(bind).iter().filter(|(_, owner)| *owner == index).map(|(name, _)| name);
    if let Some(best) = names.filter_map(|name| matched(name, host)).max() {
        return best;
    }
    let rest = table.tcp().iter().any(|(have, owner)| *have == bind && *owner == index);
    match (service.sni().is_empty(), rest) {
        (true, true) => Claimed::Rest,
        (true, false) => Claimed::Taken,
        (false, _) => Claimed::OtherNames,
    }
}

fn matched(name: &HostPattern, host: &str) -> Option<Claimed> {
    match name {
        HostPattern::Exact(name) => (**name == *host).then_some(Claimed::Exact),
        HostPattern::Wildcard(parent) => {
            parents(host.as_bytes()).any(|above| above == parent.as_bytes()).then_some(Claimed::Wildcard(parent.len()))
        }
    }
}

fn rule(bind: Bind, service: &Service) -> String {
    let end = if service.terminates() { "; TLS ends here" } else { "" };
    match service.sni() {
        [] => format!("listens on {bind}, any server name{end}"),
        names => {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            format!("listens on {bind}, server names {}{end}", names.join(", "))
        }
    }
}

fn lost(claimed: &Claimed) -> &'static str {
    match claimed {
        Claimed::Taken => "another service listens on this address",
        Claimed::OtherNames => "no server name of its own matches",
        Claimed::Rest => "it takes what no server name matches, or the name leads to another address",
        Claimed::Wildcard(_) | Claimed::Exact => {
            "its server name is less specific, or the name leads to another address"
        }
    }
}
