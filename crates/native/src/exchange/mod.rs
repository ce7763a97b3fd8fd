//! One request and its response: lease an instance, send, answer. The whole request is sent first where it is there;
//! otherwise its body goes up while the response may already come down.

pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod response;
pub(crate) mod upload;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use pointsman_wire::{BodyLength, BodyReader};

use crate::exchange::plan::{ClientSide, Plan};
use crate::exchange::progress::{Answered, Progress};
use crate::exchange::response::Response;
use crate::exchange::upload::Upload;
use crate::fault::Fault;
use crate::http1::client::{After, Client};
use crate::net::buffer::Input;
use crate::net::relay::{End, Relay};
use crate::net::send::send;
use crate::pool::checkout::{Lease, Reuse, Want, lease};
use crate::pool::pick::Tried;
use pointsman_engine::live::Counter;

/// How a try ended.
#[derive(Debug)]
enum Outcome {
    /// The whole response was sent.
    Complete { after: After, reusable: bool },
    /// The instance closed without a byte of an answer.
    Unanswered,
    /// Nothing was sent to the client yet: it gets a fault's answer.
    Fault(Fault),
    /// A part of the response was sent: all that is left is to cut it.
    Cut(Fault),
    /// It became a tunnel, and that is over.
    Tunnel(End),
}

/// Serves one request, whatever happens to it.
pub(crate) async fn exchange(client: &mut Client, mut plan: Box<Plan>) -> After {
    let after = attempts(client, &mut plan).await;
    client.worker.buffers.give(std::mem::take(&mut plan.forward));
    after
}

/// Tries once, and once more when the first connection closed without a byte of an answer and nothing was lost by it.
async fn attempts(client: &mut Client, plan: &mut Plan) -> After {
    let live = Rc::clone(&plan.live);
    let mut tried = Tried::default();
    let mut want = Want { key: plan.key, reuse: plan.reuse() };
    let mut retried = false;
    loop {
        let leased = lease(&client.worker, &live, want, &mut tried, &client.deadline).await;
        let mut leased = match leased {
            Ok(leased) => leased,
            // The only instance left takes no new work: what is to be told is how the one that was tried failed.
            Err(Fault::NoInstance) if retried => return unserved(client, plan, Fault::NoAnswer).await,
            Err(fault) => return unserved(client, plan, fault).await,
        };
        match attempt(client, plan, &mut leased).await {
            Outcome::Unanswered if !retried && plan.may_repeat() => {
                retried = true;
                leased.instance().counters().retries.add(1);
                if !leased.reused && live.instances.len() > 1 {
                    tried.add(leased.index());
                }
                want.reuse = Reuse::Never;
            }
            outcome => return settle(client, plan, leased, outcome).await,
        }
    }
}

/// Answers a request that no instance saw.
async fn unserved(client: &mut Client, plan: &Plan, fault: Fault) -> After {
    let counters = plan.live.unserved();
    counters.requests.add(1);
    count_status(&counters.responses, fault);
    client.answer(fault, refusal_side(plan)).await
}

/// Counts how it ended, and says what the client is still owed.
async fn settle(client: &mut Client, plan: &Plan, leased: Lease, outcome: Outcome) -> After {
    leased.instance().counters().requests.add(1);
    plan.live.latency().record(plan.started.elapsed());
    match outcome {
        Outcome::Complete { after, reusable } => {
            if reusable {
                leased.keep(&client.worker, client.deadline.now());
            }
            after
        }
        Outcome::Unanswered => refuse(client, plan, &leased, Fault::NoAnswer).await,
        Outcome::Fault(fault) => refuse(client, plan, &leased, fault).await,
        Outcome::Cut(fault) => {
            client.worker.stats().fault(fault.index());
            After::Reset
        }
        Outcome::Tunnel(End::Done) => After::Close,
        Outcome::Tunnel(End::Broken) => After::Reset,
    }
}

async fn refuse(client: &mut Client, plan: &Plan, leased: &Lease, fault: Fault) -> After {
    count_status(&leased.instance().counters().responses, fault);
    client.answer(fault, refusal_side(plan)).await
}

/// An answer of ours keeps the connection only if nothing of the request is left to come.
fn refusal_side(plan: &Plan) -> ClientSide {
    ClientSide { keep_alive: plan.client.keep_alive && plan.complete, ..plan.client }
}

fn count_status(responses: &[Counter; 5], fault: Fault) {
    if let Some(status) = fault.status() {
        responses[usize::from(status / 100).clamp(1, 5) - 1].add(1);
    }
}

