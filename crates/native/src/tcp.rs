//! One connection of a TCP service: an instance is leased, then bytes go both ways.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use pointsman_table::Balance;

use crate::net::relay::{End, Relay};
use crate::net::stream::Stream;
use crate::pool::checkout::{Lease, Reuse, Want, lease};
use crate::pool::pick::{Tried, key_of_address};
use crate::view::ServiceLive;
use crate::worker::{Counted, Worker};

/// Relays a client's connection to an instance of the service until both sides are done.
pub(crate) async fn serve(counted: Counted, mut client: Stream, address: IpAddr, live: Rc<ServiceLive>) {
    let worker = counted.worker();
    let deadline = worker.timers.deadline();
    let started = Instant::now();
    let key = matches!(live.service.balance, Balance::Source).then(|| key_of_address(address));
    let want = Want { key, reuse: Reuse::Never };
    let mut tried = Tried::default();
    let mut leased = match lease(worker, &live, want, &mut tried, &deadline).await {
        Ok(leased) => leased,
        Err(fault) => {
            live.unserved().requests.add(1);
            worker.stats().fault(fault.index());
            return client.reset_on_close();
        }
    };
    leased.instance().counters().requests.add(1);
    let end = relay(worker, &live, &mut client, &mut leased, &deadline).await;
    if end == End::Broken {
        client.reset_on_close();
        leased.stream.reset_on_close();
    }
    live.latency().record(started.elapsed());
}

async fn relay(
    worker: &Worker,
    live: &ServiceLive,
    client: &mut Stream,
    leased: &mut Lease,
    deadline: &crate::net::deadline::Deadline,
) -> End {
    let (instance_stream, instance) = leased.parts();
    let idle = live.service.timeouts.tunnel;
    let relay = Relay { pool: &worker.buffers, deadline, instance, idle };
    relay.run(client, &[], instance_stream, &[]).await
}
