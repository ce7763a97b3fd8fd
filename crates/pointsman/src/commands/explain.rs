//! `pointsman explain URL`: shows the service and the instances that take a URL, and why; and which matching services
//! are not served. Sends no request to them.

use pointsman_table::{Protocol, shown};
use std::fmt::Write as _;
use std::io::Write;

use super::ask::{ask, encoded, of_these_keys};
use super::once::Standpoint;
use super::patience::expect_folder;
use super::routes::{ago, instance_words};
use super::{Outcome, once};
use crate::admin::pick::PickView;
use crate::admin::query::{ExplainQuery, ExplainRequest};
use crate::admin::view::{ChoiceView, ExplainView, InstanceView, ServiceView, WithheldView, protocol_of};
use crate::settings::{Engine, Settings};
use pointsman_engine::live::Snapshot;

/// More of its help.
pub const HELP: &str = "\
Also shows which instances get no work and why, the problems of the service, and matching services
that are not served because of a problem. If no service matches, names what comes close.

Exit codes:
  0  an instance, or a page of the balancer's own, would answer
  1  the balancer would refuse it: no service matches, or no instance is up

Examples:
  pointsman explain http://shop.test/cart
  pointsman explain shop.test
  pointsman explain -X POST -H 'Cookie: SRV=web-1' --client 192.0.2.9 http://shop.test/cart
  pointsman explain tcp://db.test:5432";

/// Prints the answer on `out`; a line on `note` says if it comes from the store. `named`: the operator has named the keys.
///
/// # Errors
/// The URL is not valid, neither a balancer nor the store can be reached, or `out` is closed.
pub async fn explain(
    (settings, named): (&Settings, bool),
    (url, request): (&str, ExplainRequest),
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let asked = ExplainQuery { url: url.parse().map_err(anyhow::Error::msg)?, request };
    let running = ask::<ExplainView>(settings.admin, &page(url, &asked.request)).await?;
    let source = |view: &ExplainView| view.source.clone();
    let view = match of_these_keys(running, source, (settings, named), note)? {
        Some(view) => view,
        None => {
            expect_folder(&settings.store, "read")?;
            let compiled = once::compiled(settings, Standpoint::of_fleet(settings, true).await?).await?;
            let (nothing, request) = (Snapshot::default(), asked.request.clone());
            let view = ExplainView::new(&compiled.table, &nothing, compiled.problems.iter(), asked);
            match settings.engine {
                Engine::Native => view.with_pick(&compiled.table, &nothing, &request),
                Engine::Haproxy => view,
            }
        }
    };
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?,
        false => out.write_all(text(&view).as_bytes())?,
    }
    out.flush()?;
    Ok(if view.is_answered() { Outcome::Yes } else { Outcome::No })
}

/// The page that explains a request.
fn page(url: &str, request: &ExplainRequest) -> String {
    let headers = request.headers.iter().map(|(name, value)| ("header", format!("{name}: {value}")));
    let client = request.client.map(|client| ("client", client.to_string()));
    let method = [("method", request.method.clone())];
    let more = method.into_iter().chain(headers).chain(client);
    let more = more.map(|(name, value)| format!("&{name}={}", encoded(&value))).collect::<String>();
    format!("/api/explain?url={}{more}", encoded(url))
}

fn text(view: &ExplainView) -> String {
    let protocol = protocol_of(&view.protocol);
    let is_tcp = protocol == Protocol::Tcp;
    let host = if view.host.is_empty() { "(no host)" } else { &view.host };
    let separator = if is_tcp { " port " } else { " " };
    let mut text = format!("{}{separator}{}\n", shown(host), shown(&view.target));
    if let Some(local) = &view.local {
        let _ = writeln!(text, "  {}", shown(local));
        return text;
    }
    match &view.chosen {
        None if is_tcp => text.push_str("  no service takes a connection there\n"),
        None if view.too_long => text.push_str("  414: too many expressions would have to be searched for in it\n"),
        None => text.push_str("  503: no service matches, and there is no default service\n"),
        Some(chosen) => {
            let _ = writeln!(text, "  {protocol}/{}: {}", shown(&chosen.service), shown(&chosen.rule));
        }
    }
    text.extend(view.refused.iter().map(|refused| format!("  {}\n", shown(refused))));
    text.extend(view.near.iter().map(|line| format!("  {}\n", shown(line))));
    if view.strip > 0 {
        let _ = writeln!(text, "  forwarded as {}", shown(&stripped(&view.target, view.strip)));
    }
    text.extend(view.service.iter().map(service_lines));
    text.extend(view.picked.iter().map(pick_lines));
    text.extend(view.passed_over.iter().map(|choice| passed_over_line(protocol, choice)));
    text.extend(view.withheld.iter().flat_map(|withheld| withheld_lines(protocol, withheld)));
    text
}

