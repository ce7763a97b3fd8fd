//! Rules for headers about a request's way: `X-Forwarded-*`, `X-Real-IP` and `Forwarded`. Routes nothing.

use std::fmt::Write as _;

use pointsman_table::{Config, Networks};

/// How many entries of `X-Forwarded-For` are looked at for the client's address: rules have no loops.
const HOPS: usize = 10;
/// Words in a line: HAProxy takes 64.
const WORDS: usize = 32;
/// The request's own address, found by the rules of [`client`]; balances go by it.
pub(crate) const CLIENT: &str = "txn.client";

/// The condition of requests that came over HTTPS, to us or to a trusted proxy.
pub(crate) const OVER_HTTPS: &str = "{ ssl_fc } or { var(txn.scheme) -m str https }";

/// The rules that set [`CLIENT`], `txn.scheme` and `txn.told_id`, which backends read; none if nobody is trusted.
pub(crate) fn client(trusted: &Networks) -> String {
    if trusted.is_empty() {
        return String::new();
    }
    let mut text = acl("trusted_peer", "src", trusted) + &acl("trusted_hop", &format!("var({CLIENT})"), trusted);
    text.push_str(&format!(
        "    http-request set-var({CLIENT}) src
    http-request set-var({CLIENT}) req.hdr_ip(x-real-ip,-1) if trusted_peer !{{ req.hdr_cnt(x-forwarded-for) gt 0 }} !{{ req.hdr_cnt(forwarded) gt 0 }}
    http-request set-var(txn.scheme) req.fhdr(x-forwarded-proto),lower if trusted_peer
    http-request set-var(txn.told_id) req.fhdr(x-request-id,1) if trusted_peer
    http-request set-var(txn.hop) int(0)
"
    ));
    for hop in 1..=HOPS {
        let before = hop - 1;
        let next = format!("req.hdr_ip(x-forwarded-for,-{hop})");
        text.push_str(&format!(
            "    http-request set-var(txn.hop) int({hop}) if {{ var(txn.hop) -m int {before} }} trusted_hop {{ {next} -m found }}
    http-request set-var({CLIENT}) {next} if {{ var(txn.hop) -m int {hop} }}
"
        ));
    }
    text
}

/// What gives the client's address behind the rules of [`client`].
pub(crate) fn address(trusted: &Networks) -> &'static str {
    if trusted.is_empty() { "src" } else { "var(txn.client)" }
}

/// The rule for connections that begin with a PROXY header, for a frontend of any kind; none if nobody's do.
pub(crate) fn proxied(config: &Config) -> String {
    match config.accept_proxy.is_empty() {
        true => String::new(),
        false => {
            let line = "    tcp-request connection expect-proxy layer4 if proxy_peer\n";
            acl("proxy_peer", "src", &config.accept_proxy) + line
        }
    }
}

/// The rules of a frontend that speaks `proto`. Those of [`client`] stand before them.
pub(crate) fn rules(proto: &str, config: &Config) -> String {
    let mut text = match config.trusted_proxies.is_empty() {
        true => passing(),
        false => believing(),
    };
    // A value that passed stays; beside another's protocol, our port would be wrong.
    writeln!(
        text,
        "    http-request set-header X-Forwarded-Port %[dst_port] unless {{ req.fhdr(x-forwarded-proto),length gt 0 }} or {{ req.fhdr(x-forwarded-port),length gt 0 }}
    http-request set-header X-Forwarded-Proto {proto} unless {{ req.fhdr(x-forwarded-proto),length gt 0 }}"
    )
    .expect("a string takes all");
    text
}

/// Nobody is trusted: peers in private networks may pass `X-Forwarded-*` on, but these decide nothing.
fn passing() -> String {
    let private = acl("private_peer", "src", &Networks::near());
    format!(
        "{private}    http-request del-header '^(x-real-ip|forwarded)$' -m reg
    http-request del-header '{EXTENSIONS}' -m reg unless private_peer
"
    )
}

fn believing() -> String {
    format!(
        "    http-request del-header '^(x-real-ip|forwarded)$' -m reg unless trusted_peer
    http-request del-header '{EXTENSIONS}' -m reg unless trusted_peer
    http-request add-header Forwarded for=%[src] if {{ req.hdr_cnt(forwarded) gt 0 }} {{ src 0.0.0.0/0 }}
    http-request add-header Forwarded 'for=\"[%[src]]\"' if {{ req.hdr_cnt(forwarded) gt 0 }} !{{ src 0.0.0.0/0 }}
"
    )
}

/// Every `X-Forwarded-*` but `X-Forwarded-For`.
const EXTENSIONS: &str = "^x-forwarded-([^f]|f([^o]|$)|fo([^r]|$)|for.)";

/// A list of networks, in as many lines as it needs.
pub(crate) fn acl(name: &str, sample: &str, networks: &Networks) -> String {
    let networks: Vec<_> = networks.iter().collect();
    let line = |networks: &[String]| format!("    acl {name} {sample} -m ip {}\n", networks.join(" "));
    networks.chunks(WORDS).map(line).collect()
}
