//! The page at `/` of `--admin`: in a real browser, and what keeps it from costing more than it should.

use std::io::Read;

use socket2::SockRef;

use crate::harness::{
    Backend, Connection, Engine, Launch, Pointsman, Site, engine, free_address, get, get_ok, in_chromium, wait,
};

/// As many pages as there may be.
const MOST_PAGES: usize = 24;

/// A service that is well and asked twenty times, one that is down, and one with this bad port.
pub(crate) fn hurting(port: &str) -> (Site, Pointsman, Backend) {
    let (backend, dead) = (Backend::naming("one"), free_address());
    let site = Site::with(&[
        ("services/shop/domain", "shop.test"),
        ("services/shop/one", &*backend.instance()),
        ("services/api/domain", "api.test"),
        ("services/api/lost", &dead.to_string()),
        ("services/api/health_check", "tcp"),
        ("services/mail/domain", "mail.test"),
        ("services/mail/one", &*backend.instance()),
    ]);
    let running = Pointsman::serving(&site);
    site.put("services/mail/port", port);
    for _ in 0..20 {
        get_ok(running.http, "shop.test", "/");
    }
    (site, running, backend)
}

#[test]
fn the_page_shows_what_is_wrong_and_what_changes() {
    let (site, running, _backend) = hurting("80x");
    let script = format!(
        r#"
        await page.open('http://{}/')
        await page.shows('services/mail/port')
        await page.shows('80x')
        await page.until("document.querySelector('.attention').innerText.includes('lost')")
        await page.until("document.querySelectorAll('.row').length === 3")
        await page.until("document.querySelectorAll('.uplot canvas').length === 3")
        const size = await page.value("performance.getEntriesByType('resource').filter(one => one.name.includes('/page/')).reduce((sum, one) => sum + one.decodedBodySize, 0)")
        if (!(size > 50000 && size < 150000)) throw new Error('the page has ' + size)
        await page.press('/')
        await page.until("document.activeElement.id === 'filter'")
        await page.type('127.0.0.1 api')
        await page.until("document.querySelectorAll('.row').length === 1 && document.querySelector('.row').innerText.includes('api')")
        await page.press('Escape')
        await page.until("document.querySelectorAll('.row').length === 3")
        say('asks for changes')
        await page.until("document.querySelector('.changes').innerText.includes('services/shop/timeout/server')")
        await page.until("document.querySelector('.changes').innerText.includes('served after')")
        await page.shows('hidden')
        if (await page.value("document.documentElement.outerHTML.includes('swordfish')")) throw new Error('a secret is shown')
        await page.press('j')
        await page.until("document.querySelector('.row.picked').innerText.includes('api')")
        await page.press('Enter')
        await page.until("location.hash === '#/service/http/api'")
        await page.until("document.querySelector('td.state').innerText.includes('down')")
        await page.press('Escape')
        await page.until("document.querySelectorAll('.row').length === 3")
        const ground = "getComputedStyle(document.body).backgroundColor"
        const light = await page.value(ground)
        await page.theme(true)
        await page.until(ground + " !== '" + light + "'")
        await page.press('t')
        await page.until(ground + " === '" + light + "'")
        await page.press('?')
        await page.shows('filter services')
        await page.press('Escape')
        for (const view of ['changes', 'certificates', 'fleet']) {{
          await page.value("location.hash = '#/" + view + "'")
          await page.until("document.querySelector('nav [aria-current]').hash === '#/" + view + "'")
        }}
        await page.shows('this one')
        if (complaints.length) throw new Error(complaints.join('\n'))
        "#,
        running.admin
    );
    let mut script = in_chromium(&script, &site.home().join("browser"));
    script.wait_log("asks for changes");
    site.put("services/shop/timeout/server", "7s");
    site.put("services/shop/basic_auth_secret", "user insecure-password swordfish");
    script.wait_log("done");
    let changes = running.admin_page("/api/changes");
    assert!(changes.contains("services/shop/timeout/server") && !changes.contains("swordfish"), "{changes}");
}

