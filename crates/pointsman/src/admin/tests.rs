//! Requests the pages through a real socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::logging::access::RequestsView;
use crate::tenure::Tenure;
use pointsman_engine::Phase;
use pointsman_engine::live::Registry;

async fn answer(status: Status, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_keep, status) = watch::channel(status);
    let figures = Figures::Native(Arc::new(Registry::new(1, &[])));
    let pages = Pages {
        status,
        figures,
        http: Arc::default(),
        source: SourceView::default(),
        hosts: Hosts::new(&["a".into()]),
        started: SystemTime::now(),
        log: LostLines::default(),
        requests: RequestsView::default(),
        roster: MetricNames::new(None),
        timeline: Timeline::default(),
        hub: LiveHub::new(5),
    };
    let (admitted, handed) = (watch::Sender::new(true), watch::Sender::new(None));
    let tenure = Tenure::new(admitted.subscribe(), handed.subscribe());
    let server = tokio::spawn(serve(listener, router(pages, Router::new()), tenure));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    server.abort();
    text
}

async fn check(status: Status, request: &str, code: &str, expected: &str) {
    let text = answer(status, request).await;
    assert!(text.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {text}");
    assert!(text.contains(expected), "{request}: {text:?} lacks {expected:?}");
}

#[tokio::test]
async fn before_the_store_was_read() {
    for (request, code, expected) in [
        ("GET /", "200", "/api/problems"),
        ("GET /healthz", "200", "ok\n"),
        ("GET /readyz", "503", "the store was not read yet"),
        ("GET /metrics", "200", "version=0.0.4"),
        ("GET /metrics", "200", "pointsman_store_up 0\n"),
        ("GET /api/table", "503", "not read yet"),
        ("GET /api/problems", "200", "[]"),
        ("GET /api/explain", "400", "request /api/explain?url="),
        ("GET /api/explain?url=a", "503", "not read yet"),
        ("GET /api/explain?url=ftp://a", "400", "is not a URL"),
        ("GET /api/explain?url=a&client=b", "400", "is not an IP address"),
        ("GET /page/app.js", "200", "text/javascript"),
        ("GET /page/nothing.js", "404", "no such page"),
        ("GET /api/changes", "200", "{\"next\":0,\"changes\":[]}"),
        ("GET /api/changes?from=x", "400", "request /api/changes?from=0"),
        ("GET /api/history", "200", "\"step\":5"),
        ("GET /api/service", "400", "request /api/service?"),
        ("GET /api/service?name=a", "503", "not read yet"),
        ("POST /api/live", "405", ""),
        ("GET /nowhere", "404", "/ lists them"),
        ("POST /healthz", "405", ""),
        ("DELETE /api/table", "405", ""),
    ] {
        check(Status::new(), request, code, expected).await;
    }
}

#[tokio::test]
async fn while_serving_and_draining() {
    let serving = Status { table: Some(pointsman_table::Table::empty()), served: true, ..Status::new() };
    for (request, code, expected) in [
        ("GET /readyz", "200", "ready"),
        ("GET /api/table", "200", "\"services\":[]"),
        ("GET /api/explain?url=http%3A%2F%2Fshop.test%2Fcart", "200", "\"host\":\"shop.test\""),
        ("GET /api/explain?url=ftp://a", "400", "is not a URL"),
        ("GET /api/service?name=a", "404", "no such service"),
    ] {
        check(serving.clone(), request, code, expected).await;
    }
    check(Status { served: false, ..serving.clone() }, "GET /readyz", "503", "does not use the first table yet").await;
    check(Status { phase: Phase::Drain, ..serving }, "GET /readyz", "503", "draining").await;
}
