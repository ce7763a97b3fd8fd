//! Which service gets a request: every row of the key reference, and every step of precedence.

use pointsman_table::{Imagined, TooLong, compile};

use crate::{answer, changes, compiled, compiled_for_haproxy, key_set, limits, problem_lines};

fn check(keys: &str, rows: &[(&str, &str)]) {
    let compiled = compiled(keys);
    for (request, expected) in rows {
        let found = answer(&compiled.table, request);
        assert!(found.contains(expected), "{request}: {found} is not {expected}\n{keys}\n{:#?}", compiled.problems);
    }
}

#[test]
fn hosts() {
    check(
        "services/shop/domain = shop.test, Www.Shop.test:80,shop.test.
         services/shop/virtual_hosts = m.shop.test
         services/six/domain = [::1]
         services/four/domain = 10.0.0.1
         services/under/domain = my_host",
        &[
            ("GET shop.test/", "service=shop strip=0 rule=host shop.test, any path, priority 0"),
            ("GET SHOP.Test./", "service=shop"),
            ("GET shop.test:8080/x", "service=shop"),
            ("GET www.shop.test/", "service=shop"),
            ("GET m.shop.test/", "service=shop strip=0 rule=host m.shop.test"),
            ("GET shop.test../", "none"),
            ("GET x.shop.test/", "none"),
            ("GET shop.tes/", "none"),
            ("GET /", "none"),
            ("GET shop.test*", "service=shop"),
            ("GET [::1]:80/", "service=six"),
            ("GET 10.0.0.1:81/", "service=four"),
            ("GET MY_HOST/", "service=under"),
        ],
    );
}

#[test]
fn wildcards() {
    check(
        "services/a/domain = *.example.org
         services/b/domain = *.b.example.org
         services/c/domain = c.b.example.org
         services/t/domain = *.org",
        &[
            ("GET example.org/", "service=t strip=0 rule=host *.org"),
            ("GET x.example.org/", "service=a strip=0 rule=host *.example.org"),
            ("GET b.example.org/", "service=a"),
            ("GET x.y.b.example.org/", "service=b"),
            ("GET c.b.example.org/", "service=c"),
            ("GET d.c.b.example.org/", "service=b"),
            ("GET .example.org/", "service=t"),
            ("GET org/", "none"),
        ],
    );
}

#[test]
fn url_beg_is_a_plain_prefix() {
    check(
        "services/api/url_beg = /api, /v2?x",
        &[
            ("GET a.test/api", "service=api strip=0 rule=any host, url_beg /api, priority 0"),
            ("GET a.test/apix/y", "service=api"),
            ("GET a.test/api?q", "service=api"),
            ("GET a.test/v2?x=1", "service=api strip=0 rule=any host, url_beg /v2?x"),
            ("GET a.test/v2", "none"),
            ("GET a.test/API", "none"),
            ("GET a.test/ap", "none"),
            ("GET a.test*", "none"),
        ],
    );
}

#[test]
fn virtual_path_is_taken_off() {
    check(
        "services/api/virtual_path = /api
         services/slash/virtual_path = /slash/
         services/kept/virtual_path = /kept
         services/kept/keep_virtual_path = true
         services/root/virtual_path = /",
        &[
            ("GET /api/x", "service=api strip=4 rule=any host, virtual_path /api"),
            ("GET /api", "strip=4"),
            ("GET /api?q", "strip=4"),
            ("GET /apix", "service=api strip=4"),
            ("GET /slash/x", "service=slash strip=7"),
            ("GET /slash", "service=root strip=0"),
            ("GET /kept/x", "service=kept strip=0"),
            ("GET /", "service=root strip=0"),
        ],
    );
}

#[test]
fn path_matches_whole_segments() {
    check(
        "services/api/path = /api
         services/deep/path = /api/v1/
         services/all/path = /
         services/all/domain = all.test",
        &[
            ("GET /api", "service=api strip=0 rule=any host, path /api"),
            ("GET /api/", "service=api"),
            ("GET /api?x", "service=api"),
            ("GET /api/v1", "service=deep strip=0 rule=any host, path /api/v1,"),
            ("GET /api/v1/x", "service=deep"),
            ("GET /api/v10", "service=api"),
            ("GET /apix", "none"),
            ("GET all.test/x", "service=all"),
        ],
    );
}

