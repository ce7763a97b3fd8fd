//! Rows: balances and slow starts in, lines of the configuration out.

use super::tests::{WEB, World, check};

#[test]
fn balances() {
    for (keys, expected) in [
        (&["services/web/balance = roundrobin"][..], &["!    balance "][..]),
        (&["services/web/balance = static-rr"], &["balance static-rr"]),
        (&["services/web/balance = leastconn"], &["balance leastconn"]),
        (&["services/web/balance = first"], &["balance first"]),
        (&["services/web/balance = source"], &["balance source", "hash-type consistent"]),
        (
            &["services/web/balance = source", "config/trusted_proxies = 10.0.0.0/8"],
            &["balance hash var(txn.client)", "hash-type consistent"],
        ),
        (&["services/web/balance = uri"], &["balance uri", "hash-type consistent"]),
        (&["services/web/balance = hdr(X-Us'er)"], &["balance hdr(X-Us\\'er)", "hash-type consistent"]),
        (&["services/web/balance = url_param(i#d)"], &["balance url_param i\\#d", "hash-type consistent"]),
        (&["services/web/balance = cookie(s#d)"], &["balance hash req.cook(s\\#d)", "hash-type consistent"]),
        (
            &["services/web/balance = uri", "services/web/bounded = 125%"],
            &["balance uri", "hash-type consistent", "hash-balance-factor 125"],
        ),
        (&["services/web/balance = uri", "services/web/bounded = 100%"], &["hash-balance-factor 101"]),
        (&["config/slow_start = 30s"], &["server a 10.0.0.1:80 HEALTH slowstart 30s"]),
        (&["config/slow_start = 30s", "services/web/slow_start = 9s"], &["server a 10.0.0.1:80 HEALTH slowstart 9s"]),
        (&["services/web/balance = random"], &["balance random(1)"]),
        (&["services/web/balance = p2c"], &["balance random(2)"]),
    ] {
        check(&World::of(&WEB).and(keys), expected);
    }
}
