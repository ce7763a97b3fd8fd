//! The values of a service's `cookie`, and the instances that they name. Reads no request, and picks none.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use pointsman_table::Service;

/// Values by instance, and instances by value.
#[derive(Debug)]
pub(crate) struct CookieValues {
    /// The one to set, by index; `None`: an instance without any.
    own: Box<[Option<Box<str>>]>,
    instances: HashMap<Box<str>, usize, FixedState>,
}

impl CookieValues {
    /// `None`: the service has no `cookie`.
    pub(crate) fn of(service: &Service) -> Option<Box<Self>> {
        let cookie = service.cookie()?;
        let mut instances = HashMap::default();
        let mut own = Vec::with_capacity(service.instances.len());
        for (index, instance) in service.instances.iter().enumerate() {
            let values = cookie.values(&service.name, instance);
            own.push(values.first().cloned());
            for value in values {
                // Two instances at one address: the first, as in HAProxy.
                instances.entry(value).or_insert(index);
            }
        }
        Some(Box::new(Self { own: own.into(), instances }))
    }

    /// The index of the instance that this value names.
    pub(crate) fn find(&self, value: &[u8]) -> Option<usize> {
        self.instances.get(str::from_utf8(value).ok()?).copied()
    }

    /// The value that names an instance.
    pub(crate) fn of_instance(&self, index: usize) -> Option<&str> {
        self.own.get(index)?.as_deref()
    }
}
