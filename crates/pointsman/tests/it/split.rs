//! Services that share their requests with others: by chance, by client, by header and by cookie; sides that are missing,
//! empty or ask for more.

use crate::harness::{Authority, Backend, Connection, Engine, Pointsman, Site, engine, get_ok, run, wait};

const HOST: &str = "shop.test";

/// A shop and its canary, which no rule leads to.
fn split(keys: &[(&str, &str)]) -> (Site, Pointsman, [Backend; 2]) {
    let backends = ["shop", "canary"].map(Backend::naming);
    let [shop, canary] = backends.each_ref().map(Backend::instance);
    let site =
        Site::with(&[("services/shop/domain", HOST), ("services/shop/a", &shop), ("services/canary/a", &canary)]);
    keys.iter().for_each(|(key, value)| site.put(key, value));
    let running = Pointsman::serving(&site);
    running.wait_ready();
    (site, running, backends)
}

/// Who answers a request with these fields. On a connection of its own: reloads of HAProxy close connections.
#[track_caller]
fn with(running: &Pointsman, fields: &str) -> String {
    on(&mut running.connect(), fields)
}

#[track_caller]
fn on(connection: &mut Connection, fields: &str) -> String {
    connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).expect("open");
    connection.response("GET").expect("an answer").header("x-backend").expect("its name").to_owned()
}

/// How many of so many requests the canary answers.
#[track_caller]
fn share(running: &Pointsman, requests: usize) -> usize {
    (0..requests).filter(|_| with(running, "") == "canary").count()
}

#[test]
fn a_share_of_the_requests_goes_to_another_service() {
    let (site, running, _backends) = split(&[("services/shop/split/canary", "25%")]);
    let taken = share(&running, 1_000);
    // Six standard deviations.
    assert!((168..=332).contains(&taken), "{taken} of 1,000 at 25 %");
    let shown = run(&["explain", &format!("http://{HOST}/"), "--admin", &running.admin.to_string()]);
    assert!(shown.stdout.contains("25% goes to canary"), "{}", shown.stdout);
    site.put("services/shop/split/canary", "100%");
    wait("all to the canary", || share(&running, 20) == 20);
    site.put("services/shop/split/canary", "1");
    site.put("services/shop/split/shop", "1");
    wait("half of them", || (1..20).contains(&share(&running, 20)));
    site.remove("services/shop/split/canary");
    running.wait_problem("no_rule", &["services/canary"]);
    wait("none to the canary", || share(&running, 20) == 0);
}

#[test]
fn who_is_on_a_side_stays_there() {
    let (site, running, _backends) =
        split(&[("services/shop/split/canary", "30%"), ("services/shop/split_by", "header:X-User")]);
    let sides = |share: &str| {
        let users = (0..200).map(|user| with(&running, &format!("X-User: {user}\r\n")) == "canary");
        let sides: Vec<bool> = users.collect();
        let canary = sides.iter().filter(|side| **side).count();
        (sides, canary, share.to_owned())
    };
    let (before, canary, _) = sides("30%");
    assert!((30..90).contains(&canary), "{canary} of 200 users at 30 %");
    assert_eq!(sides("30%").0, before, "each stays on its side");
    site.put("services/shop/split/canary", "50%");
    wait("the greater share", || sides("50%").1 > canary);
    let (after, ..) = sides("50%");
    assert!(before.iter().zip(&after).all(|(before, after)| *after >= *before), "nobody goes back");
    site.put("services/shop/split_by", "client");
    wait("one client on one side", || [0, 20].contains(&share(&running, 20)));
}

#[test]
fn a_header_or_cookie_names_its_side() {
    let (site, running, _backends) =
        split(&[("services/shop/split/canary", "50%"), ("services/shop/split_by", "header:X-Side")]);
    for side in ["canary", "shop"] {
        assert!((0..30).all(|_| with(&running, &format!("x-side: {side}\r\n")) == side), "{side}");
    }
    site.put("services/shop/split_by", "cookie:side");
    wait("the cookie", || (0..30).all(|_| with(&running, "Cookie: a=b; side=canary; c=d\r\n") == "canary"));
    assert!((0..30).all(|_| with(&running, "Cookie: xside=canary; side=shop\r\n") == "shop"));
    let mixed: Vec<_> = (0..60).map(|_| with(&running, "Cookie: sideways=canary\r\n")).collect();
    assert!(mixed.iter().any(|side| side == "shop") && mixed.iter().any(|side| side == "canary"), "chance: {mixed:?}");
}

#[test]
fn a_side_that_cannot_take_its_share_leaves_it() {
    let (site, running, [_shop, canary]) = split(&[("services/shop/split/green", "100%")]);
    running.wait_problem("no_target", &["services/shop/split/green", "there is no service green"]);
    running.wait_problem("no_rule", &["services/canary"]);
    running.wait_backend(HOST, "/", "shop");
    site.put("services/green/port", "8080");
    wait("a service green", || !running.admin_page("/api/problems").contains("no_target"));
    assert_eq!(get_ok(running.http, HOST, "/").header("x-backend"), Some("shop"), "green has no instances yet");
    site.put("services/green/a", canary.instance());
    running.wait_backend(HOST, "/", "canary");
    site.put("services/green/a", format!("{} drain", canary.instance()));
    running.wait_backend(HOST, "/", "shop");
    site.put("services/green/a", canary.instance());
    running.wait_backend(HOST, "/", "canary");
    let authority = Authority::new();
    authority.issue("client", "DNS:client.test");
    site.put("services/green/client_ca", authority.pem());
    running.wait_problem("no_target", &["services/shop/split/green", "client certificates"]);
    running.wait_backend(HOST, "/", "shop");
}

#[test]
fn the_rules_of_the_service_that_was_reached_hold() {
    let rule = "request_headers";
    let (site, running, _backends) =
        split(&[("services/shop/split/canary", "100%"), ("services/canary/request_headers", "set X-A canary")]);
    if engine().differs("split") {
        running.wait_problem("unsupported", &["services/shop/split/canary", "100%", rule, "shop takes the share"]);
        assert_eq!(share(&running, 20), 0);
        site.put("services/shop/request_headers", "set X-A canary");
        wait("the canary", || share(&running, 5) == 5);
        assert!(!running.admin_page("/api/problems").contains(rule));
        site.put("services/shop/split_by", "header:X~Side");
        running.wait_problem("unsupported", &["services/shop/split_by", "header:X~Side", "letters, digits"]);
        wait("the shop", || share(&running, 5) == 0);
        return;
    }
    let answer = get_ok(running.http, HOST, "/");
    assert_eq!(
        (answer.header("x-backend"), answer.text().contains("X-A")),
        (Some("canary"), false),
        "{}",
        answer.text()
    );
}

#[test]
fn another_share_needs_no_reload() {
    if engine() == Engine::Native {
        return;
    }
    let (site, running, _backends) =
        split(&[("services/shop/split/canary", "100%"), ("services/shop/split_by", "header:X-Side")]);
    running.wait_backend(HOST, "/", "canary");
    let before = running.reloads();
    let mut kept = running.connect();
    assert_eq!(on(&mut kept, ""), "canary");
    for (number, share) in [("0.01%", "shop"), ("100%", "canary"), ("0.01%", "shop")] {
        site.put("services/shop/split/canary", number);
        wait(number, || on(&mut kept, "") == share);
    }
    assert_eq!(running.reloads(), before);
}
