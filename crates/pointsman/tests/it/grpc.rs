//! gRPC through the program: real clients and a real server of grpcio, over HTTP/2 on both sides.

use std::process::Command;

use crate::harness::{Http2Instance, Pointsman, Site, engine, finish, python, wait};

/// A server. Its methods take and give bytes as they are.
const SERVER: &str = "
import asyncio, grpc
peers = set()
def say(*words): print(*words, flush=True)
async def unary(request, context):
    peers.add(context.peer())
    await context.send_initial_metadata((('x-first', 'one'),))
    context.set_trailing_metadata([(k, v) for k, v in context.invocation_metadata() if k in ('x-bin', 'x-text')])
    if request == b'fail': await context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'no: \u{fc}')
    return str(len(peers)).encode() if request == b'peers' else request
async def denied(request, context): await context.abort(grpc.StatusCode.PERMISSION_DENIED, 'never')
async def feed(request, context):
    for i in range(int(request)): yield str(i).encode()
async def gather(requests, context):
    return str(sum([len(r) async for r in requests])).encode()
async def chat(requests, context):
    peers.add(context.peer())
    async for r in requests: yield r
async def wait(request, context):
    say('began')
    try: await asyncio.sleep(60)
    except asyncio.CancelledError: say('cancelled'); raise
async def main():
    sizes = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]
    server = grpc.aio.server(options=[*sizes, ('grpc.max_concurrent_streams', 100)])
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('t.T', {
        'Unary': one(unary), 'Denied': one(denied), 'Wait': one(wait), 'Feed': many(feed),
        'Gather': grpc.stream_unary_rpc_method_handler(gather), 'Chat': grpc.stream_stream_rpc_method_handler(chat)}),))
    say('port', server.add_insecure_port('127.0.0.1:0'))
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
";

/// What clients begin with.
const CLIENT: &str = "
import asyncio, grpc, sys
def say(*words): print(*words, flush=True)
sizes = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]
async def failed(call):
    try: await call
    except grpc.aio.AioRpcError as e: return e.code().name, e.details()
async def pieces(count, size):
    for _ in range(count): yield b'x' * size
async def main():
    channel = grpc.aio.insecure_channel(sys.argv[1], options=sizes)
    unary, denied, wait = (channel.unary_unary('/t.T/' + name) for name in ('Unary', 'Denied', 'Wait'))
    feed, gather, chat = channel.unary_stream('/t.T/Feed'), channel.stream_unary('/t.T/Gather'), channel.stream_stream('/t.T/Chat')
";

struct Scene {
    running: Pointsman,
    server: Http2Instance,
    site: Site,
}

fn scene() -> Scene {
    let server = Http2Instance::program(SERVER);
    let site = Site::with(&[
        ("services/a/default", "true"),
        ("services/a/protocol", "h2"),
        ("services/a/one", &server.instance),
        ("config/limit/streams", "2000"),
    ]);
    let running = Pointsman::serving(&site);
    Scene { running, server, site }
}

fn client(running: &Pointsman, script: &str) -> Command {
    let mut command = python();
    let body: String = script.trim_matches('\n').lines().map(|line| format!("    {line}\n")).collect();
    command.arg("-c").arg(format!("{CLIENT}{body}asyncio.run(main())")).arg(running.http.to_string());
    command
}

impl Scene {
    /// What a client says.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        finish(&mut client(&self.running, script)).ok()
    }
}

#[test]
fn calls_answers_and_errors_pass_whole() {
    let scene = scene();
    let said = scene.says(
        r"
call = unary(b'hello', metadata=(('x-bin', b'\x00\xff\n'), ('x-text', 'a, b')))
say(await call, dict(await call.initial_metadata()), dict(await call.trailing_metadata()), (await call.code()).name)
say(await failed(unary(b'fail')), await failed(denied(b'')), await failed(channel.unary_unary('/t.T/None')(b'')))
say(len([answer async for answer in feed(b'1000')]))
",
    );
    let expected = "b'hello' {'x-first': 'one'} {'x-bin': b'\\x00\\xff\\n', 'x-text': 'a, b'} OK\n\
        ('FAILED_PRECONDITION', 'no: \u{fc}') ('PERMISSION_DENIED', 'never') ('UNIMPLEMENTED', 'Method not found!')\n\
        1000\n";
    assert_eq!(said, expected);
}

#[test]
fn streams_go_both_ways_message_by_message() {
    let scene = scene();
    let said = scene.says(
        r"
call = chat()
for i in range(100):
    await call.write(b'%d' % i)
    assert await call.read() == b'%d' % i
await call.done_writing()
say(await call.read() == grpc.aio.EOF, (await call.code()).name)
say(await gather(pieces(100, 1_000_000)), sum([len(answer) async for answer in chat(pieces(100, 1_000_000))]))
",
    );
    assert_eq!(said, "True OK\nb'100000000' 100000000\n");
}

#[test]
fn deadlines_and_cancellation_reach_the_server() {
    let scene = scene();
    let said = scene.says(
        r"
say(await failed(wait(b'', timeout=0.2)))
call = wait(b'')
await asyncio.sleep(0.2)
call.cancel()
say(await unary(b'peers'))
",
    );
    assert_eq!(said, "('DEADLINE_EXCEEDED', 'Deadline Exceeded')\nb'1'\n");
    wait("both ends", || scene.server.said("cancelled") == 2);
}

#[test]
fn a_thousand_streams_share_a_few_connections() {
    if engine().differs("refused-streams") {
        return;
    }
    let scene = scene();
    let script = r"
count, reached = 0, asyncio.Event()
async def one(i):
    nonlocal count
    call = chat()
    await call.write(b'%d' % i)
    assert await call.read() == b'%d' % i
    count += 1
    if count == 1000: reached.set()
    await reached.wait()
    await call.write(b'bye')
    assert await call.read() == b'bye'
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
await asyncio.gather(*(one(i) for i in range(1000)))
say(count, int(await unary(b'peers')) <= 40)
";
    assert_eq!(scene.says(script), "1000 True\n");
}

#[test]
fn failures_of_ours_have_a_status_of_grpc() {
    let scene = scene();
    scene.site.remove("services/a/one");
    let said = || scene.says("say(await failed(unary(b'x')))");
    wait("no instance", || said().starts_with("('UNAVAILABLE'"));
    let details = if engine().differs("grpc-replies") { "" } else { "'Service Unavailable'" };
    assert!(said().contains(details), "{}", said());
}

#[test]
fn many_small_calls_are_no_flood() {
    let scene = scene();
    scene.site.remove("services/a/one");
    let said = scene.says(
        r"
told = set()
async def some():
    for _ in range(400): told.add((await failed(unary(b'x')))[0])
while told != {'UNAVAILABLE'}: told = {(await failed(unary(b'x')) or ('OK',))[0]}
await asyncio.gather(*(some() for _ in range(30)))
say(told)
",
    );
    assert_eq!(said, "{'UNAVAILABLE'}\n");
    assert_eq!(scene.running.metric("pointsman_faults_total", &["\"http2\""]), 0.0);
}
