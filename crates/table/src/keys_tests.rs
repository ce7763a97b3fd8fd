//! Which keys are settings, which are instances, and what was meant.

use super::*;

fn check(protocol: Protocol, key: &str, value: &str, expected: Part<'_>) {
    assert_eq!(classify(protocol, key, value.as_bytes()), expected, "{key} = {value:?}");
}

#[test]
fn secrets_are_known_by_name_and_by_value() {
    let pem = "-----BEGIN PRIVATE KEY-----\nx";
    for (key, value, expected) in [
        ("services/auth/domain", "auth.test", false),
        ("services/shop/basic_auth_secrets", "user a password b", true),
        ("services/shop/basic_aut_secretz", "x", true),
        ("services/shop/Basic_Auth", "x", true),
        ("basic_auth_secrets", "x", true),
        ("certs/shop", "x", true),
        ("tcp-services/db/tls_cert", "x", true),
        ("services/shop/tls_crt", "x", true),
        ("services/shop/tls_ca", "system", false),
        ("services/shop/forward_auth", "auth:/x", false),
        ("services/shop/forward_auth_ca", "system", false),
        ("other/certs/shop", pem, true),
        ("services/shop/custom_settings", "option httplog", false),
        ("services/shop/custom_settings", "stats auth ann:x", true),
        ("services/shop/custom_settings", "dynamic-cookie-key x", true),
        ("services/shop/custom_settings", "Stats Auth ann:x", true),
        ("services/shop/custom_settings", "http-request set-header Authorization Basic\\ x", true),
        ("services/shop/custom_settings", "http-request set-header X-Shop a", false),
        ("config/limit/headers", "12", false),
    ] {
        assert_eq!(is_secret(key, value), expected, "{key} = {value:?}");
    }
}

#[test]
fn first_words() {
    for (word, expected) in [
        ("servcies", Some("services")),
        ("service", Some("services")),
        ("Services", Some("services")),
        ("tcp_services", Some("tcp-services")),
        ("conf", Some("config")),
        ("cert", Some("certs")),
        ("skydns", None),
        ("", None),
    ] {
        assert_eq!(resembling_tree(word), expected, "{word}");
    }
}

#[test]
fn tells_settings_instances_and_slips_apart() {
    use Part::{Direct, Nothing, Setting, Unknown, Upstream};
    check(Protocol::Http, "domain", "a.test", Setting);
    check(Protocol::Http, "domain", " ", Nothing);
    check(Protocol::Http, "cookie", "", Setting);
    check(Protocol::Tcp, "cookie", "", Nothing);
    check(Protocol::Http, "web-1", "web.test:80", Direct("web-1"));
    check(Protocol::Http, "upstreams/port", "web.test:80", Upstream("port"));
    check(Protocol::Http, "upstreams/a/b", "10.0.0.1", Unknown(Some("upstreams/<instance>")));
    check(Protocol::Http, "virtual_host", "a.test", Unknown(Some("virtual_hosts")));
    check(Protocol::Http, "domains", "a.test", Unknown(Some("domain")));
    check(Protocol::Http, "dmoain", "a.test", Unknown(Some("domain")));
    check(Protocol::Http, "domains", "10.0.0.1:80", Direct("domains"));
    check(Protocol::Http, "domains", "[::1]:80 weight=2", Direct("domains"));
    check(Protocol::Http, "db1", "db.test:80", Direct("db1"));
    check(Protocol::Http, "prot", "8080", Unknown(Some("port")));
    check(Protocol::Tcp, "domain", "10.0.0.1:80", Unknown(None));
    check(Protocol::Http, "timeout/conect", "5s", Unknown(Some("timeout/connect")));
    check(Protocol::Http, "timeout", "5s", Unknown(None));
    check(Protocol::Http, "", "x", Unknown(None));
    check(Protocol::Http, "/port", "80", Unknown(Some("port")));
    check(Protocol::Http, "upstreams/", "", Nothing);
    let users = "user ann insecure-password x";
    for key in ["basic_auth", "basicauth", "Basic-Auth", "basic_auth_secret"] {
        check(Protocol::Http, key, users, Unknown(Some("basic_auth_secrets")));
        check(Protocol::Http, key, "10.0.0.1:80", Unknown(Some("basic_auth_secrets")));
    }
    check(Protocol::Http, "allow", "10.0.0.1", Setting);
    check(Protocol::Http, "allowlist", "10.0.0.1", Unknown(None));
    check(Protocol::Tcp, "client_ca", "x", Unknown(None));
    check(Protocol::Http, "check_uri", "/alive", Unknown(Some("health_check_uri")));
    check(Protocol::Http, "check_uri", "web.test:80", Direct("check_uri"));
    check(Protocol::Http, "connect", "5s", Unknown(Some("timeout/connect")));
    check(Protocol::Http, "timeout_connect", "5s", Unknown(Some("timeout/connect")));
    check(Protocol::Http, "port_number", "8080", Unknown(Some("port")));
    check(Protocol::Http, "upstream", "10.0.0.1 wieght=2", Direct("upstream"));
    check(Protocol::Http, "upstream", "a b", Unknown(Some("upstreams/<instance>")));
    check(Protocol::Http, "upstream/red", "10.0.0.1", Unknown(Some("upstreams/<instance>")));
    check(Protocol::Http, "port-123", "web/x", Direct("port-123"));
    check(Protocol::Http, "web", "a b", Direct("web"));
}

#[test]
fn an_instance_with_a_host_name_may_be_a_misspelt_key() {
    for (key, value, expected) in [
        ("services/a/domain_name", "shop.test", "did you mean domain? If this is an instance"),
        ("services/a/check_uri", "web.test", "did you mean health_check_uri?"),
        ("services/a/upstream", "web.test:80", "did you mean upstreams/<instance>?"),
        ("services/a/cookie-shop", "cookie-shop:80", ""),
        ("services/a/internal", "web.test", ""),
        ("services/a/domain_name", "10.0.0.1", ""),
        ("services/a/upstreams/domain_name", "shop.test", ""),
        ("services/a/web", "web.test", ""),
        ("config/timeout_x", "web.test", ""),
    ] {
        let said = doubt(key, value.as_bytes()).unwrap_or_default();
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{key}: {said}");
    }
}
