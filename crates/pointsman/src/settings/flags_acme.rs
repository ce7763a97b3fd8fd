//! The flags of certificates by ACME, as [`FLAGS`](super::FLAGS) has them.

use std::path::PathBuf;

use super::flag::{Flag, Group, PLAIN};

/// Who vouches for the authority.
pub(super) const ACME_CA: Flag = Flag {
    name: "acme-ca",
    value: "FILE",
    group: Group::Serve,
    help: "Who may vouch for the ACME server: authorities, in PEM, besides those of the system",
    read: |draft, choice| {
        draft.acme.ca = Some(PathBuf::from(choice.text()));
        Ok(())
    },
    ..PLAIN
};

/// Who changes DNS.
pub(super) const ACME_DNS_HOOK: Flag = Flag {
    name: "acme-dns-hook",
    value: "FILE",
    group: Group::Serve,
    help: "Program that sets TXT records: for config/acme/challenge dns-01, called as lego calls its own",
    read: |draft, choice| {
        draft.acme.hook = Some(PathBuf::from(choice.text()));
        Ok(())
    },
    ..PLAIN
};
