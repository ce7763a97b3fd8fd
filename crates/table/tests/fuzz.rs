//! The fuzz target of keys, for seconds: mutants of keys that mean something.

#[path = "../../../fuzz/src/keys.rs"]
mod keys;
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

const MUTANTS: usize = 2_000;
const SEEDS: &[&str] = &[
    "services/a/domain = a.test\nservices/a/port = 80\nservices/a/upstreams/i = 10.0.0.1:81 weight=3\n- services/a/port",
    "services/a/domain = *.a.test,b.test\nservices/a/url_beg = /a,/b\nservices/b/url_reg = ^/a[0-9]\nservices/b/priority = 2",
    "services/c/default = true\nservices/c/i = 127.0.0.1:80\nservices/c/timeout/connect = 5s\nservices/c/errors/503 = <p>",
    "tcp-services/d/external_port = 90\ntcp-services/d/i = [::1]:9 tls backup\ntcp-services/e/external_port = 90\n-r tcp-services",
    "config/limit/headers = 9\nconfig/timeout/drain = 1m\nconfig/x = y\ncerts/a = -----BEGIN CERTIFICATE-----",
    "services/s/cookie = c insert indirect\nservices/s/basic_auth_secrets = user u insecure-password p\nservices/s/balance = leastconn",
];

#[test]
fn keys() {
    let seeds: Vec<_> = SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    mutate::each(&seeds, MUTANTS, keys::run);
}