/// One try on one connection.
async fn attempt(client: &mut Client, plan: &mut Plan, leased: &mut Lease) -> Outcome {
    let server = plan.live.service.timeouts.server;
    match send(&client.deadline, server, &mut leased.stream, &plan.forward).await {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Outcome::Fault(Fault::ServerTimeout);
        }
        // It may have answered before it closed: what it said is read below.
        Ok(()) | Err(_) => {}
    }
    leased.instance().counters().bytes_in.add(plan.forward.len() as u64);
    let mut input = Input::default();
    let answered = if plan.complete {
        answer_only(client, plan, leased, &mut input).await
    } else {
        both_ways(client, plan, leased, &mut input).await
    };
    let outcome = match answered {
        Answered::Switched => Outcome::Tunnel(tunnel(client, plan, leased, &input).await),
        Answered::Complete { keep_client, keep_instance } => Outcome::Complete {
            after: after(client, plan, keep_client),
            reusable: keep_instance && plan.complete && input.unread().is_empty(),
        },
        Answered::Nothing => Outcome::Unanswered,
        Answered::Fault(fault) => Outcome::Fault(fault),
        Answered::Cut(fault) => Outcome::Cut(fault),
    };
    input.discard(&client.worker.buffers);
    outcome
}

/// A client that asked for the close sends nothing more; any other may be about to.
fn after(client: &Client, plan: &Plan, keep: bool) -> After {
    match (keep, plan.client.keep_alive || !plan.complete || !client.input.unread().is_empty()) {
        (true, _) => After::Keep,
        (false, true) => After::Linger,
        (false, false) => After::Close,
    }
}

/// The request is sent: only the response moves.
async fn answer_only(client: &mut Client, plan: &Plan, leased: &mut Lease, input: &mut Input) -> Answered {
    let (stream, instance) = leased.parts();
    let progress = Progress::new(client.deadline.now(), true);
    let (mut from, _) = stream.split();
    let (_, mut to) = client.stream.split();
    let response = Response::new(&client.worker, plan, instance, &client.deadline, &progress);
    response.run(&mut from, input, &mut to).await
}

/// The rest of the request's body goes up while the response may already come down.
async fn both_ways(client: &mut Client, plan: &mut Plan, leased: &mut Lease, input: &mut Input) -> Answered {
    let Client { worker, stream, input: from_client, deadline, .. } = client;
    let (instance_stream, instance) = leased.parts();
    let progress = Progress::new(deadline.now(), false);
    let upload_deadline = worker.timers.deadline();
    let mut body = std::mem::replace(&mut plan.body, BodyReader::new(BodyLength::None, 0));
    let answered = {
        let (mut client_read, mut client_write) = stream.split();
        let (mut instance_read, mut instance_write) = instance_stream.split();
        let upload = Upload {
            worker,
            plan,
            body: &mut body,
            counters: instance.counters(),
            deadline: &upload_deadline,
            progress: &progress,
        };
        let up = upload.run(&mut client_read, from_client, &mut instance_write);
        let response = Response::new(worker, plan, instance, deadline, &progress);
        let down = response.run(&mut instance_read, input, &mut client_write);
        race(Box::pin(up), down, &progress).await
    };
    plan.streamed |= progress.streamed.get();
    plan.body = body;
    plan.complete = progress.uploaded.get();
    answered
}

/// Ends with the response, or when the client fails to deliver its request.
async fn race(
    up: impl Future<Output = Result<(), Fault>> + Unpin,
    down: impl Future<Output = Answered>,
    progress: &Progress,
) -> Answered {
    let mut up = Some(up);
    let mut down = pin!(down);
    poll_fn(|context| {
        if let Some(upload) = &mut up
            && let Poll::Ready(uploaded) = pin!(upload).poll(context)
        {
            up = None;
            if let Err(fault) = uploaded {
                return Poll::Ready(progress.failed(fault));
            }
        }
        down.as_mut().poll(context)
    })
    .await
}

/// After 101: bytes both ways until both sides are done.
async fn tunnel(client: &mut Client, plan: &Plan, leased: &mut Lease, from_instance: &Input) -> End {
    let (instance_stream, instance) = leased.parts();
    let relay = Relay {
        pool: &client.worker.buffers,
        deadline: &client.deadline,
        instance,
        idle: plan.live.service.timeouts.tunnel,
    };
    let run = relay.run(&mut client.stream, client.input.unread(), instance_stream, from_instance.unread());
    let end = Box::pin(run).await;
    if end == End::Broken {
        instance_stream.reset_on_close();
    }
    end
}
