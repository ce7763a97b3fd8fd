//! The `http-request` lines that look a request up in the maps. They set `txn.route` to the value found, if any, and
//! `txn.strip` to the bytes to cut off; if the route's requests are split, `txn.route` is that of the side, and the bytes are
//! cut off. They refuse nothing and forward nothing.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::maps::{ANY_HOST, DEFAULT, HAS_PATTERNS, Lot, Maps, Route};

/// The steps that the rules contain. While these stay the same, a change of keys changes only the maps, without a
/// reload; rules with more steps than needed find the same routes.
///
/// Each of these steps is left out where no service needs it, to save time for every request: a skipped line takes 60
/// ns, each length of wildcards that is tried 250 ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Numbers of labels in wildcards. If there are any, the usual numbers too, so that few changes need a reload.
    pub labels: BTreeSet<usize>,
    /// Some wildcard has expressions. For other hosts, and for any host, the rules always look for expressions.
    pub wildcard_patterns: bool,
    /// There are several priorities, so that the first route found may not be the best.
    pub priorities: bool,
    /// What splits need, if there are any.
    pub splits: Option<SplitSteps>,
}

/// The steps that find the side of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitSteps {
    /// What decides about sides: `chance`, `client`, `cookie:NAME`, `header:NAME`.
    pub by: BTreeSet<Box<str>>,
    /// How many sides a service has at most, besides itself.
    pub sides: usize,
    /// How many bytes are cut off paths of services that are split.
    pub strips: BTreeSet<u32>,
}

/// How many sides the rules provide for in any case, so that few changes need a reload.
const USUAL_SIDES: usize = 2;

/// From `*.test` to `*.a.b.c.test`.
const USUAL_LABELS: std::ops::RangeInclusive<usize> = 1..=4;

impl Steps {
    /// What the rules for these maps must do.
    pub fn of(maps: &Maps) -> Self {
        let mut labels: BTreeSet<_> = maps.wildcards.keys().map(|name| name.split('.').count()).collect();
        if !labels.is_empty() {
            labels.extend(USUAL_LABELS);
        }
        let wildcard_patterns = maps.wildcards.values().any(|scope| scope.ends_with(HAS_PATTERNS));
        Self { labels, wildcard_patterns, priorities: has_priorities(maps), splits: SplitSteps::of(maps) }
    }
}

