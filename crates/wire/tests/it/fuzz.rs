//! The fuzz targets of heads, bodies, PROXY headers and ClientHellos, for seconds: mutants of the vectors.

#[path = "../../../../fuzz/src/body.rs"]
mod body;
#[path = "../../../../fuzz/src/hello.rs"]
mod hello;
#[path = "../../../../fuzz/src/http2.rs"]
pub(crate) mod http2;
#[path = "../../../../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../../../fuzz/src/proxy.rs"]
mod proxy;
#[path = "../../../../fuzz/src/request.rs"]
mod request;
#[path = "../../../../fuzz/src/response.rs"]
mod response;

use crate::rows::{self, Row};

const MUTANTS: usize = 300_000;

fn seeds(rows: Vec<Row>) -> Vec<Vec<u8>> {
    // Some rows are bodies of megabytes: nothing that a mutant would not find in a short one.
    rows.into_iter().map(|row| row.bytes).filter(|bytes| bytes.len() < 2048).collect()
}

#[test]
fn requests() {
    mutate::each(&seeds(rows::requests()), MUTANTS, request::run);
}

#[test]
fn http2_heads() {
    let rows = seeds(crate::http2::rows()).into_iter().chain(crate::http2::translated().map(|(_, fields)| fields));
    mutate::each(&rows.collect::<Vec<_>>(), MUTANTS, http2::run);
}

#[test]
fn responses() {
    let asked = |bytes: Vec<u8>| (0..4).map(move |asked| [&[asked], &*bytes].concat());
    let seeds: Vec<_> = seeds(rows::responses()).into_iter().flat_map(asked).collect();
    mutate::each(&seeds, MUTANTS, response::run);
}

#[test]
fn bodies() {
    let body = |head: Vec<u8>| {
        let at = head.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some(head[at + 4..].to_vec()).filter(|body| !body.is_empty())
    };
    let all = seeds(rows::requests()).into_iter().chain(seeds(rows::responses()));
    mutate::each(&all.filter_map(body).collect::<Vec<_>>(), MUTANTS, body::run);
}

#[test]
fn proxy_headers() {
    mutate::each(&seeds(crate::proxy::rows()), MUTANTS, proxy::run);
}

/// ClientHellos without a name, with one, and with another extension ahead of it, in one record and in three.
#[test]
fn hellos() {
    let body = |rest: &str| format!("\x03\x03{:7<32}\0\0\x02\x13\x01\x01\0{rest}", "");
    let name = "\0\0\0\x0b\0\x09\0\0\x06a.test";
    let bodies = [body(""), body(&format!("\0\x0f{name}")), body(&format!("\0\x16\0\x2b\0\x03\x02\x03\x04{name}"))];
    let message = |body: &String| [&[1, 0, 0, body.len().try_into().unwrap_or(0)], body.as_bytes()].concat();
    let record = |content: &[u8]| [&[22, 3, 1, 0, content.len().try_into().unwrap_or(0)], content].concat();
    let sizes = [255, 30, 1];
    let seeds = bodies
        .iter()
        .map(message)
        .flat_map(|message| sizes.map(|size| message.chunks(size).flat_map(record).collect::<Vec<_>>()));
    mutate::each(&seeds.collect::<Vec<_>>(), MUTANTS, hello::run);
}