#[test]
fn ten_thousand_services_are_few_elements_and_a_page_that_does_not_read_is_dropped() {
    const COUNT: usize = 10_000;
    let site = Site::new();
    for number in 0..COUNT {
        site.put(&format!("services/s{number:05}/domain"), format!("s{number:05}.test"));
        site.put(&format!("services/s{number:05}/one"), "127.0.0.1:9");
    }
    // The same page with either engine; HAProxy needs a while for so many services.
    let running = Launch::engine(Engine::Native).store(&site).start();
    running.wait_ready();
    let mut deaf = Connection::open(running.admin);
    SockRef::from(deaf.stream()).set_recv_buffer_size(4096).expect("open");
    deaf.send("GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
    wait("the page to be open", || running.metric("pointsman_pages_open", &[]) == 1.0);
    wait("the page to be dropped", || running.metric("pointsman_pages_open", &[]) == 0.0);
    let script = format!(
        r#"
        await page.open('http://{}/')
        await page.until("document.querySelector('.rows')?.getAttribute('aria-rowcount') === '{COUNT}'")
        const few = async name => {{
          await page.until("[...document.querySelectorAll('.row')].some(row => row.innerText.includes('" + name + "'))")
          const count = await page.value("document.querySelectorAll('*').length")
          if (count > 1500) throw new Error(name + ': ' + count + ' elements')
        }}
        await few('s00000')
        await page.value("scrollTo(0, document.body.scrollHeight / 2)")
        await few('s05000')
        await page.value("scrollTo(0, document.body.scrollHeight)")
        await few('s09999')
        await page.press('/')
        await page.until("document.activeElement.id === 'filter'")
        await page.type('s07777')
        await page.until("document.querySelector('.rows').getAttribute('aria-rowcount') === '1'")
        await page.press('Enter')
        await page.until("location.hash === '#/service/http/s07777'")
        if (complaints.length) throw new Error(complaints.join('\n'))
        "#,
        running.admin
    );
    in_chromium(&script, &site.home().join("browser")).wait_log("done");
}

#[test]
fn the_page_says_that_store_or_balancer_are_away_and_comes_back() {
    let site = Site::with(&[("services/a/domain", "a.test"), ("services/a/one", "127.0.0.1:9")]);
    let admin = free_address();
    let start = || {
        let (admin, engine) = (admin.to_string(), engine().name());
        let arguments = ["--http", "127.0.0.1:0", "--admin", &admin, "--engine", engine];
        let running = Launch::bare().args(&arguments).store(&site).start();
        running.wait_ready();
        running
    };
    let mut running = start();
    let script = format!(
        r#"
        await page.open('http://{admin}/', {{ width: 390, height: 800, dark: true }})
        await page.until("document.querySelectorAll('.row').length === 1")
        if (await page.value("document.documentElement.scrollWidth > 390")) throw new Error('wider than a phone')
        say('asks for no store')
        await page.shows('The store is lost since')
        say('asks for the store')
        await page.lacks('The store is lost since')
        say('asks for no balancer')
        await page.shows('The balancer does not answer this page.')
        say('asks for the balancer')
        await page.lacks('The balancer does not answer this page.')
        await page.until("document.querySelectorAll('.row').length === 1")
        "#
    );
    let mut script = in_chromium(&script, &site.home().join("browser"));
    script.wait_log("asks for no store");
    let (keys, aside) = (site.folder(), site.home().join("aside"));
    std::fs::rename(&keys, &aside).expect("the same file system");
    script.wait_log("asks for the store");
    std::fs::rename(&aside, &keys).expect("the same file system");
    script.wait_log("asks for no balancer");
    running.end();
    script.wait_log("asks for the balancer");
    let _running = start();
    script.wait_log("done");
}

/// A stream that was asked for, and the beginning of its answer.
#[track_caller]
fn open_page(running: &Pointsman) -> (Connection, String) {
    let mut connection = Connection::open(running.admin);
    connection.send("GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("open");
    let mut text = [0; 4096];
    let length = connection.stream().read(&mut text).expect("an answer");
    (connection, String::from_utf8_lossy(&text[..length]).into_owned())
}

#[test]
fn more_pages_than_there_may_be_are_refused_clearly() {
    let site = Site::new();
    let running = Pointsman::serving(&site);
    let mut pages: Vec<_> = (0..MOST_PAGES).map(|_| open_page(&running)).collect();
    assert!(pages.iter().all(|(_, answer)| answer.starts_with("HTTP/1.1 200 ")), "{}", pages[MOST_PAGES - 1].1);
    for _ in 0..1000 {
        let (_, refusal) = open_page(&running);
        assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("24 pages of this balancer"), "{refusal}");
    }
    let silent: Vec<_> = (0..100).map(|_| Connection::open(running.admin)).collect();
    assert_eq!(get(running.admin, "localhost", "/healthz").expect("an answer").status, 200);
    assert_eq!(running.metric("pointsman_pages_open", &[]), 24.0, "silent connections cost no page");
    assert_eq!(running.metric("pointsman_pages_refused_total", &[]), 1000.0);
    drop((pages.pop(), silent));
    wait("a free place", || open_page(&running).1.starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_page_is_for_browsers_and_the_list_for_programs() {
    let running = Pointsman::serving(&Site::new());
    let mut connection = Connection::open(running.admin);
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n";
    connection.send(request).expect("open");
    let mut answer = String::new();
    connection.stream().read_to_string(&mut answer).expect("text");
    assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'"));
    assert!(answer.contains("<!doctype html>") && !answer.contains("style=") && !answer.contains("onclick"));
    assert!(running.admin_page("/").contains("/api/changes"));
    let service = running.admin_page("/api/history");
    assert!(service.contains(if engine().differs("no-histogram") { "\"step\":10" } else { "\"step\":5" }), "{service}");
}
