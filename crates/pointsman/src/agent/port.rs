//! Finds the port inside a container. Never guesses: if there is a choice and nobody has made it, it reports that.

use super::complaint::{Complaint, ComplaintKind};
use super::container::Container;

/// The default port if none is written, exposed or listened on.
pub(super) const USUAL: u16 = 80;

/// A port between 1 and 65535.
pub(super) fn parse(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

/// The port that a label names.
pub(super) fn given(container: &Container, label: &str, value: &str) -> Result<u16, Complaint> {
    let advice = "expected a port between 1 and 65535, the one inside the container";
    parse(value).ok_or_else(|| Complaint::new(ComplaintKind::BadLabel, container, label, Some(value), advice))
}

/// The port of a container without a port label: the only port that it exposes. If it exposes none or several, `usual`,
/// which is 80 or the balancer's listening port. `label` is the label that would name a port.
pub(super) fn exposed(container: &Container, label: &str, usual: Option<u16>) -> Result<u16, Complaint> {
    let exposed = &container.exposed;
    let advice = match (exposed.first(), exposed.len(), usual) {
        (Some(only), 1, _) => return Ok(*only),
        (None, _, Some(usual)) => return Ok(usual),
        (Some(_), _, Some(usual)) if exposed.contains(&usual) => return Ok(usual),
        (None, ..) => "it exposes no port; set this label to the port inside the container".to_owned(),
        (Some(_), ..) => {
            let ports: Vec<_> = exposed.iter().map(ToString::to_string).collect();
            format!("it exposes the ports {}; name one with this label", ports.join(", "))
        }
    };
    Err(Complaint::new(ComplaintKind::NoPort, container, label, None, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ports: &[u16], usual: Option<u16>, expected: &str) {
        let container = Container { exposed: ports.iter().copied().collect(), ..Container::default() };
        let said = match exposed(&container, "pointsman.port", usual) {
            Ok(port) => port.to_string(),
            Err(complaint) => complaint.to_string(),
        };
        assert!(said.contains(expected), "{ports:?}: {said} has no {expected}");
    }

    #[test]
    fn takes_the_only_port_or_the_usual_one() {
        check(&[], Some(80), "80");
        check(&[8080], Some(80), "8080");
        check(&[80, 443], Some(80), "80");
        check(&[443, 8080], Some(80), "pointsman.port: no port: it exposes the ports 443, 8080; name one");
        check(&[], None, "it exposes no port");
        check(&[6379], None, "6379");
        check(&[5432, 8008], Some(5432), "5432");
        check(&[5432, 8008], None, "5432, 8008");
    }

    #[test]
    fn reads_ports() {
        for (text, expected) in [("80", Some(80)), ("65535", Some(65535)), ("0", None), ("65536", None), ("+80", None)]
        {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!([parse(""), parse("80/tcp"), parse("eighty"), parse(" 80")], [None; 4]);
    }
}
