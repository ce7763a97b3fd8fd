//! Connections to addresses where TCP services are told apart by TLS server names, or where TLS ends here: reads the
//! ClientHello, and what was read goes on as it came. Relays nothing.

use std::rc::Rc;

use pointsman_table::Bind;
use pointsman_wire::{FirstBytes, HelloReader, UNRECOGNIZED_NAME};
use tokio::net::TcpStream;

use super::opening::{Failure, Opening, Unopened};
use super::secure::{self, NO_TLS, handshake};
use crate::fault::Fault;
use crate::net::buffer::{Input, Size};
use crate::net::peer::Ends;
use crate::net::stream::{ReadHalf, Stream};
use crate::pool::view::ServiceLive;
use crate::tcp;
use crate::worker::{Counted, Worker};

/// What is wrong if a ClientHello is not complete in time.
const LATE: (Fault, &str) = (Fault::HelloTimeout, "ClientHello");

/// A connection that has found its service.
struct Found {
    stream: Stream,
    /// What was read of it.
    input: Input,
    live: Rc<ServiceLive>,
}

/// Finds the service that a connection asks for, and serves it.
pub(crate) async fn named(counted: Counted, stream: TcpStream, ends: Ends, bind: Bind) {
    // Its memory is there while it lasts: a connection is small.
    match Box::pin(find(counted.worker(), stream, bind)).await {
        Ok(Found { stream, input, live }) => tcp::serve(counted, stream, input, ends, live).await,
        Err(Unopened::Left) => {}
        Err(Unopened::Failed(failure)) => failure.count(counted.worker(), ends.client.ip()),
    }
}

async fn find(worker: &Worker, mut stream: TcpStream, bind: Bind) -> Result<Found, Unopened> {
    let opening = Opening::new(worker, LATE);
    let mut input = Input::new(Size::Head);
    let read = opening.run(first_bytes(worker, &mut stream, &mut input)).await.and_then(|read| read);
    let first = match read {
        // A client that waits for its server to speak first, as clients of MySQL do, is no TLS client.
        Err(Unopened::Failed(_)) if input.unread().is_empty() && has_default(worker, bind) => FirstBytes::Other,
        read => read?,
    };
    let Some(live) = service(worker, bind, &first) else {
        return Err(unserved(&stream, &first, &input));
    };
    match (live.service.terminates(), &first) {
        (false, _) => Ok(Found { stream: Stream::Tcp(stream), input, live }),
        (true, FirstBytes::Other) if input.unread().is_empty() => Err(Unopened::Left),
        (true, FirstBytes::Other) => Err(Unopened::Failed(Failure::handshake(NO_TLS))),
        (true, FirstBytes::Hello { .. }) => {
            let opening = opening.then(secure::LATE);
            let tls = handshake(&opening, stream, input.into_bytes(), |keys, _| keys.config_of_any_protocol()).await?;
            Ok(Found { stream: Stream::Tls(Box::new(tls)), input: Input::new(Size::Page), live })
        }
    }
}

/// Reads until it is clear what the connection begins with. A client that sends no more has said it all.
async fn first_bytes(worker: &Worker, stream: &mut TcpStream, input: &mut Input) -> Result<FirstBytes, Unopened> {
    let mut from = ReadHalf::Tcp(stream.split().0);
    let mut reader = HelloReader::default();
    loop {
        let read = reader.read(input.unread());
        if let Some(first) = read.map_err(|long| Unopened::Failed(Failure::hello_too_long(long)))? {
            return Ok(first);
        }
        if !input.unread().is_empty() {
            // Its sender may hold the rest back until the first part is acknowledged.
            from.acknowledge();
        }
        match input.fill(&mut from, &worker.buffers).await {
            Ok(0) => return Ok(FirstBytes::Other),
            Ok(1..) => {}
            Err(_) => return Err(Unopened::Left),
        }
    }
}

/// The service that the newest table has for this connection.
fn service(worker: &Worker, bind: Bind, first: &FirstBytes) -> Option<Rc<ServiceLive>> {
    let view = worker.view();
    let name = match first {
        FirstBytes::Hello { name } => name.as_deref(),
        FirstBytes::Other => None,
    };
    worker.service(&view, view.table.named(bind, name)?)
}

fn has_default(worker: &Worker, bind: Bind) -> bool {
    worker.view().table.takes_rest(bind).is_some()
}

/// Tells a TLS client that nobody has the name that it asks for; why there is nothing to serve.
fn unserved(stream: &TcpStream, first: &FirstBytes, input: &Input) -> Unopened {
    let why = match first {
        FirstBytes::Other if input.unread().is_empty() => return Unopened::Left,
        FirstBytes::Other => "it speaks no TLS, and no service there is without sni".to_owned(),
        FirstBytes::Hello { name } => {
            // The connection is over, whether or not the client can be told.
            let _ = stream.try_write(&UNRECOGNIZED_NAME);
            match name {
                Some(name) => format!("no service there has the server name {:?}", &**name),
                None => "it names no server, and no service there is without sni".to_owned(),
            }
        }
    };
    Unopened::Failed(Failure::unserved(why))
}
