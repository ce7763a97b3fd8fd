//! A fixed number of exchanges, the same in every run, for counting instructions. Run it under a profiler for N and for
//! 2N exchanges: the difference is the cost of N. Callgrind's `--toggle-collect` of `serve::serve::{{closure}}` counts
//! the engine alone, without the scripted peers.

use super::block_on;
use super::script::expand;
use super::world::World;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many exchanges there are.
fn count() -> usize {
    std::env::var("POINTSMAN_EXCHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// The same exchange again and again, on kept connections.
fn repeat(request: &str, forwarded: &str, response: &str, passed_on: &str) {
    let [request, forwarded, response, passed_on] = [request, forwarded, response, passed_on].map(expand);
    block_on(async {
        let mut world = World::new("s/a={a}");
        // Reads are larger from a client that has sent more.
        let [long, long_forwarded, ok] =
            ["GET / HTTP/1.1|Host: h|X: {x*3000}||", "GET / HTTP/1.1|Host: h|X: {x*3000}|{via}|", "{ok}"].map(expand);
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
    repeat("{get}", "{got}", "{ok}", "{ok}");
}

#[test]
fn chunked_posts() {
    let response = "HTTP/1.1 200 OK|Content-Length: 10000||{y*10000}";
    let body = "3e8|{x*1000}|".repeat(10) + "0||";
    repeat(&format!("{{chunks}}{body}"), &format!("{{chunked}}{body}"), response, response);
}