#[test]
fn url_reg_searches_path_and_query() {
    check(
        "services/a/url_reg = ^/app[0-9]+/
         services/b/url_reg = id=7$
         services/c/url_reg = ^/ä",
        &[
            ("GET /app12/x", "service=a strip=0 rule=any host, url_reg ^/app[0-9]+/"),
            ("GET /APP12/", "service=a"),
            ("GET /x/app12/", "none"),
            ("GET /x?id=7", "service=b"),
            ("GET /x?ID=7", "service=b"),
            ("GET /x?id=77", "none"),
            ("GET /ä", "service=c"),
        ],
    );
}

#[test]
fn host_and_path_must_both_match() {
    check(
        "services/a/domain = a.test
         services/a/url_beg = /x
         services/b/domain = b.test
         services/b/url_beg = /x
         services/b/match = any
         services/c/domain = c.test
         services/c/url_reg = ^/c[0-9]
         services/c/match = all",
        &[
            ("GET a.test/x", "service=a strip=0 rule=host a.test, url_beg /x"),
            ("GET a.test/y", "none"),
            ("GET other.test/x", "service=b strip=0 rule=any host, url_beg /x"),
            ("GET b.test/y", "service=b strip=0 rule=host b.test, any path"),
            ("GET b.test/x", "service=b strip=0 rule=host b.test, url_beg /x"),
            ("GET c.test/c1", "service=c"),
            ("GET c.test/d1", "none"),
            ("GET d.test/c1", "none"),
        ],
    );
}

#[test]
fn priority_goes_first_across_everything() {
    check(
        "services/exact/domain = a.test
         services/wild/domain = *.test
         services/wild/priority = 1
         services/any/url_beg = /p
         services/any/priority = 2
         services/reg/url_reg = ^/pq
         services/reg/priority = 3
         services/low/domain = low.test
         services/low/priority = -1
         services/lower/path = /
         services/lower/priority = -2",
        &[
            ("GET a.test/", "service=wild"),
            ("GET a.test/p", "service=any"),
            ("GET a.test/pq", "service=reg"),
            ("GET low.test/", "service=wild"),
            ("GET nope/", "service=lower"),
            ("GET nope/p", "service=any"),
        ],
    );
}

#[test]
fn then_host_then_path_then_name() {
    check(
        "services/none/url_beg = /long/prefix
         services/wild/domain = *.test
         services/wild/url_beg = /long
         services/exact/domain = a.test
         services/p1/domain = p.test
         services/p1/url_beg = /a
         services/p2/domain = p.test
         services/p2/path = /a/b
         services/p3/domain = p.test
         services/p3/url_reg = .
         services/p4/domain = p.test
         services/z/url_reg = ^/same
         services/y/url_reg = ^/same|^/other",
        &[
            ("GET a.test/long/prefix", "service=exact"),
            ("GET b.test/long/prefix", "service=wild"),
            ("GET b.org/long/prefix", "service=none"),
            ("GET p.test/a/b", "service=p2"),
            ("GET p.test/a/bc", "service=p1"),
            ("GET p.test/c", "service=p3"),
            ("GET nope/same", "service=y"),
        ],
    );
}

#[test]
fn of_the_same_rule_an_empty_service_gives_way() {
    check(
        "services/api/domain = shop.test
         services/shop/domain = shop.test
         services/shop/i = 10.0.0.1:80
         services/api-2/domain = shop.test, *.w.test
         services/api-2/path = /cart, /a
         services/shop-2/domain = shop.test, *.w.test
         services/shop-2/virtual_path = /cart
         services/shop-2/path = /a/b
         services/shop-2/i = 10.0.0.1:80
         services/e1/url_reg = ^/reg
         services/e2/url_reg = ^/re
         services/e3/url_reg = ^/reg
         services/e3/i = 10.0.0.1:80
         services/d1/default = true
         services/d2/default = true
         services/d2/i = 10.0.0.1:80",
        &[
            ("GET shop.test/", "service=shop"),
            ("GET shop.test/cart", "service=shop-2"),
            ("GET x.w.test/cart", "service=shop-2"),
            // Empty, and more specific than what others have.
            ("GET shop.test/a", "service=api-2"),
            ("GET shop.test/a/b", "service=shop-2"),
            // Different expressions go by name; of the same one, the service with instances stands for all.
            ("GET a.test/reg", "service=e2"),
            ("GET a.test/none", "service=d2"),
        ],
    );
}

