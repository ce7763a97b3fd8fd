//! The language of rows. A row is a block of lines:
//!
//! ```text
//! # what it shows
//! keys s/a={a}; config/timeout/server=2s
//! p > {get}
//! a1 < {got}
//! a1 > {ok}
//! p < {ok}
//! = a requests=1 2xx=1; pooled=1
//! ```
//!
//! Between keys and counts are steps. Before each, everything settles, unless it begins with `&`: so a script
//! determines the order of events, and a row has the same outcome on every machine.
//!
//! | step | meaning |
//! |---|---|
//! | `p > BYTES` | the client p sends (`p` to `v` are HTTP clients, `w` to `z` TCP clients; named first: connects) |
//! | `a1 > BYTES` | the instance a sends on the first connection that it accepted |
//! | `p < BYTES` | it receives exactly these bytes next |
//! | `p >> FRAMES`, `p << FRAMES` | the same over HTTP/2, see `frames`; `p greets` begins a connection |
//! | `p <= FRAMES` | receives these frames; their body is ours |
//! | `p <~ FRAME` | receives other frames, and then this one |
//! | `p own BYTES` | the same, of a response that is ours and not an instance's |
//! | `p page STATUS keep-alive` | the same, of our page for a status; or `close`; and `retry-after=SECONDS` |
//! | `p stuck BYTES` | sends, and not all of it is taken |
//! | `p vain BYTES` | sends, and finds that the other side reads no more |
//! | `p quiet` | nothing came, and the connection is open |
//! | `p end` | says that it sends no more |
//! | `p close`, `p abort` | closes; abort leaves something unread, which is a reset |
//! | `p closed`, `p cut`, `p gone` | the other side has closed; or has reset the connection; or either |
//! | `a down`, `a full` | the instance listens no more; or accepts none and its queue is full |
//! | `a active N` | N requests are at work there |
//! | `clock N` | the worker's coarse clock moves by N milliseconds |
//! | `sweep` | the worker checks its idle connections |
//! | `table KEYS` | a new table, see [`World::take`] |
//! | `drain` | the worker begins to drain |
//!
//! In bytes, `|` is the end of a line, `{x*9}` nine times x, and `{get}` and the like are in [`WORDS`]. In the end
//! every connection that no step has ended is open and quiet.

use pointsman_wire::Answer;

use super::frames;
use super::world::World;

/// What a client gets first over HTTP/2.
const GREETING: &str = "settings 3=128 4=262144 6=65536 8=1 ; settings ack ; window 0 458753";

/// Words and the bytes they stand for. The second word of a pair is what an instance gets for the first.
const WORDS: &[(&str, &str)] = &[
    ("lf", "\n"),
    ("via", "X-Forwarded-For: 192.0.2.7|X-Forwarded-Proto: http|X-Forwarded-Port: 80|CDN-Loop: pointsman|"),
    ("get", "GET / HTTP/1.1|Host: h||"),
    ("got", "GET / HTTP/1.1|Host: h|{via}|"),
    ("post", "POST / HTTP/1.1|Host: h|Content-Length: 5||"),
    ("posted", "POST / HTTP/1.1|Host: h|{via}Content-Length: 5||"),
    ("put", "PUT / HTTP/1.1|Host: h|Content-Length: 5||"),
    ("was put", "PUT / HTTP/1.1|Host: h|{via}Content-Length: 5||"),
    ("chunks", "POST / HTTP/1.1|Host: h|Transfer-Encoding: chunked||"),
    ("chunked", "POST / HTTP/1.1|Host: h|{via}Transfer-Encoding: chunked||"),
    ("ask", "GET / HTTP/1.1|Host: h|Connection: upgrade|Upgrade: echo||"),
    ("asked", "GET / HTTP/1.1|Host: h|{via}Connection: upgrade|Upgrade: echo||"),
    ("switch", "HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: echo||"),
    ("ok", "HTTP/1.1 200 OK|Content-Length: 2||ok"),
    ("ok, close", "HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok"),
];

/// A row: what it shows, keys, what happens, and what is counted in the end.
#[derive(Debug)]
pub(super) struct Row<'t> {
    pub(super) title: &'t str,
    pub(super) keys: String,
    pub(super) steps: Vec<&'t str>,
    pub(super) counted: &'t str,
}

impl<'t> Row<'t> {
    /// The rows of a text, separated by empty lines; lines that begin with `//` are left out.
    pub(super) fn all(text: &'t str) -> Vec<Self> {
        let rows: Vec<_> = text.split("\n\n").filter_map(Self::new).collect();
        assert!(!rows.is_empty(), "there are no rows");
        rows
    }

    /// `None`: nothing but comments.
    fn new(block: &'t str) -> Option<Self> {
        let mut lines = block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let title = lines.next()?.strip_prefix("# ").unwrap_or_else(|| panic!("no title: {block}"));
        let (mut keys, mut steps, mut counted) = (String::new(), Vec::new(), None);
        for line in lines {
            assert!(counted.is_none(), "{title}: something follows the counts");
            match line.split_once(' ').unwrap_or((line, "")) {
                ("keys", more) => keys = format!("{keys}; {more}"),
                ("=", stated) => counted = Some(stated),
                _ => steps.push(line),
            }
        }
        let counted = counted.unwrap_or_else(|| panic!("{title}: nothing is said of counts"));
        Some(Self { title, keys, steps, counted })
    }
}