fn service_lines(service: &ServiceView) -> String {
    let last_good =
        service.last_good.map(|revision| format!("  with its last good settings, of revision {revision}\n"));
    let status = if protocol_of(&service.protocol) == Protocol::Tcp { "closed" } else { "503" };
    let (working, apart): (Vec<_>, Vec<_>) =
        service.instances.iter().partition(|instance| instance.state == "up" || instance.in_panic);
    let backups = apart.iter().any(|instance| instance.state == "backup");
    let verify = service.client_verify.as_deref().map(|verify| match verify {
        "required" => "  over HTTPS only: clients need a certificate of its client_ca\n".to_owned(),
        _ => "  clients may show a certificate of its client_ca\n".to_owned(),
    });
    let mut text = last_good.into_iter().chain(verify).collect::<String>();
    let _ = match (working.as_slice(), backups) {
        ([], _) if service.closed => writeln!(text, "  503: it is not served, and no other service gets its requests"),
        ([], _) if service.dns.is_some() => Ok(()),
        ([], _) if service.instances.is_empty() => writeln!(text, "  {status}: the service has no instances"),
        ([], false) if apart.iter().all(|instance| instance.state == "drain") => {
            writeln!(text, "  {status}: no instance takes new work")
        }
        ([], false) => writeln!(text, "  no instance is up"),
        ([], true) => writeln!(text, "  only backups are left"),
        (some, _) => {
            let lines = some.iter().map(|instance| instance_line(instance));
            let speak = service.http_version.as_deref().map(|version| format!("protocol {}, ", shown(version)));
            let speak = speak.unwrap_or_default();
            let bounded = service.bounded.as_deref().map(|share| format!(", bounded {}", shown(share)));
            let slow = service.slow_start.as_deref().map(|ramp| format!(", slow_start {}", shown(ramp)));
            let more: String = bounded.into_iter().chain(slow).collect();
            write!(text, "  {speak}balance {}{more}, one of\n{}", shown(&service.balance), lines.collect::<String>())
        }
    };
    text.extend(service.bounds.iter().map(|(key, value)| format!("  {key} {}\n", shown(value))));
    text.extend(service.eject.iter().map(|eject| format!("  eject {}\n", shown(eject))));
    text.extend(service.panic.iter().map(|panic| panic_line(panic, service.in_panic)));
    // With an engine that looks names up itself, they are not among the instances.
    let is_apart = service.instances.iter().all(|instance| instance.name != instance.target);
    text.extend(service.dns.iter().filter(|_| is_apart).map(|dns| format!("  and the addresses of {}\n", shown(dns))));
    if !apart.is_empty() {
        text.push_str("  set apart\n");
    }
    text.extend(apart.into_iter().map(instance_line));
    text.extend(service.problems.iter().map(|problem| format!("  problem: {problem}\n")));
    text
}

fn pick_lines(pick: &PickView) -> String {
    let key = pick.key.as_deref().map(|key| format!(", key {}", shown(key))).unwrap_or_default();
    let to = pick.instance.as_deref().map_or("no certain instance".to_owned(), |name| shown(name).to_string());
    let why = pick.why.iter().map(|why| format!("    {}\n", shown(why)));
    format!("  {}{key}: goes to {to}\n{}", shown(&pick.by), why.collect::<String>())
}

fn panic_line(panic: &str, in_panic: bool) -> String {
    let now = if in_panic { ": fewer are healthy, so all are used" } else { "" };
    format!("  panic {}{now}\n", shown(panic))
}

fn instance_line(instance: &InstanceView) -> String {
    let resolved = match instance.resolved.as_slice() {
        [] => String::new(),
        some => format!(" ({})", shown(&some.join(", "))),
    };
    let since =
        instance.since.filter(|_| instance.state != "up").map(|since| format!(", {}", ago(since))).unwrap_or_default();
    let why = instance.why.as_deref().map(|why| format!(": {}", shown(why))).unwrap_or_default();
    let words = instance_words(instance);
    let used = if instance.in_panic { "; used in panic" } else { "" };
    format!("    {} {}{resolved} {words}{since}{why}{used}\n", shown(&instance.name), shown(&instance.target))
}

fn withheld_lines(protocol: Protocol, withheld: &WithheldView) -> Vec<String> {
    let service = shown(&withheld.service);
    withheld.problems.iter().map(|problem| format!("  withheld {protocol}/{service}: {problem}\n")).collect()
}

fn passed_over_line(protocol: Protocol, choice: &ChoiceView) -> String {
    let (service, rule, reason) = (shown(&choice.service), shown(&choice.rule), shown(&choice.reason));
    format!("  not {protocol}/{service}: {rule}; {reason}\n")
}

/// The rest of the target, with a leading slash.
fn stripped(target: &str, strip: u32) -> String {
    let rest = target.get(strip as usize..).unwrap_or_default();
    if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_service_and_why() {
        let choice = |service: &str, reason: &str| ChoiceView {
            service: service.to_owned(),
            rule: format!("host {service}.test"),
            reason: reason.to_owned(),
        };
        let mut view = ExplainView {
            protocol: "http".to_owned(),
            too_long: false,
            host: "a.test".to_owned(),
            target: "/api/x".to_owned(),
            chosen: Some(choice("a", "")),
            passed_over: vec![choice("b", "lower priority")],
            strip: 4,
            service: None,
            withheld: Vec::new(),
            picked: None,
            near: Vec::new(),
            local: None,
            refused: None,
            source: None,
        };
        let expected = "a.test /api/x\n  services/a: host a.test\n  forwarded as /x\n  not services/b: host b.test; \
                        lower priority\n";
        assert_eq!(text(&view), expected);
        view.protocol = "tcp".to_owned();
        assert!(text(&view).contains("  tcp-services/a: host a.test\n"));
        view.protocol = "http".to_owned();
        view.chosen = None;
        assert!(text(&view).contains("503: no service matches"));
    }
}
