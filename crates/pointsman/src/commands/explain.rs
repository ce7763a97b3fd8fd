//! `pointsman explain URL`: shows the service and the instances that take a URL, and why. Sends no request to them.

use pointsman_table::shown;
use std::fmt::Write as _;
use std::io::Write;

use super::ask::{Answer, ask, encoded};
use super::routes::instance_words;
use super::{Outcome, once};
use crate::admin::view::{ChoiceView, ExplainView, InstanceView, ServiceView};
use crate::settings::Settings;
use pointsman_engine::live::Snapshot;

/// Prints the answer on `out`; a line on `note` says if it comes from the store.
///
/// # Errors
/// The URL is not valid, neither a balancer nor the store can be reached, or `out` is closed.
pub async fn explain(
    settings: &Settings,
    url: &str,
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let view = match ask::<ExplainView>(settings.admin, &format!("/api/explain?url={}", encoded(url))).await? {
        Answer::Running(view) => view,
        Answer::Nobody => {
            writeln!(note, "no balancer answers on --admin; this answer comes from the keys in the store")?;
            let table = once::compiled(settings).await?.table;
            ExplainView::new(&table, &Snapshot::default(), url).map_err(anyhow::Error::msg)?
        }
    };
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&view)?)?,
        false => out.write_all(text(&view).as_bytes())?,
    }
    out.flush()?;
    Ok(if view.chosen.is_some() { Outcome::Yes } else { Outcome::No })
}

fn text(view: &ExplainView) -> String {
    let host = if view.host.is_empty() { "(no host)" } else { &view.host };
    let mut text = format!("{} {}\n", shown(host), shown(&view.target));
    match &view.chosen {
        None if view.too_long => text.push_str("  414: too many expressions would have to be searched for in it\n"),
        None => text.push_str("  503: no service matches, and there is no default service\n"),
        Some(chosen) => text.push_str(&format!("  service {}: {}\n", shown(&chosen.service), shown(&chosen.rule))),
    }
    if view.strip > 0 {
        let _ = writeln!(text, "  forwarded as {}", shown(&stripped(&view.target, view.strip)));
    }
    text.extend(view.service.iter().map(service_lines));
    text.extend(view.passed_over.iter().map(passed_over_line));
    text
}

fn service_lines(service: &ServiceView) -> String {
    match service.instances.as_slice() {
        [] => "  503: the service has no instances\n".to_owned(),
        some => {
            format!(
                "  balance {}, one of\n{}",
                shown(&service.balance),
                some.iter().map(instance_line).collect::<String>()
            )
        }
    }
}

fn instance_line(instance: &InstanceView) -> String {
    let resolved = match instance.resolved.as_slice() {
        [] => String::new(),
        some => format!(" ({})", shown(&some.join(", "))),
    };
    format!("    {} {}{resolved} {}\n", shown(&instance.name), shown(&instance.target), instance_words(instance))
}

fn passed_over_line(choice: &ChoiceView) -> String {
    format!("  not {}: {}; {}\n", shown(&choice.service), shown(&choice.rule), shown(&choice.reason))
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
            too_long: false,
            host: "a.test".to_owned(),
            target: "/api/x".to_owned(),
            chosen: Some(choice("a", "")),
            passed_over: vec![choice("b", "lower priority")],
            strip: 4,
            service: None,
        };
        let expected =
            "a.test /api/x\n  service a: host a.test\n  forwarded as /x\n  not b: host b.test; lower priority\n";
        assert_eq!(text(&view), expected);
        view.chosen = None;
        assert!(text(&view).contains("503: no service matches"));
    }
}
