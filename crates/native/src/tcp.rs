//! One connection of a TCP service: checks out an instance, then relays bytes both ways.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use pointsman_table::Balance;

use crate::fault::Fault;
use crate::net::buffer::{Input, Size};
use crate::net::deadline::Deadline;
use crate::net::peer::{Ends, Peer};
use crate::net::send::settle;
use crate::net::stream::Stream;
use crate::net::watch::Guard;
use crate::pool::announced::{ForClient, OpenFor};
use crate::pool::checkout::{Checkout, Reuse, TRIES, Want, checkout};
use crate::pool::link::Link;
use crate::pool::pick::{Tried, key_of_address};
use crate::pool::view::ServiceLive;
use crate::record::Record;
use crate::relay::{End, Relay};
use crate::worker::{Counted, Worker};

/// Relays a client's connection, of which `from_client` was read, to an instance of the service until both sides are done.
pub(crate) async fn serve(
    counted: Counted,
    mut client: Stream,
    mut from_client: Input,
    ends: Ends,
    live: Rc<ServiceLive>,
) {
    let worker = counted.worker();
    let deadline = worker.timers.deadline();
    let peer = Peer::new(ends, &client);
    #[expect(clippy::disallowed_methods, reason = "the connection's time begins here")]
    let mut record = Record::new(Instant::now());
    record.service = Some(Rc::clone(&live));
    if let Some(access) = &worker.access {
        record.noted = access.note_connection(worker.view().table.revision(), &peer);
    }
    if !live.service.admits(peer.client) {
        record.fault = Some(Fault::Denied);
        client.reset_on_close();
        return record.finish_connection(worker, &peer);
    }
    let key = matches!(live.service.balance, Balance::Source).then(|| key_of_address(peer.client));
    let guard = Guard::new(&worker.half_closed, live.room_id(), true);
    let announced = || Rc::new(OpenFor { host: None, addresses: peer.addresses() });
    let for_client = live.service.send_proxy().map(|_| ForClient { open_for: announced(), own: None });
    let want = Want {
        key,
        stuck_to: None,
        reuse: Reuse::Never,
        for_client: for_client.as_ref(),
        tries: TRIES,
        guard: &guard,
        dials: None,
    };
    let mut tried = Tried::default();
    let checked_out = {
        let checkout = pin!(checkout(&worker.home, &live, want, &mut tried, &deadline));
        guard.during(client.socket(), checkout).await
    };
    record.noted.iter().for_each(|noted| noted.checked_out(&tried, checked_out.is_ok()));
    match checked_out {
        Ok(mut checked_out) => {
            record.taken(checked_out.instance());
            let end =
                relay(worker, &live, (&mut client, &mut from_client), &mut checked_out, (&deadline, &record)).await;
            // Frees the instance for others while this client still reads.
            drop(checked_out);
            if end == End::Broken {
                let idle = deadline.idle();
                settle(&deadline, &client, &|| idle.is_evicted()).await;
                client.reset_on_close();
            }
        }
        Err(fault) => {
            record.fault = Some(fault);
            client.reset_on_close();
        }
    }
    record.finish_connection(worker, &peer);
}

async fn relay(
    worker: &Worker,
    live: &ServiceLive,
    (client, from_client): (&mut Stream, &mut Input),
    checked_out: &mut Checkout,
    (deadline, record): (&Deadline, &Record),
) -> End {
    // No other connection is opened for a TCP service.
    let (Link::Http1(stream), instance) = checked_out.parts() else { return End::Broken };
    let (idle, noted) = (live.service.timeouts.tunnel, record.noted.as_deref());
    let relay = Relay { pool: &worker.buffers, deadline, instance, idle, noted };
    let mut from_instance = Input::new(Size::Page);
    let end = relay.run(client, from_client, stream, &mut from_instance).await;
    from_client.discard(&worker.buffers);
    from_instance.discard(&worker.buffers);
    end
}
