//! Rows about active checks of instances.

use super::tests::{WEB, World, check};

#[test]
fn checks_of_instances() {
    let up = "services/web/health_check_uri = /up";
    let send = "http-check send meth GET uri /up ver HTTP/1.1 hdr Host shop.test";
    let usual = "server a 10.0.0.1:80 check inter 2s fastinter 500ms fall 3 rise 2";
    let own = |words: &str| format!("{usual} {words}");
    let http2 = "services/web/protocol = h2";
    for (keys, expected) in [
        (vec![up], vec!["option httpchk", send]),
        (vec![up], vec![usual]),
        (vec!["services/web/health_check_port = 81"], vec![&*own("port 81"), "!httpchk"]),
        (
            vec![
                "services/web/health_check = http",
                "services/web/health_check_method = HEAD",
                "services/web/health_check_host = x.test:8",
            ],
            vec!["option httpchk", "http-check send meth HEAD uri / ver HTTP/1.1 hdr Host x.test:8"],
        ),
        (
            vec![up, "services/web/health_check_expect = 200,300-304"],
            vec![send, "http-check expect status 200,300-304", "!rstring"],
        ),
        (
            vec![up, "services/web/health_check_expect = ~^all 'good'$"],
            vec![send, "http-check expect status 200-399", r"http-check expect rstring (?i)^all\ \'good\'$"],
        ),
        (
            vec!["services/web/health_check = tcp", "services/web/health_check_timeout = 2s"],
            vec!["timeout check 2s", "!httpchk"],
        ),
        (
            vec![
                "services/web/health_check = tcp",
                "config/health_check_interval = 10s",
                "config/health_check_rise = 1",
            ],
            vec!["server a 10.0.0.1:80 check inter 10s fastinter 2500ms fall 3 rise 1", "!httpchk"],
        ),
        (vec![http2, up], vec![&*own("check-proto h2 proto h2")]),
        (vec![http2, up, "services/web/health_check_port = 81"], vec![&*own("port 81 check-proto h1 proto h2")]),
        (vec![up, "services/web/health_check = off"], vec!["server a 10.0.0.1:80 HEALTH", "!httpchk"]),
    ] {
        check(&World::of(&WEB).and(&keys), &expected);
    }
}
