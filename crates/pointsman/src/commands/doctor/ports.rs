//! Ports: whether a balancer with these settings and keys could listen, or one does already.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use pointsman_engine::sockets;
use pointsman_table::{Bind, Table};

use super::balancer::RunningBalancer;
use super::observation::Observation;
use crate::settings::Settings;

const SUBJECT: &str = "ports";
/// Addresses that are named in one line.
const MOST: usize = 8;

pub(super) fn look(settings: &Settings, table: Option<&Table>, running: Option<&RunningBalancer>) -> Vec<Observation> {
    let own = settings.http.iter().chain(&settings.https).chain(&settings.admin).copied();
    let of_keys = table.into_iter().flat_map(|table| table.tcp().iter().map(|(bind, _)| address(*bind)));
    let usual = settings.usual_https.iter().filter(|_| table.is_some_and(Table::ends_tls)).map(|bind| address(*bind));
    let all: BTreeSet<_> = own.chain(of_keys).chain(usual).filter(|address| address.port() != 0).collect();
    judge(&all, running.map(|running| &running.ports), sockets::probe)
}

fn address(Bind { address, port }: Bind) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// `probe`: whether an address is free.
fn judge(
    all: &BTreeSet<SocketAddr>,
    ours: Option<&BTreeSet<u16>>,
    probe: impl Fn(SocketAddr) -> io::Result<()>,
) -> Vec<Observation> {
    let (mut served, mut free, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for address in all {
        match probe(*address) {
            _ if ours.is_some_and(|ours| ours.contains(&address.port())) => served.push(*address),
            Ok(()) => free.push(*address),
            Err(error) => {
                let what = format!("cannot listen on {address}: {error}");
                taken.push(Observation::wrong(SUBJECT, what, sockets::hint(*address, &error)));
            }
        }
    }
    let ok = |addresses: &[SocketAddr], what: &str| {
        let more = addresses.len().saturating_sub(MOST);
        let named: Vec<_> = addresses.iter().take(MOST).map(ToString::to_string).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!addresses.is_empty()).then(|| Observation::ok(SUBJECT, format!("{}{more} {what}", named.join(", "))))
    };
    // One that runs listens everywhere, or says why not.
    let unserved = match ours {
        Some(_) if !free.is_empty() => {
            let named: Vec<_> = free.iter().map(ToString::to_string).collect();
            let what = format!("nobody listens on {}, as these settings and keys want", named.join(", "));
            let remedy = "give doctor the balancer's own flags; pointsman routes lists where it listens";
            Some(Observation::note(SUBJECT, what, remedy))
        }
        _ => ok(&free, "can be listened on"),
    };
    ok(&served, "served by the balancer").into_iter().chain(unserved).chain(taken).collect()
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    #[test]
    fn ports_are_ours_free_or_taken() {
        let all: BTreeSet<SocketAddr> = ["127.0.0.1:80", "127.0.0.1:8080"].map(|text| text.parse().unwrap()).into();
        let in_use = |address: SocketAddr| match address.port() {
            80 => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Err(io::ErrorKind::AddrInUse.into()),
        };
        check(&judge(&all, None, |_| Ok(())), &["ok: 127.0.0.1:80, 127.0.0.1:8080 can be listened on"]);
        check(
            &judge(&all, None, in_use),
            &[
                "wrong: cannot listen on 127.0.0.1:80: permission denied | this user may not",
                "wrong: cannot listen on 127.0.0.1:8080: address in use | another process listens there (`ss -ltnp",
            ],
        );
        let ours = BTreeSet::from([8080]);
        check(
            &judge(&all, Some(&ours), in_use),
            &["ok: 127.0.0.1:8080 served by the balancer", "wrong: cannot listen on 127.0.0.1:80"],
        );
        check(
            &judge(&all, Some(&ours), |_| Ok(())),
            &["ok: 127.0.0.1:8080 served", "note: nobody listens on 127.0.0.1:80"],
        );
        check(&judge(&BTreeSet::new(), None, |_| Ok(())), &[]);
    }
}