#[test]
fn an_instance_more_changes_whose_turn_it_is() {
    let keys = "services/api/domain = shop.test\nservices/shop/domain = shop.test\nservices/shop/i = 10.0.0.1:80";
    let mut key_set = key_set(keys);
    let mut compiled = compile(&key_set, None, &limits());
    for (change, winner, problem) in [
        (
            "services/none/domain = none.test",
            "service=shop",
            "api/domain = \"shop.test\": shadowed: service shop has the same rule and, unlike this one, instances, and goes first",
        ),
        (
            "services/api/i = 10.0.0.2:80",
            "service=api",
            "shop/domain = \"shop.test\": shadowed: service api has the same rule and goes first",
        ),
        ("- services/shop/i", "service=api", "shop/domain"),
        ("- services/api/i", "service=api", "shop/domain"),
        ("services/shop/i = 10.0.0.1:80", "service=shop", "api/domain"),
        // It leads back to us, so it is none.
        ("services/shop/i = 127.0.0.1:80", "service=api", "shop/domain"),
    ] {
        key_set.apply(2, changes(change));
        compiled = compile(&key_set, Some(&compiled.table), &limits());
        let answer = answer(&compiled.table, "GET shop.test/");
        assert!(answer.starts_with(winner), "{change}: {answer}");
        let lines = problem_lines(&compiled);
        assert!(lines.iter().any(|line| line.contains(problem)), "{change}: {lines:#?}");
    }
}

#[test]
fn no_request_is_held_up_by_expressions() {
    // No literal that all matches contain: each of them is looked for in every target.
    let services =
        |count: u32| (0..count).map(|n| format!("services/s{n}/url_reg = [0-9]q$|n{n}z\n")).collect::<String>();
    let longest = format!("/{}", "a".repeat(32 * 1024));
    let many = compiled(&services(1000)).table;
    assert_eq!(many.find("a.test", &longest, &Imagined::default()), Err(TooLong));
    assert!(many.explain("a.test", &longest, &Imagined::default()).too_long);
    assert_eq!(
        answer(&many, "GET a.test/n999z"),
        "service=s999 strip=0 rule=any host, url_reg [0-9]q$|n999z, priority 0"
    );
    assert_eq!(many.find("a.test", &longest[..200], &Imagined::default()), Ok(None));
    assert_eq!(compiled(&services(30)).table.find("a.test", &longest, &Imagined::default()), Ok(None));
}

#[test]
fn default_takes_the_rest() {
    check(
        "services/rest/default = true
         services/shop/domain = shop.test
         services/second/default = true
         services/second/domain = second.test
         services/second/priority = 9",
        &[
            ("GET shop.test/", "service=shop"),
            ("GET else.test/", "service=rest strip=0 rule=default"),
            ("GET *", "service=rest"),
            ("GET second.test/", "service=second"),
        ],
    );
}

#[test]
fn the_image_and_its_kin() {
    check(
        "services/myapp/domain = example.org
         services/myapp/port = 80
         services/ghost/ghost-1 = 10.0.0.1:2368
         services/kontena/virtual_hosts = k.test
         services/kontena/virtual_path = /k
         services/kontena/upstreams/k-1 = 10.0.0.2:80
         services/ancestor/url_reg = ^/old/
         services/ancestor/upstreams/one = 10.0.0.3:80",
        &[
            ("GET example.org/", "service=myapp"),
            ("GET k.test/k/x", "service=kontena strip=2"),
            ("GET k.test/x", "none"),
            ("GET /old/x", "service=ancestor"),
            ("GET ghost/", "none"),
        ],
    );
}

