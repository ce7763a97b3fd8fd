//! Hosts and the rules that they lead to. Laid out so that a lookup touches little memory, however many hosts there
//! are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;

/// Names up to this length are kept in the map itself.
const SHORT: usize = 30;

/// Rules by host.
pub(crate) type HostMap = HashMap<HostKey, HostRules, RandomState>;

/// Where a host leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostRules {
    /// To one service at priority 0, for every path: the usual case.
    Plain(u32),
    /// To path rules, by their number.
    Paths(u32),
}

/// A host name in lower case.
#[derive(Clone, Debug)]
pub(crate) enum HostKey {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl HostKey {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl From<&str> for HostKey {
    fn from(name: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(name.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(name.as_bytes().into()),
        }
    }
}

impl Borrow<[u8]> for HostKey {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for HostKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for HostKey {}

impl Hash for HostKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}
