//! Our own labels: `pointsman.<key>`, or `pointsman.<service>.<key>` if a container has several services.

use std::collections::BTreeMap;

use pointsman_table::{Protocol, counts_when_empty};

use super::complaint::{Complaint, ComplaintKind};
use super::container::Container;
use super::known::{self, OF_CONTAINER};
use super::offer::{AgentDefaults, Offer};
use super::options::{self, Options};
use super::{address, name, port};

/// Labels by key: the label's full name, and its trimmed value.
type OwnLabels<'a> = BTreeMap<&'static str, (&'a str, &'a str)>;

/// The offers in our labels.
pub(super) fn offers(container: &Container, defaults: &AgentDefaults, complaints: &mut Vec<Complaint>) -> Vec<Offer> {
    let mut services = group(container, complaints);
    let everywhere = take_everywhere(&mut services);
    match flag(container, &everywhere, "enable", true) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(complaint) => {
            complaints.push(complaint);
            return Vec::new();
        }
    }
    let mut offers = Vec::new();
    for (handle, own) in services {
        let labels = everywhere.iter().chain(&own).map(|(key, label)| (*key, *label)).collect();
        let place = Place { container, defaults, handle, labels };
        offers.extend(place.offer(complaints));
    }
    offers
}

/// The labels of each service, by the service's name in the labels; labels without one under the empty name.
fn group<'a>(container: &'a Container, complaints: &mut Vec<Complaint>) -> BTreeMap<&'a str, OwnLabels<'a>> {
    let mut services: BTreeMap<&str, OwnLabels<'_>> = BTreeMap::new();
    for (label, value) in &container.labels {
        let Some(rest) = label.strip_prefix(known::PREFIX) else { continue };
        match known::split(rest) {
            Some((handle, key)) if !handle.contains('.') => {
                let label = (label.as_str(), value.trim());
                // An empty value means not set, as in the store, and counts where it does there. A flag needs no value.
                let is_flag = matches!(key, "backup" | "tls" | "enable");
                if !label.1.is_empty() || is_flag || counts_when_empty(Protocol::Http, key) {
                    services.entry(handle).or_default().insert(key, label);
                }
            }
            found => complaints.push(unknown(container, label, value, rest, found.is_some())),
        }
    }
    services
}

fn unknown(container: &Container, label: &str, value: &str, rest: &str, dotted: bool) -> Complaint {
    let (handle, word) = rest.split_once('.').map_or((None, rest), |(handle, word)| (Some(handle), word));
    let advice = match known::nearest(rest) {
        _ if dotted => {
            "the name of a service has no dot here; use a short name, and set the full name with another label, \
                        such as pointsman.shop.service=shop.example"
                .to_owned()
        }
        Some(meant) => format!("no such label; did you mean {}{meant}?", known::PREFIX),
        None => match handle.zip(known::nearest(word)) {
            Some((handle, meant)) => {
                format!("no such label; did you mean {}{handle}.{meant}?", known::PREFIX)
            }
            None => "no such label".to_owned(),
        },
    };
    Complaint::new(ComplaintKind::UnknownLabel, container, label, Some(value), advice)
}

/// Removes the labels that apply to every service: those about the container that name no service. Other labels without
/// a service name form one more service, and so do the container's if there is no other service.
fn take_everywhere<'a>(services: &mut BTreeMap<&'a str, OwnLabels<'a>>) -> OwnLabels<'a> {
    let named = services.keys().any(|handle| !handle.is_empty());
    let Some(plain) = services.get_mut("") else { return OwnLabels::new() };
    let everywhere: OwnLabels<'a> =
        plain.iter().filter(|(key, _)| OF_CONTAINER.contains(key)).map(|(key, label)| (*key, *label)).collect();
    plain.retain(|key, _| !OF_CONTAINER.contains(key));
    if plain.is_empty() && named {
        services.remove("");
    }
    everywhere
}

/// The value of a label that is `true` or `false`.
fn flag(container: &Container, labels: &OwnLabels<'_>, key: &str, default: bool) -> Result<bool, Complaint> {
    judged(container, labels, key, options::boolean).map(|value| value.unwrap_or(default))
}

/// The parsed value of a label.
fn judged<T>(
    container: &Container,
    labels: &OwnLabels<'_>,
    key: &str,
    judge: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, Complaint> {
    let Some((label, value)) = labels.get(key) else { return Ok(None) };
    let complain = |advice| Complaint::new(ComplaintKind::BadLabel, container, label, Some(value), advice);
    judge(value).map(Some).map_err(complain)
}

/// One service on one container.
struct Place<'a> {
    container: &'a Container,
    defaults: &'a AgentDefaults,
    /// The service's name in the labels; may be empty.
    handle: &'a str,
    labels: OwnLabels<'a>,
}

