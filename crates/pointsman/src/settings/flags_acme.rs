//! The flags of certificates by ACME, as [`FLAGS`](super::FLAGS) has them.

use std::path::PathBuf;

use super::DnsUpdates;
use super::flag::{Flag, Group, PLAIN};
use super::parse;

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

/// The name server that takes changes.
pub(super) const ACME_DNS_SERVER: Flag = Flag {
    name: "acme-dns-server",
    value: "IP[:PORT]",
    group: Group::Serve,
    help: "Name server that takes TXT records: as dynamic updates (RFC 2136), for config/acme/challenge dns-01",
    read: |draft, choice| {
        let server = parse::resolver(choice.text())?;
        draft.acme.updates = Some(DnsUpdates { server, zone: None, key: None });
        Ok(())
    },
    ..PLAIN
};

/// The zone that is changed.
pub(super) const ACME_DNS_ZONE: Flag = Flag {
    name: "acme-dns-zone",
    value: "ZONE",
    group: Group::Serve,
    help: "The zone to update there: at --acme-dns-server",
    default: "the one that this server says",
    read: |draft, choice| {
        let updates = draft.acme.updates.as_mut().ok_or("needs --acme-dns-server")?;
        updates.zone = Some(choice.text().into());
        Ok(())
    },
    ..PLAIN
};

/// What changes are signed with.
pub(super) const ACME_DNS_KEY: Flag = Flag {
    name: "acme-dns-key",
    value: "FILE",
    group: Group::Serve,
    help: "Its TSIG key, in a file: ALGORITHM:NAME:SECRET, or as tsig-keygen writes it",
    read: |draft, choice| {
        let updates = draft.acme.updates.as_mut().ok_or("needs --acme-dns-server")?;
        updates.key = Some(PathBuf::from(choice.text()));
        Ok(())
    },
    ..PLAIN
};
