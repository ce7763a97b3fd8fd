//! `show servers state`, in format 1 (Management Guide, section 9.3): one line an instance.

use std::fmt::Write;

use pointsman_engine::live::InstanceStats;
use pointsman_native::share_in_effect;
use pointsman_table::{Instance, Service, Target, plain_name};

use super::form::TAKES_ALL;
use super::proxies::{Proxies, backend};
use super::rows::{ServerStanding, StatScene, check_code, check_health, of_instance};

/// The format and the columns.
pub(super) const HEAD: &str = "\
    1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
    bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
    srv_agent_addr srv_agent_port\n";

/// `SRV_ADMF_FMAINT`, `SRV_ADMF_FDRAIN`.
const MAINTENANCE: u8 = 0x01;
const DRAINED: u8 = 0x08;
/// `CHK_ST_CONFIGURED` and `CHK_ST_ENABLED`.
const CHECKED: u8 = 0x06;

/// The lines of the service at this place; none: a listener is there.
pub(super) fn servers(scene: &StatScene<'_>, place: usize, out: &mut String) {
    let Some(service) = scene.proxies.service(place) else { return };
    let (id, name) = (Proxies::number(place), backend(service));
    let known = scene.look.service(service.protocol, service.name.as_str());
    for (at, instance) in service.instances.iter().enumerate() {
        let stats = known.and_then(|(stats, pace)| of_instance(instance, stats, pace)).map(|(stats, _)| stats);
        write!(out, "{id} {name} {} {} ", Proxies::number(at), plain_name(instance.name.as_str())).expect(TAKES_ALL);
        server(service, instance, stats, out);
    }
}

fn server(service: &Service, instance: &Instance, stats: Option<&InstanceStats>, out: &mut String) {
    let standing = ServerStanding::of(instance, stats);
    let is_growing = share_in_effect(stats.and_then(|stats| stats.age), service.timeouts.slow_start) < 100;
    let state = match standing {
        ServerStanding::Down | ServerStanding::Maintenance => 0,
        _ if is_growing => 1,
        _ => 2,
    };
    let admin = if instance.drain { DRAINED } else { 0 }
        | if standing == ServerStanding::Maintenance { MAINTENANCE } else { 0 };
    let (weight, since) = (instance.weight, stats.and_then(|stats| stats.lasts).map_or(0, |lasts| lasts.as_secs()));
    let check = stats.and_then(|stats| stats.check.as_ref());
    let (code, asks) = (check_code(instance, check), service.health_check.as_deref());
    let result = match check {
        None => 0,
        Some(_) if code.is_passed() => 3,
        Some(_) => 2,
    };
    let (health, checked) = asks.map_or((2, 0), |asks| (check_health(asks, check), CHECKED));
    let (address, fqdn, port) = whereabouts(instance);
    let (tls, check_port) = (u8::from(instance.tls), asks.and_then(|asks| asks.port).unwrap_or(0));
    let number = code.facts().2;
    writeln!(
        out,
        "{address} {state} {admin} {weight} {weight} {since} {number} {result} {health} {checked} 0 0 0 {fqdn} {port} - \
         {tls} {check_port} - - 0"
    )
    .expect(TAKES_ALL);
}

/// Address, host name and port, with `-` for what it has not.
fn whereabouts(instance: &Instance) -> (String, &str, u16) {
    match &instance.target {
        Target::Socket(address) => (address.ip().to_string(), "-", address.port()),
        Target::Name(name, port) => {
            let address = instance.resolved.first().map_or_else(|| "-".to_owned(), |address| address.ip().to_string());
            (address, name, *port)
        }
        Target::Unix(_) => ("-".to_owned(), "-", 0),
    }
}
