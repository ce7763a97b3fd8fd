//! Turns containers into wanted keys. Pure.
//!
//! ```text
//! Container ──offers──> Offer   one instance of one service, with the settings that this container wants
//!                         └──merge──> Wanted, prefix by prefix
//! ```

use std::collections::BTreeMap;

use super::complaint::{Complaint, ComplaintKind};
use super::container::{Container, State};
use super::offer::{AgentDefaults, Offer};
use super::{kontena, labels};
use crate::registrar::Wanted;

/// The offers of one container. A container that does not run offers nothing and gets no complaints.
pub fn offers(container: &Container, defaults: &AgentDefaults) -> (Vec<Offer>, Vec<Complaint>) {
    let (mut offers, mut complaints) = (Vec::new(), Vec::new());
    if container.state == State::Stopped || is_left_out(container) {
        return (offers, complaints);
    }
    offers.extend(kontena::offer(container, defaults, &mut complaints));
    offers.extend(labels::offers(container, defaults, &mut complaints));
    (offers, complaints)
}

/// Whether our label excludes a container, whatever other labels it has.
fn is_left_out(container: &Container) -> bool {
    container.label("pointsman.enable") == Some("false")
}

/// The wanted keys of all containers of this machine, by prefix. Containers of one service may want different settings,
/// as during a deployment; for each key, the newest container that sets it wins. If two want the same instance, the
/// older one keeps it, and the other is not used.
pub fn wanted<'a>(
    containers: impl IntoIterator<Item = &'a Container>,
    defaults: &AgentDefaults,
) -> (BTreeMap<String, Wanted>, Vec<Complaint>) {
    let mut containers: Vec<_> = containers.into_iter().collect();
    containers.sort_unstable_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    let mut merge = Merge::default();
    for container in containers {
        let (offers, complaints) = offers(container, defaults);
        merge.complaints.extend(complaints);
        offers.into_iter().for_each(|offer| merge.add(container, offer));
    }
    merge.finish()
}

/// Merges offers, oldest container first.
#[derive(Default)]
struct Merge<'a> {
    /// By prefix and key.
    instances: BTreeMap<(String, String), (&'a Container, String)>,
    settings: BTreeMap<(String, String), Vec<(&'a Container, String)>>,
    complaints: Vec<Complaint>,
}

impl<'a> Merge<'a> {
    fn add(&mut self, container: &'a Container, offer: Offer) {
        let place = (offer.prefix.clone(), offer.instance_key());
        if let Some((older, _)) = self.instances.get(&place) {
            let (prefix, key) = place;
            let advice = if older.id == container.id {
                "two of its services have the same name; rename or remove one of them".to_owned()
            } else {
                format!("{} has this instance already; set another pointsman.name on each container", older.name)
            };
            let label = format!("{prefix}/{key}");
            let kind = ComplaintKind::SameName;
            return self.complaints.push(Complaint::new(kind, container, &label, Some(&offer.value), advice));
        }
        let folder = offer.folder();
        for (key, value) in offer.settings {
            let key = format!("{folder}/{key}");
            self.settings.entry((offer.prefix.clone(), key)).or_default().push((container, value));
        }
        self.instances.insert(place, (container, offer.value));
    }

    fn finish(self) -> (BTreeMap<String, Wanted>, Vec<Complaint>) {
        let Self { instances, settings, mut complaints } = self;
        let mut all: BTreeMap<String, Wanted> = BTreeMap::new();
        for ((prefix, key), (_, value)) in instances {
            all.entry(prefix).or_default().instances.insert(key.into(), value.into());
        }
        for ((prefix, key), mut values) in settings {
            let Some((newest, value)) = values.pop() else { continue };
            let label = format!("{prefix}/{key}");
            let others = values.iter().filter(|(_, other)| *other != value);
            complaints.extend(others.map(|(older, other)| differs(older, other, &label, newest)));
            all.entry(prefix).or_default().settings.insert(key.into(), value.into());
        }
        complaints.sort_unstable();
        complaints.dedup();
        (all, complaints)
    }
}

/// The advice omits the newest container's value: it may be a secret.
fn differs(older: &Container, value: &str, label: &str, newest: &Container) -> Complaint {
    let advice = format!("{} is newer and wants another value, which is used; set the same value on both", newest.name);
    Complaint::new(ComplaintKind::Differs, older, label, Some(value), advice)
}
