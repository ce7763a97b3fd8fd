//! The `http-request` lines that look a request up in the maps. They end with `txn.route` set to a map's value if there
//! is one for the request, and `txn.strip` to the bytes to take off. Refuses nothing and sends nothing anywhere.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::maps::{ANY_HOST, DEFAULT, HAS_PATTERNS, Maps};

/// What the rules depend on. While it stays the same, changes of the maps are all that a change of the keys needs; rules
/// that do more than they must find the same.
///
/// These are the steps that would cost the requests of those who do without: each line that is passed over takes 60 ns,
/// each wildcard's length that is tried 250 ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// How many labels wildcards have; the usual numbers too where there are any, so that few need a reload.
    pub labels: BTreeSet<usize>,
    /// A host that has expressions is a wildcard. For other hosts, and for any, the rules always look for expressions.
    pub wildcard_patterns: bool,
    /// There are several priorities, so that the first that is found need not be the best.
    pub priorities: bool,
}

/// Of `*.test` to `*.a.b.c.test`.
const USUAL_LABELS: std::ops::RangeInclusive<usize> = 1..=4;

impl Steps {
    /// What the rules for these maps must do.
    pub fn of(maps: &Maps) -> Self {
        let mut labels: BTreeSet<_> = maps.wildcards.keys().map(|name| name.split('.').count()).collect();
        if !labels.is_empty() {
            labels.extend(USUAL_LABELS);
        }
        let wildcard_patterns = maps.wildcards.values().any(|scope| scope.ends_with(HAS_PATTERNS));
        Self { labels, wildcard_patterns, priorities: has_priorities(maps) }
    }
}

fn has_priorities(maps: &Maps) -> bool {
    let rest = maps.rest.iter().filter(|(scope, _)| &***scope != DEFAULT).map(|(_, route)| route);
    let mut routes = maps.paths.values().chain(maps.patterns.iter().map(|(_, route)| route)).chain(rest);
    let first = routes.next().map(|route| route.level);
    routes.any(|route| Some(route.level) != first)
}

/// The lines that look a request up in the maps of this folder, indented as in a section.
///
/// They want an origin-form target, or `*`; CONNECT must not come here. The folder's name must hold no quote.
pub fn rules(steps: &Steps, folder: &str) -> String {
    let mut rules = Rules { steps, folder, text: String::new() };
    rules.request();
    rules.step("txn.scope", &format!("var(txn.host),{}", rules.map("str", "hosts")), "");
    rules.lookup(true);
    rules.wildcards();
    rules.step("txn.scope", &format!("str({ANY_HOST}),{}", rules.map("str", "hosts")), "");
    rules.lookup(true);
    rules.set("txn.route", &format!("str({DEFAULT}),{}", rules.map("str", "rest")), NOT_FOUND);
    rules.set("txn.strip", "var(txn.route),field(2,|)", "");
    rules.text
}

const NOT_FOUND: &str = "!{ var(txn.route) -m found }";

struct Rules<'a> {
    steps: &'a Steps,
    folder: &'a str,
    text: String,
}

impl Rules<'_> {
    /// What is looked up: the host in lower case without port and without one dot at its end, and path and query.
    fn request(&mut self) {
        self.set("txn.host", "req.fhdr(host),lower,field(1,:)", "");
        let literal = r#"regsub("^(\[[^]]*\]).*$","\1")"#;
        let port = r#"regsub("^([^:[][^:]*):.*$","\1")"#;
        let host = format!(r#"req.fhdr(host),lower,{literal},{port},regsub("\.$","")"#);
        // Not `-m end .` and `-m beg [`: HAProxy keeps their answers in a cache, which took a tenth of a request's time where
        // there were more hosts than it has room for.
        self.set("txn.host", &host, "{ var(txn.host),field(-1,.) -m len 0 } or { var(txn.host),field(2,[) -m found }");
        self.set("txn.target", "pathq", "");
        // `*` has no path, nor has the absolute form of a server's root.
        self.set("txn.target", r#"url,regsub("^[^*].*$","/")"#, "!{ var(txn.target) -m found }");
    }

    /// Finds the scopes of the wildcards that the host is below, longest first.
    fn wildcards(&mut self) {
        if self.steps.labels.is_empty() {
            return;
        }
        // The dot in front stays, so that the host itself is never taken for one that it is below. Longer is no name.
        self.step("txn.below", r#"var(txn.host),regsub("^\.?[^.]*","")"#, "!{ var(txn.host),length gt 253 }");
        for count in self.steps.labels.iter().rev() {
            self.step("txn.scope", &format!("var(txn.below),field(-1,.,{count}),{}", self.map("str", "wildcards")), "");
            self.lookup(self.steps.wildcard_patterns);
        }
    }

    /// Finds the scope's route. If no scope was found this time, that of the one before comes out again and changes nothing.
    fn lookup(&mut self, patterns: bool) {
        self.consider(&format!("var(txn.scope),concat(|,txn.target,#),{}", self.map("beg", "paths")), "");
        if patterns {
            let gate = format!("{{ var(txn.scope) -m end {HAS_PATTERNS} }}");
            self.consider(&format!(r#"var(txn.scope),concat("\n",txn.target),{}"#, self.map("reg", "patterns")), &gate);
            self.consider(&format!("var(txn.scope),{}", self.map("str", "rest")), &gate);
        }
    }

    /// Takes a route if it is the first, or its priority is above that of the one before.
    fn consider(&mut self, expression: &str, gate: &str) {
        if !self.steps.priorities {
            return self.step("txn.route", expression, gate);
        }
        self.step("txn.next", expression, gate);
        let higher = "{ var(txn.next),field(3,|),strcmp(txn.level) gt 0 }";
        self.set("txn.route", "var(txn.next)", &format!("{NOT_FOUND} or {higher}"));
        self.set("txn.level", "var(txn.route),field(3,|)", "");
    }

    /// Sets a variable on the way to a route, if one may still be needed.
    fn step(&mut self, variable: &str, expression: &str, gate: &str) {
        let needed = if self.steps.priorities { "" } else { NOT_FOUND };
        self.set(variable, expression, [needed, gate].join(" ").trim());
    }

    /// A variable keeps what it has if the expression gives nothing.
    fn set(&mut self, variable: &str, expression: &str, condition: &str) {
        let condition = if condition.is_empty() { String::new() } else { format!(" if {condition}") };
        writeln!(self.text, "    http-request set-var({variable}) '{expression}'{condition}")
            .expect("a string takes all");
    }

    fn map(&self, matching: &str, name: &str) -> String {
        format!(r#"map_{matching}("{}/{name}.map")"#, self.folder)
    }
}