impl SplitSteps {
    fn of(maps: &Maps) -> Option<Self> {
        let mut steps = Self { sides: USUAL_SIDES, ..Self::default() };
        for lot in maps.splits.values() {
            if let Lot::Shares { by, sides } = lot {
                steps.by.insert(by.clone());
                steps.sides = steps.sides.max(sides.len());
            }
        }
        let is_cut = |route: &&Route| route.strip > 0 && maps.splits.contains_key(&*route.backend);
        steps.strips = maps.paths.values().filter(is_cut).map(|route| route.strip).collect();
        (!steps.by.is_empty()).then_some(steps)
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
/// They need an origin-form target, or `*`; CONNECT must not reach them. The folder's name must hold no quote. `client`: what
/// gives the client's address.
pub fn rules(steps: &Steps, folder: &str, client: &str) -> String {
    let mut rules = Rules { steps, folder, text: String::new() };
    rules.request();
    rules.step("txn.scope", &format!("var(txn.host),{}", rules.map("str", "hosts")), "");
    rules.lookup(true);
    rules.wildcards();
    rules.step("txn.scope", &format!("str({ANY_HOST}),{}", rules.map("str", "hosts")), "");
    rules.lookup(true);
    rules.set("txn.route", &format!("str({DEFAULT}),{}", rules.map("str", "rest")), NOT_FOUND);
    rules.set("txn.strip", "var(txn.route),field(2,|)", "");
    if let Some(splits) = &steps.splits {
        rules.split(splits, client);
    }
    rules.text
}

/// Makes a point of a value. Not as balances hash: a side would get the same keys as one of its servers.
const POINT: &str = "xxh32(7)";
const NOT_FOUND: &str = "!{ var(txn.route) -m found }";

struct Rules<'a> {
    steps: &'a Steps,
    folder: &'a str,
    text: String,
}

impl Rules<'_> {
    /// Sets what is looked up: the host in lower case, without port and one dot at its end; path and query.
    fn request(&mut self) {
        self.set("txn.host", "req.fhdr(host),lower,field(1,:)", "");
        let literal = r#"regsub("^(\[[^]]*\]).*$","\1")"#;
        let port = r#"regsub("^([^:[][^:]*):.*$","\1")"#;
        let host = format!(r#"req.fhdr(host),lower,{literal},{port},regsub("\.$","")"#);
        // Not `-m end .` and `-m beg [`: HAProxy caches their results, and with more hosts than fit into that cache it
        // took a tenth of a request's time.
        self.set("txn.host", &host, "{ var(txn.host),field(-1,.) -m len 0 } or { var(txn.host),field(2,[) -m found }");
        self.set("txn.target", "pathq", "");
        // `*` has no path, nor has the absolute form of a server's root.
        self.set("txn.target", r#"url,regsub("^[^*].*$","/")"#, "!{ var(txn.target) -m found }");
    }

    /// Finds the scopes of the wildcards that match the host, longest first.
    fn wildcards(&mut self) {
        if self.steps.labels.is_empty() {
            return;
        }
        // Keeps the dot in front, so that the host itself is never taken for its wildcard. A name has at most 253
        // bytes.
        self.step("txn.below", r#"var(txn.host),regsub("^\.?[^.]*","")"#, "!{ var(txn.host),length gt 253 }");
        for count in self.steps.labels.iter().rev() {
            self.step("txn.scope", &format!("var(txn.below),field(-1,.,{count}),{}", self.map("str", "wildcards")), "");
            self.lookup(self.steps.wildcard_patterns);
        }
    }

    /// Finds the scope's route. If this step found no scope, the last one is looked up again, which changes nothing.
    fn lookup(&mut self, patterns: bool) {
        self.consider(&format!("var(txn.scope),concat(|,txn.target,#),{}", self.map("beg", "paths")), "");
        if patterns {
            let gate = format!("{{ var(txn.scope) -m end {HAS_PATTERNS} }}");
            self.consider(&format!(r#"var(txn.scope),concat("\n",txn.target),{}"#, self.map("reg", "patterns")), &gate);
            self.consider(&format!("var(txn.scope),{}", self.map("str", "rest")), &gate);
        }
    }

    /// Finds the side of a request whose route is split: by name, else by a point below 2^32. A share ends where the next
    /// begins, and the rest is the service's own.
    fn split(&mut self, steps: &SplitSteps, client: &str) {
        let (map, is_split) = (self.map("str", "splits"), "{ var(txn.split) -m found }");
        self.set("txn.split", &format!("var(txn.route),field(1,|),{map}"), "");
        let by = |by: &str| format!("{{ var(txn.split),field(1,|) -m str {by} }}");
        for kind in &steps.by {
            match kind.split_once(':') {
                Some(("cookie", name)) => self.set("txn.side_told", &format!("req.cook({name})"), &by(kind)),
                Some((_, name)) => self.set("txn.side_told", &format!("req.fhdr({name},1)"), &by(kind)),
                None if &**kind == "client" => self.set("txn.point", &format!("{client},{POINT}"), &by(kind)),
                None => {}
            }
        }
        let is_told = "{ var(txn.side_told) -m found }";
        self.set("txn.side", &format!("var(txn.route),field(1,|),concat(|,txn.side_told),{map}"), is_told);
        self.set("txn.point", &format!("var(txn.side_told),{POINT}"), is_told);
        self.set("txn.point", "rand", &format!("{is_split} !{{ var(txn.point) -m found }}"));
        let is_open = "!{ var(txn.side) -m found }";
        for side in 1..=steps.sides {
            let (end, backend) = (2 * side, 2 * side + 1);
            self.set("txn.end", &format!("var(txn.split),field({end},|)"), &format!("{is_split} {is_open}"));
            let is_below = format!("{is_open} {{ var(txn.point),sub(txn.end) lt 0 }}");
            self.set("txn.side", &format!("var(txn.split),field({backend},|)"), &is_below);
        }
        let is_found = "{ var(txn.side) -m found }";
        for length in &steps.strips {
            let gate = format!("{is_found} {{ var(txn.strip) -m int {length} }}");
            self.line(&format!("set-pathq '%[pathq,regsub(\"^.{{{length}}}/?\",/)]'"), &gate);
        }
        self.set("txn.strip", "int(0)", is_found);
        self.set("txn.route", "var(txn.side),concat(|,txn.strip)", is_found);
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

    /// A variable keeps its value if the expression has none.
    fn set(&mut self, variable: &str, expression: &str, condition: &str) {
        self.line(&format!("set-var({variable}) '{expression}'"), condition);
    }

    fn line(&mut self, action: &str, condition: &str) {
        let condition = if condition.is_empty() { String::new() } else { format!(" if {condition}") };
        writeln!(self.text, "    http-request {action}{condition}").expect("a string takes all");
    }

    fn map(&self, matching: &str, name: &str) -> String {
        format!(r#"map_{matching}("{}/{name}.map")"#, self.folder)
    }
}