impl Place<'_> {
    /// The complete offer, or all complaints about it; `None` if it is not enabled.
    fn offer(&self, complaints: &mut Vec<Complaint>) -> Option<Offer> {
        let enabled = flag(self.container, &self.labels, "enable", true);
        let protocol = match enabled.and_then(|enabled| enabled.then(|| self.protocol()).transpose()) {
            Ok(protocol) => protocol?,
            Err(complaint) => {
                complaints.push(complaint);
                return None;
            }
        };
        let settings = self.settings(protocol, complaints);
        let address = self.port(protocol).and_then(|port| {
            let network = self.labels.get("network").copied();
            address::of(self.container, self.defaults, network, port)
        });
        match (self.prefix(), self.service(), self.instance(), address, self.options()) {
            (Ok(prefix), Ok(service), Ok(instance), Ok(address), Ok(options)) => {
                let value = options::value(self.container, address, options);
                Some(Offer { prefix, protocol, service, instance, value, settings })
            }
            (prefix, service, instance, address, options) => {
                let faults = [prefix.err(), service.err(), instance.err(), address.err(), options.err()];
                complaints.extend(faults.into_iter().flatten());
                None
            }
        }
    }

    /// A label's value.
    fn get(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(|(_, value)| *value)
    }

    /// A label's full name, whether it is set or not.
    fn label(&self, key: &str) -> String {
        match (self.labels.get(key), self.handle) {
            (Some((label, _)), _) => (*label).to_owned(),
            (None, "") => format!("{}{key}", known::PREFIX),
            (None, handle) => format!("{}{handle}.{key}", known::PREFIX),
        }
    }

    fn complain(&self, kind: ComplaintKind, key: &str, advice: impl Into<Box<str>>) -> Complaint {
        Complaint::new(kind, self.container, &self.label(key), self.get(key), advice)
    }

    fn protocol(&self) -> Result<Protocol, Complaint> {
        match self.get("mode") {
            None | Some("http") => Ok(Protocol::Http),
            Some("tcp") => Ok(Protocol::Tcp),
            Some(_) => Err(self.complain(ComplaintKind::BadLabel, "mode", "expected http or tcp")),
        }
    }

    fn prefix(&self) -> Result<String, Complaint> {
        match (self.get("id"), &self.defaults.prefix) {
            (Some(id), _) => match name::fault(id) {
                Some(advice) => Err(self.complain(ComplaintKind::BadLabel, "id", advice)),
                None => Ok(format!("/haproxy-{id}")),
            },
            (None, Some(prefix)) => Ok(prefix.clone()),
            (None, None) => {
                let advice =
                    "no balancer is named; name one with this label, or for all containers with the agent's --id";
                Err(self.complain(ComplaintKind::NoId, "id", advice))
            }
        }
    }

    fn service(&self) -> Result<String, Complaint> {
        let service = match (self.get("service"), self.handle) {
            (Some(name), _) => name,
            (None, "") => self.container.label("com.docker.compose.service").unwrap_or(&self.container.name),
            (None, handle) => handle,
        };
        self.named("service", service.to_owned())
    }

    fn instance(&self) -> Result<String, Complaint> {
        let instance = self.get("name").map_or_else(|| self.defaults.instance(self.container), str::to_owned);
        self.named("name", instance)
    }

    fn named(&self, key: &str, name: String) -> Result<String, Complaint> {
        match name::fault(&name) {
            Some(advice) => {
                let label = self.label(key);
                Err(Complaint::new(ComplaintKind::BadLabel, self.container, &label, Some(&name), advice))
            }
            None => Ok(name),
        }
    }

    /// The port inside the container.
    fn port(&self, protocol: Protocol) -> Result<u16, Complaint> {
        let read = |key| {
            let given = |(label, value): &(&str, &str)| port::given(self.container, label, value);
            self.labels.get(key).map(given).transpose()
        };
        let inside = read("internal_port")?;
        if protocol == Protocol::Tcp {
            let usual = self.listening();
            return inside.map_or_else(|| port::exposed(self.container, &self.label("internal_port"), usual), Ok);
        }
        match (read("port")?, inside) {
            (Some(port), Some(other)) if port != other => {
                let advice = format!(
                    "for HTTP this and {} mean the same port, the one inside the container",
                    self.label("port")
                );
                Err(self.complain(ComplaintKind::BadLabel, "internal_port", advice))
            }
            (Some(port), _) | (None, Some(port)) => Ok(port),
            (None, None) => port::exposed(self.container, &self.label("port"), Some(port::USUAL)),
        }
    }

    /// The balancer's first listening port, which is also the default port inside.
    fn listening(&self) -> Option<u16> {
        let text = ["port", "external_port", "ports"].into_iter().find_map(|key| self.get(key))?;
        let first = text.split(',').next()?.trim();
        port::parse(first.rsplit_once(':').map_or(first, |(_, port)| port))
    }

    /// Whether the label `tls` is the key of a TCP service, and not the option of an instance.
    fn ends_tls(&self) -> bool {
        self.get("tls") == Some("terminate")
    }

    fn options(&self) -> Result<Options, Complaint> {
        Ok(Options {
            weight: judged(self.container, &self.labels, "weight", options::weight)?,
            maxconn: judged(self.container, &self.labels, "maxconn", options::most)?,
            backup: flag(self.container, &self.labels, "backup", false)?,
            tls: !self.ends_tls() && flag(self.container, &self.labels, "tls", false)?,
        })
    }

    /// The service's keys. Their values are not checked here: the balancer does that. The ports inside are in the
    /// instance's value.
    fn settings(&self, protocol: Protocol, complaints: &mut Vec<Complaint>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        for (key, (_, value)) in &self.labels {
            let option = *key == "tls" && !self.ends_tls();
            let inside = option || *key == "internal_port" || (*key == "port" && protocol == Protocol::Http);
            if known::is_key(protocol, key) && !inside {
                settings.insert((*key).to_owned(), (*value).to_owned());
            } else if known::is_key(other(protocol), key) && !inside {
                let advice = match protocol {
                    Protocol::Http => "only TCP services have this; is pointsman.mode=tcp missing?",
                    Protocol::Tcp => "only HTTP services have this",
                };
                complaints.push(self.complain(ComplaintKind::UnknownLabel, key, advice));
            }
        }
        settings
    }
}

fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Http => Protocol::Tcp,
        Protocol::Tcp => Protocol::Http,
    }
}
