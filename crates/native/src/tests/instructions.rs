//! A fixed number of exchanges, the same in every run, for counting instructions. Run it under a profiler for N and for
//! 2N exchanges: the difference is the cost of N. Callgrind's `--toggle-collect` of `serve::serve::{{closure}}` counts
//! the engine alone, without the scripted peers.

use super::block_on;
use super::script::expand;
use super::world::World;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: pointsman_engine::sys::Allocator = pointsman_engine::sys::Allocator;

/// How many exchanges there are.
fn count() -> usize {
    std::env::var("POINTSMAN_EXCHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// What is known of instances, and done for those that fail.
const CARE: &str = "s/a={a}; s/cookie=SRV insert indirect; s/retries=2 on=connect,reset,502,503; s/limit/requests=1000; s/eject=errors=5";

/// The same exchange again and again, on kept connections. `sticks`: the client sends its cookie.
fn repeat(keys: &str, sticks: bool, request: &str, forwarded: &str, response: &str, passed_on: &str) {
    let [request, forwarded, response, passed_on] = [request, forwarded, response, passed_on].map(expand);
    let cookie = if sticks { "Cookie: SRV=a|" } else { "" };
    block_on(async {
        let mut world = World::new(keys);
        // Reads are larger from a client that has sent more.
        let long = format!("GET / HTTP/1.1|Host: h|X: {{x*3000}}|{cookie}|");
        let [long, long_forwarded, ok] = [&*long, "GET / HTTP/1.1|Host: h|X: {x*3000}|{via}|", "{ok}"].map(expand);
        exchange(&mut world, [&long, &long_forwarded, &ok, &ok]).await;
        for _ in 0..count() {
            exchange(&mut world, [&request, &forwarded, &response, &passed_on]).await;
        }
        let all = count() + 1;
        world.finish(&format!("a requests={all} 2xx={all}; pooled=1")).await.unwrap();
    });
}

async fn exchange(world: &mut World, [request, forwarded, response, passed_on]: [&String; 4]) {
    world.send("p", request.as_bytes()).await.unwrap();
    world.settle().await;
    world.expect("a1", forwarded.as_bytes()).await.unwrap();
    world.send("a1", response.as_bytes()).await.unwrap();
    world.settle().await;
    world.expect("p", passed_on.as_bytes()).await.unwrap();
}

#[test]
fn exchanges() {
    repeat("s/a={a}", false, "{get}", "{got}", "{ok}", "{ok}");
}

#[test]
fn chunked_posts() {
    let response = "HTTP/1.1 200 OK|Content-Length: 10000||{y*10000}";
    let body = "3e8|{x*1000}|".repeat(10) + "0||";
    repeat("s/a={a}", false, &format!("{{chunks}}{body}"), &format!("{{chunked}}{body}"), response, response);
}

#[test]
fn cared_for() {
    repeat(CARE, true, "GET / HTTP/1.1|Host: h|Cookie: SRV=a||", "{got}", "{ok}", "{ok}");
}
