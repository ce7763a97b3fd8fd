//! Exchanges without a process: clients and instances are scripted; everything between them is real, except the clock.
//! A test is one row of data in `rows`. Nothing waits for time: a row takes its next step when nothing moves any more.
//!
//! | module | owns |
//! |---|---|
//! | `script` | the language of rows |
//! | `frames`, `hpack` | what clients send and get over HTTP/2 |
//! | `world` | a worker, its table and clock, its clients and instances |
//! | `peer` | one end of a connection, driven by a script |
//! | `ledger` | what was counted, as a row states it |
//! | `resets` | which connections the engine ended by a reset |
//! | `hellos` | ClientHellos that rustls writes, beside our reader of them |
//! | `instructions` | a fixed number of exchanges, for a profiler to count |

mod frames;
mod hellos;
mod hpack;
mod instructions;
mod ledger;
mod peer;
pub(crate) mod resets;
mod script;
mod world;

use script::Row;
use world::World;

/// Plays every row of a file, each in a world of its own, and lists the rows that failed.
fn check(file: &str) {
    let path = format!("{}/src/tests/rows/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = Row::all(&text);
    let wrong = rows.iter().filter_map(|row| Some(format!("{}\n    {}", row.title, play(row).err()?)));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{file}: {} of {} rows\n\n{}\n", wrong.len(), rows.len(), wrong.join("\n\n"));
}

fn play(row: &Row<'_>) -> Result<(), String> {
    block_on(async {
        let mut world = World::new(&row.keys);
        script::run(&mut world, &row.steps).await?;
        world.finish(row.counted).await
    })
}

/// Runs on one thread, as a worker does, while tokio's clock stands still.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build_local(Default::default()).unwrap();
    runtime.block_on(work)
}

#[test]
fn requests() {
    check("requests");
}

#[test]
fn bodies() {
    check("bodies");
}

#[test]
fn interim_responses() {
    check("interim");
}

#[test]
fn early_answers() {
    check("early");
}

#[test]
fn faults_of_clients() {
    check("clients");
}

#[test]
fn faults_of_instances() {
    check("instances");
}

#[test]
fn faults_of_keys() {
    check("keys");
}

#[test]
fn retries() {
    check("retries");
}

#[test]
fn tunnels() {
    check("tunnels");
}

#[test]
fn logins_of_connections() {
    check("logins");
}

#[test]
fn tcp_services() {
    check("tcp");
}

#[test]
fn draining() {
    check("draining");
}

#[test]
fn http2_connections() {
    check("http2_connections");
}

#[test]
fn http2_streams() {
    check("http2_streams");
}

#[test]
fn http2_heads() {
    check("http2_heads");
}

#[test]
fn http2_bodies() {
    check("http2_bodies");
}

#[test]
fn http2_responses() {
    check("http2_responses");
}

#[test]
fn http2_ends() {
    check("http2_ends");
}
