//! Carries the states of servers from one worker to the next: health, and addresses that HAProxy resolved itself.
//! Nothing else: HAProxy would prefer an old port, weight or maintenance to the configured one. Pure.

use std::collections::{BTreeMap, HashMap};

use super::model::{Address, Desired, Server};
use super::names::{self, BackendName};

/// The next worker's state file, from the current worker's answer to `show servers state`. `moved` maps a backend's
/// name to the spare backend that serves it.
pub fn carry(shown: &str, desired: &Desired, moved: &BTreeMap<BackendName, BackendName>) -> String {
    let homes: HashMap<&str, &str> = moved.iter().map(|(own, spare)| (&**spare, &**own)).collect();
    let (mut kept, mut columns) = (FORMAT.to_owned(), None);
    // Nothing is carried from an unknown format.
    for line in shown.strip_prefix(FORMAT).unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match (&columns, fields.as_slice()) {
            (_, ["#", names @ ..]) => {
                columns = Columns::find(names);
                kept.extend([line, "\n"]);
            }
            (Some(columns), fields) => kept.extend(columns.carry(fields, desired, &homes)),
            (None, _) => {}
        }
    }
    kept
}

/// The version of the format, a line of its own before the names of the columns.
const FORMAT: &str = "1\n";

/// The columns that matter: later versions append some.
struct Columns {
    backend: usize,
    server: usize,
    address: usize,
    port: usize,
    admin: usize,
    weights: [usize; 2],
    name: usize,
}

impl Columns {
    fn find(names: &[&str]) -> Option<Self> {
        let at = |wanted: &str| names.iter().position(|name| *name == wanted);
        Some(Self {
            backend: at("be_name")?,
            server: at("srv_name")?,
            address: at("srv_addr")?,
            port: at("srv_port")?,
            admin: at("srv_admin_state")?,
            weights: [at("srv_uweight")?, at("srv_iweight")?],
            name: at("srv_fqdn")?,
        })
    }

    fn carry(&self, fields: &[&str], desired: &Desired, homes: &HashMap<&str, &str>) -> Option<String> {
        let field = |at: usize| fields.get(at).copied();
        let backend = homes.get(field(self.backend)?).copied().or(field(self.backend))?;
        let pool = desired.backends.get(backend)?;
        // After a reload, an instance's server has its first name again.
        let shown = field(self.server)?;
        let server = pool.servers.iter().find(|server| &*server.name == names::turn_of(shown).0);
        // Addresses that HAProxy resolved are kept; without one, such a server would be in maintenance.
        let resolved = field(self.name)? != "-" && field(self.address)? != "-";
        let same = server.is_some_and(|server| self.is_at(fields, server)) && field(self.admin)? == "0";
        if !same && !resolved {
            return None;
        }
        let mut fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        fields[self.backend] = backend.to_owned();
        if let Some(server) = server {
            fields[self.server] = server.name.to_string();
            self.weights.iter().for_each(|&at| fields[at] = server.effective_weight().to_string());
        }
        Some(fields.join(" ") + "\n")
    }

    fn is_at(&self, fields: &[&str], server: &Server) -> bool {
        let Address::Socket(ip, port) = server.address else {
            return false;
        };
        let address = (fields[self.address].parse(), fields.get(self.port).map(|port| port.parse()));
        matches!(address, (Ok(shown), Some(Ok(at))) if (ip, port) == (shown, at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::desire::tests::desired_of;
    use super::*;

    const HEAD: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
                        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
                        srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl\n";

    fn line(backend: &str, server: &str, address: &str, admin: u8, weight: u16, rest: &str) -> String {
        format!("3 {backend} 1 {server} {address} 0 {admin} {weight} 1 9 6 3 0 6 0 0 0 {rest} - 0\n")
    }

    fn desired() -> Desired {
        desired_of(&[
            "services/web/domain = a",
            "services/web/one = 10.0.0.1:80 weight=3",
            "services/web/two = 10.0.0.2:80",
            "services/web/named = x.test",
        ])
    }

    fn check(before: &str, after: &str) {
        let moved = BTreeMap::from([("services:web".into(), "spare:1".into())]);
        assert_eq!(carry(&format!("{HEAD}{before}"), &desired(), &moved), format!("{HEAD}{after}"), "{before}");
    }

    #[test]
    fn health_goes_over_and_nothing_else() {
        let web = "services:web";
        let good = line(web, "one", "10.0.0.1", 0, 3, "- 80").replace(" 3 1 9 ", " 3 3 9 ");
        check(&line(web, "one", "10.0.0.1", 0, 7, "- 80"), &good);
        check(&line("spare:1", "one", "10.0.0.1", 0, 3, "- 80"), &good);
        check(&line(web, "one", "10.0.0.1", 0, 3, "- 81"), "");
        check(&line(web, "one", "10.0.0.9", 0, 3, "- 80"), "");
        check(&line(web, "one:-2", "10.0.0.1", 0, 3, "- 80"), &good);
        check(&line(web, "one", "10.0.0.1", 1, 3, "- 80"), "");
        check(&line(web, "gone", "10.0.0.1", 0, 1, "- 80"), "");
        check(&line("services:gone", "one", "10.0.0.1", 0, 1, "- 80"), "");
        check(&line(web, "dns_7", "10.0.0.7", 0, 1, "x.test 80"), &line(web, "dns_7", "10.0.0.7", 0, 1, "x.test 80"));
        check(&line(web, "dns_8", "-", 32, 1, "x.test 80"), "");
        check(&line(web, "named", "10.0.0.8", 0, 1, "x.test 80"), &line(web, "named", "10.0.0.8", 0, 1, "x.test 80"));
        check("nonsense\n\n3 services:web\n", "");
    }

    #[test]
    fn an_unknown_format_is_nothing() {
        for shown in ["", "nonsense", "2\n# x y\n3 a b\n"] {
            assert_eq!(carry(shown, &desired(), &BTreeMap::new()), FORMAT);
        }
    }
}