#[test]
fn explains_who_lost_and_why() {
    let compiled = compiled(
        "services/best/domain = a.test
         services/best/priority = 1
         services/best-2/domain = a.test
         services/best-2/priority = 1
         services/best-2/i = 10.0.0.1:80
         services/exact/domain = a.test
         services/exact/url_beg = /x
         services/regex/domain = a.test
         services/regex/url_reg = x
         services/regex2/domain = a.test
         services/regex2/url_reg = /x
         services/short/domain = a.test
         services/short/path = /
         services/wild/domain = *.test
         services/rest/default = true",
    );
    let explanation = compiled.table.explain("A.test:80", "/x", &Imagined::default());
    let lost: Vec<_> = explanation.passed_over.iter().map(|v| format!("{}: {}", v.service, v.reason)).collect();
    assert_eq!(explanation.chosen.unwrap().service.as_str(), "best-2");
    assert_eq!(
        lost,
        [
            "best: best-2 has the same rule and instances, and this service has no instance",
            "exact: its priority 0 is lower than 1",
            "short: its prefix is shorter",
            "regex: a prefix goes before an expression",
            "regex2: the name regex comes first",
            "wild: its host rule is less specific than that of regex2",
            "rest: the default takes only what no other service takes",
        ]
    );
}

#[test]
fn explains_who_takes_a_connection() {
    let compiled = compiled_for_haproxy(
        "tcp-services/a/port = 5432\ntcp-services/a/i = 10.0.0.1\n\
         tcp-services/b/port = 5432\ntcp-services/b/sni = b.test\ntcp-services/b/i = 10.0.0.1\n\
         tcp-services/c/port = 5432\ntcp-services/c/sni = *.test\ntcp-services/c/i = 10.0.0.1\n\
         tcp-services/d/port = 5432\ntcp-services/d/i = 10.0.0.1\n\
         tcp-services/e/port = 10.0.0.9:7000\ntcp-services/e/i = 10.0.0.1\n\
         tcp-services/f/port = 5432, x\ntcp-services/g/port = 1\ntcp-services/g/balance = x",
    );
    let check = |host: &str, port: u16, chosen: &str, passed_over: &str| {
        let explanation = compiled.table.explain_tcp(host, port);
        let name = |verdict: &pointsman_table::Verdict| verdict.service.to_string();
        assert_eq!(explanation.chosen.as_ref().map(name).unwrap_or_default(), chosen, "{host}:{port}");
        assert_eq!(explanation.passed_over.iter().map(name).collect::<String>(), passed_over, "{host}:{port}");
        explanation.withheld.iter().map(|withheld| withheld.service.to_string()).collect::<String>()
    };
    assert_eq!(check("10.0.0.7", 5432, "a", "bcd"), "f");
    check("B.test.", 5432, "b", "cad");
    check("x.test", 5432, "c", "abd");
    check("test", 5432, "a", "bcd");
    check("10.0.0.9", 7000, "e", "");
    check("10.0.0.8", 7000, "", "");
    assert_eq!(check("e.test", 7000, "e", ""), "");
    assert_eq!(check("e.test", 1, "", ""), "g");
}

#[test]
fn explains_who_is_not_served() {
    let compiled = compiled(
        "services/a/domain = a.test\nservices/a/port = x\nservices/b/domain = *.test\nservices/b/port = x\n\
         services/c/domain = c.test, not a host!\nservices/d/domain = a.test\nservices/d/path = /d\n\
         services/d/basic_auth_secrets = user a password b",
    );
    let check = |host: &str, target: &str, expected: &str| {
        let withheld = compiled.table.explain(host, target, &Imagined::default()).withheld;
        assert!(withheld.iter().all(|one| !one.problems.is_empty()));
        assert_eq!(withheld.iter().map(|one| one.service.to_string()).collect::<String>(), expected, "{host}{target}");
    };
    check("a.test", "/", "ab");
    check("a.test", "/d", "abd");
    check("c.test", "/", "bc");
    check("other.example", "/", "");
}
