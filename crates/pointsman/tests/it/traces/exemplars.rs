//! Exemplars: metrics that name traces, in OpenMetrics as Prometheus' own parser reads it.

use super::{CALLER, TRACE, Traced, parent};
use crate::harness::{Backend, finish, free_address, python, wait};

/// Prints the type of the page, how many families there are, and the exemplars of a service's latencies.
const SCRIPT: &str = "
import sys, urllib.request
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
request = urllib.request.Request(sys.argv[1], headers={'Accept': sys.argv[2]})
with urllib.request.urlopen(request) as answer: kind, text = answer.headers['Content-Type'], answer.read().decode()
print(kind)
if 'openmetrics' in kind:
    families = {family.name: family for family in parse(text)}
    assert families['pointsman_requests'].type == 'counter', families
    for sample in families['pointsman_request_duration_seconds'].samples:
        if sample.exemplar:
            le, took = float(sample.labels['le']), sample.exemplar.value
            assert 0 < took <= le and sample.value > 0 and float(sample.exemplar.timestamp) > 1e9, sample
            print(sample.labels['service'], sample.exemplar.labels['trace_id'], sample.exemplar.labels['span_id'])
";

const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

fn page(traced: &Traced, accept: &str) -> String {
    let url = format!("http://{}/metrics", traced.running.admin);
    finish(python().args(["-c", SCRIPT, &url, accept])).ok().trim().to_owned()
}

#[test]
fn latencies_name_traces_that_the_collector_has() {
    let backend = Backend::naming("one");
    let keys = [("services/a/one", &*backend.instance())];
    let traced = Traced::new(&keys, &["--otlp-sample", "0", "--metrics-exemplars", "on"]);
    traced.ask("/unrecorded", "");
    assert_eq!(page(&traced, PROMETHEUS), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(page(&traced, "*/*"), TEXT);
    traced.ask("/recorded", &parent(TRACE, CALLER, "01"));
    let span = traced.collector.trace(TRACE, 2).swap_remove(0).id;
    wait("the exemplar", || page(&traced, PROMETHEUS).ends_with(&format!("\na {TRACE} {span}")));
    // One that no instance took is in no bucket.
    traced.site.put("services/b/domain", "b.test");
    traced.site.put("services/b/one", free_address().to_string());
    traced.running.wait_answer("b.test", "/", 502, "");
    let mut client = traced.running.connect();
    let other = parent("1bf92f3577b34da6a3ce929d0e0e4736", CALLER, "01");
    client.send(format!("GET / HTTP/1.1\r\nHost: b.test\r\n{other}\r\n")).expect("open");
    client.response("GET").expect("an answer");
    traced.collector.trace("1bf92f3577b34da6a3ce929d0e0e4736", 2);
    assert_eq!(page(&traced, PROMETHEUS).lines().count(), 2);
}

#[test]
fn they_must_be_asked_for() {
    let backend = Backend::naming("one");
    let traced = Traced::new(&[("services/a/one", &backend.instance())], &["--otlp-sample", "1"]);
    traced.ask("/", "");
    assert_eq!(page(&traced, PROMETHEUS), TEXT);
}
