//! A fixed number of exchanges, the same in every run, for counting instructions. Run it under a profiler for N and for
//! 2N exchanges: the difference is the cost of N. Callgrind's `--toggle-collect` of `serve::serve::{{closure}}` counts
//! the engine alone, without the scripted peers.

use super::block_on;
use super::script::expand;
use super::world::World;

/// How many exchanges there are.
fn count() -> usize {
    std::env::var("POINTSMAN_EXCHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// The same exchange again and again, on kept connections.
fn repeat(request: &str, forwarded: &str, response: &str, passed_on: &str) {
    let [request, forwarded, response, passed_on] = [request, forwarded, response, passed_on].map(expand);
    block_on(async {
        let mut world = World::new("s/a={a}");
        for _ in 0..count() {
            world.send("p", request.as_bytes()).await.unwrap();
            world.settle().await;
            world.expect("a1", forwarded.as_bytes()).await.unwrap();
            world.send("a1", response.as_bytes()).await.unwrap();
            world.settle().await;
            world.expect("p", passed_on.as_bytes()).await.unwrap();
        }
        world.finish(&format!("a requests={} 2xx={}; pooled=1", count(), count())).await.unwrap();
    });
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
