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
    help: "Authorities, in PEM, that may vouch for the ACME server that issues certificates, besides those of the system",
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
    help: "Program that sets TXT records where config/acme/challenge is dns-01, called as lego calls its own",
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
    help: "Name server that takes TXT records as dynamic updates (RFC 2136) where config/acme/challenge is dns-01",
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
    help: "The zone to update at --acme-dns-server",
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
    help: "File with the TSIG key for --acme-dns-server: ALGORITHM:NAME:SECRET, or as tsig-keygen writes it",
    read: |draft, choice| {
        let updates = draft.acme.updates.as_mut().ok_or("needs --acme-dns-server")?;
        updates.key = Some(PathBuf::from(choice.text()));
        Ok(())
    },
    ..PLAIN
};