/// Bytes as a row writes them.
pub(super) fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, more)) = rest.split_once('{') {
        let (inner, after) = more.split_once('}').expect("a brace is closed");
        out.push_str(&before.replace('|', "\r\n"));
        match inner.rsplit_once('*') {
            Some((unit, count)) => out.push_str(&expand(unit).repeat(count.parse().expect("a number of times"))),
            None => out.push_str(&expand(meaning(inner))),
        }
        rest = after;
    }
    out.push_str(&rest.replace('|', "\r\n"));
    out
}

fn meaning(word: &str) -> &'static str {
    WORDS.iter().find(|(known, _)| *known == word).unwrap_or_else(|| panic!("{{{word}}} means nothing")).1
}

/// Plays a script.
pub(super) async fn run(world: &mut World, steps: &[&str]) -> Result<(), String> {
    for line in steps {
        let step = line.strip_prefix("& ");
        if step.is_none() {
            world.settle().await;
        }
        play(world, step.unwrap_or(line)).await.map_err(|wrong| format!("{line}\n    {wrong}"))?;
    }
    Ok(())
}

async fn play(world: &mut World, step: &str) -> Result<(), String> {
    let (who, what) = step.split_once(' ').unwrap_or((step, ""));
    match who {
        "clock" => world.pass(what.parse().expect("milliseconds")).await,
        "sweep" => world.worker.sweep_idle(),
        "table" => world.take(what),
        "drain" => world.drain(),
        "a" | "b" | "c" | "d" => return instance(world, who, what),
        _ => {
            let (verb, bytes) = what.split_once(' ').unwrap_or((what, ""));
            return peer(world, who, verb, bytes).await;
        }
    }
    Ok(())
}

fn instance(world: &mut World, who: &str, what: &str) -> Result<(), String> {
    let letter = who.chars().next().expect("a name");
    match what.split_once(' ').unwrap_or((what, "")) {
        ("down", _) => world.stop_listening(letter),
        ("full", _) => world.fill_queue(letter),
        ("active", count) => {
            let working = world.registry.working();
            let active = working.iter().find(|working| working.instance == who).map_or(0, |working| working.active);
            if active.to_string() != count {
                return Err(format!("{active} are"));
            }
        }
        _ => panic!("an instance cannot {what}"),
    }
    Ok(())
}

async fn peer(world: &mut World, who: &str, verb: &str, bytes: &str) -> Result<(), String> {
    if world.is_new(who)? {
        world.settle().await;
    }
    match verb {
        ">" => world.send(who, expand(bytes).as_bytes()).await,
        "<" => world.expect(who, expand(bytes).as_bytes()).await,
        ">>" => world.send(who, &packed(bytes)).await,
        "<<" => world.expect_frames(who, &frames::split(&expand(bytes))).await.map(drop),
        "<~" => world.await_frame(who, bytes).await,
        "<=" => {
            world.own += world.expect_frames(who, &frames::split(&expand(bytes))).await?;
            Ok(())
        }
        "greets" => {
            world.send(who, &packed(&format!("preface ; settings {bytes} ; settings ack"))).await?;
            world.expect_frames(who, &frames::split(GREETING)).await.map(drop)
        }
        "own" => own(world, who, expand(bytes).into_bytes()).await,
        "page" => own(world, who, page(bytes)).await,
        "stuck" => match world.send_some(who, expand(bytes).as_bytes()).await? {
            count if count < expand(bytes).len() => Ok(()),
            count => Err(format!("all {count} bytes were taken")),
        },
        "vain" => match world.send_some(who, expand(bytes).as_bytes()).await {
            Ok(count) => Err(format!("{count} bytes were taken")),
            Err(_) => Ok(()),
        },
        "quiet" => world.is_quiet(who),
        "end" => world.peer(who)?.end(),
        "close" => world.peer(who)?.close(false),
        "abort" => world.peer(who)?.close(true),
        "closed" => world.ended(who, false),
        "gone" => match world.ended(who, false) {
            Err(wrong) if wrong.contains("not closed") => Ok(()),
            ended => ended,
        },
        "cut" => world.ended(who, true),
        _ => panic!("nobody can {verb}"),
    }
}

async fn own(world: &mut World, who: &str, bytes: Vec<u8>) -> Result<(), String> {
    world.own += bytes.len();
    world.expect(who, &bytes).await
}

/// The bytes of frames.
fn packed(text: &str) -> Vec<u8> {
    frames::split(&expand(text)).iter().flat_map(|frame| frames::bytes(frame)).collect()
}

/// Our page for a status.
fn page(words: &str) -> Vec<u8> {
    let (status, connection) = words.split_once(' ').expect("a status, and what becomes of the connection");
    let (connection, retry_after) = match connection.split_once(" retry-after=") {
        Some((connection, seconds)) => (connection, Some(seconds.parse().expect("seconds"))),
        None => (connection, None),
    };
    let keep_alive = match connection {
        "keep-alive" => true,
        "close" => false,
        _ => panic!("a page says keep-alive or close"),
    };
    let mut page = Vec::new();
    let status = status.parse().expect("a status");
    let answer = Answer {
        status,
        body: None,
        location: None,
        retry_after,
        more: &[],
        keep_alive,
        head_request: false,
        edits: None,
    };
    answer.write(&mut page);
    page
}
