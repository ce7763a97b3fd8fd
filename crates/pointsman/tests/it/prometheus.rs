//! What we ship for Prometheus and Grafana, against Prometheus itself: promtool, and a server that scrapes a balancer.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{
    Backend, Pointsman, Process, Scripted, Site, certificate, echo_tcp, engine, epoch, finish, free_address, get,
    get_ok, wait_within,
};
use crate::tidy::{Expression, expressions};

/// A day, in seconds.
const DAY: i64 = 86_400;
/// What has no series in these minutes: HAProxy's own, and counters that begin with their first event.
const SILENT: &[&str] = &[
    "pointsman_haproxy_",
    "pointsman_access_log_dropped_total",
    "pointsman_compress_bytes_",
    "pointsman_rate_limited_total",
    "pointsman_retries_by_reason_total",
    "pointsman_shed_total",
    "pointsman_tls_handshakes_total",
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/prometheus"))
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_when_it_should() {
    let tool = |words: &[&str]| finish(Command::new("promtool").args(words).current_dir(folder()));
    let checked = tool(&["check", "rules", "pointsman.rules.yml"]).ok();
    assert!(checked.contains("SUCCESS"), "{checked}");
    let tested = tool(&["test", "rules", "pointsman.test.yml"]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.stdout, tested.stderr);
}

/// A balancer with a bit of everything, and its traffic.
fn busy() -> (Site, Pointsman, Backend) {
    let backend = Backend::naming("one");
    let site = Site::with(&[
        ("services/shop/domain", "shop.test"),
        ("services/shop/one", &*backend.instance()),
        ("services/shop/compress", "on"),
        ("services/api/domain", "api.test"),
        ("services/api/lost", &free_address().to_string()),
        ("services/api/health_check", "tcp"),
        ("services/fails/domain", "fails.test"),
        ("services/fails/one", &*Scripted::saying(500, "one").instance()),
        ("tcp-services/db/port", &free_address().port().to_string()),
        ("tcp-services/db/one", &echo_tcp("db").to_string()),
        ("services/mail/domain", "mail.test"),
        ("services/mail/port", "80x"),
        ("services/mail/one", &*backend.instance()),
        ("certs/shop", &*certificate("shop.test", epoch() - DAY, epoch() + 2 * DAY)),
    ]);
    // HAProxy has none of these, and no graphs of them.
    if !engine().differs("no-histogram") {
        for (key, value) in [("panic", "50%"), ("rate_limit", "1000/s"), ("limit/requests", "100")] {
            site.put(&format!("services/shop/{key}"), value);
        }
    }
    let running = Pointsman::serving(&site);
    (site, running, backend)
}

/// Prometheus, with our rules, scraping this balancer each second.
fn prometheus(site: &Site, admin: SocketAddr) -> (Process, SocketAddr) {
    let (home, address) = (site.home().join("prometheus"), free_address());
    fs::create_dir_all(&home).expect("our own folder");
    let rules = folder().join("pointsman.rules.yml");
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: \
         pointsman\n    static_configs: [{{ targets: [\"{admin}\"] }}]\n",
        rules.display()
    );
    let file = home.join("prometheus.yml");
    fs::write(&file, config).expect("our own folder");
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file.display())).arg(format!("--storage.tsdb.path={}", home.display()));
    command.arg(format!("--web.listen-address={address}"));
    (Process::start(&mut command), address)
}

#[track_caller]
fn ask(prometheus: SocketAddr, expression: &str) -> Result<usize, String> {
    let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer =
        get(prometheus, "localhost", &format!("/api/v1/query?query={escaped}")).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(&answer.text()).map_err(|error| error.to_string())?;
    match value["data"]["result"].as_array() {
        Some(series) => Ok(series.len()),
        None => Err(value["error"].as_str().unwrap_or("no result").to_owned()),
    }
}

#[test]
fn prometheus_answers_what_board_and_rules_ask() {
    let (site, running, _backend) = busy();
    let (mut process, address) = prometheus(&site, running.admin);
    wait_within("samples of traffic", std::time::Duration::from_secs(60), || {
        assert!(process.is_running(), "{}", process.log());
        get_ok(running.http, "shop.test", "/");
        // Its only instance is down, or answers 500.
        ["api.test", "fails.test"].iter().for_each(|host| drop(get(running.http, host, "/")));
        let rate = "sum(rate(pointsman_responses_total{code=\"5xx\", service=\"fails\"}[10s])) > 0";
        ask(address, rate).is_ok_and(|count| count > 0).then_some(())
    });
    let all = expressions();
    let mut complaints = Vec::new();
    for Expression { place, text, is_alert } in &all {
        match ask(address, &filled(text)) {
            Err(error) => complaints.push(format!("{place}: {error}: {text}")),
            Ok(0) if !is_alert && !may_be_silent(text) => complaints.push(format!("{place}: no series: {text}")),
            Ok(_) => {}
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(all.len() > 80, "{}", all.len());
    let rules = get(address, "localhost", "/api/v1/rules").expect("an answer").text();
    assert!(!rules.contains("\"health\":\"err\""), "{rules}");
    wait_within("alerts", std::time::Duration::from_secs(60), || {
        let names =
            ["PointsmanServiceDown", "PointsmanInstanceDown", "PointsmanProblem", "PointsmanCertificateExpiresSoon"];
        let has = |name: &&str| {
            ask(address, &format!("ALERTS{{alertname=\"{name}\", job=\"pointsman\"}}")).is_ok_and(|count| count > 0)
        };
        names.iter().all(has).then_some(())
    });
    assert_eq!(ask(address, "ALERTS{alertname=\"PointsmanServiceDown\", service=\"api\"}"), Ok(1));
}

/// The expression with the board's variables as Grafana would write them.
fn filled(text: &str) -> String {
    let words =
        [("$job", ".*"), ("$balancer", ".*"), ("$service", ".*"), ("$__rate_interval", "15s"), ("$__range", "1m")];
    words.iter().fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

fn may_be_silent(text: &str) -> bool {
    let by_engine = engine().differs("no-histogram") || text.contains(">");
    by_engine || SILENT.iter().any(|name| text.contains(name))
}
