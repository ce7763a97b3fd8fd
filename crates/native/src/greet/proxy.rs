//! PROXY headers ahead of a connection. Decides nothing about who may send one.

use pointsman_wire::parse_proxy;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::opening::{Failure, Opening, Unopened};
use crate::fault::Fault;
use crate::net::peer::Ends;
use crate::worker::Worker;

/// How much of a PROXY header is looked at together, bytes: most are shorter.
const PIECE: usize = 256;

/// Takes the PROXY header that a connection begins with, and not a byte behind it. Returns the client that it names and
/// the port that this client connected to, else those of the connection. `None`: there is none, and the connection is
/// over.
pub(crate) async fn proxied(worker: &Worker, stream: &mut TcpStream, ends: Ends) -> Option<Ends> {
    let opening = Opening::new(worker, (Fault::ProxyTimeout, "PROXY header"));
    match opening.run(proxy_header(stream)).await.and_then(|read| read) {
        Ok(named) => Some(named.unwrap_or(ends)),
        Err(Unopened::Left) => None,
        Err(Unopened::Failed(failure)) => {
            failure.count(worker, ends.client.ip());
            None
        }
    }
}

/// Reads a PROXY header. `None`: the addresses of the connection itself hold.
async fn proxy_header(stream: &mut TcpStream) -> Result<Option<Ends>, Unopened> {
    let mut header = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        let count = stream.peek(&mut piece).await.unwrap_or_default();
        if count == 0 {
            return Err(Unopened::Left);
        }
        let before = header.len();
        header.extend_from_slice(&piece[..count]);
        let parsed = parse_proxy(&header).map_err(|bad| Unopened::Failed(Failure::header(bad)))?;
        // An incomplete header holds nothing that belongs to the connection.
        let end = parsed.map_or(header.len(), |parsed| parsed.len);
        stream.read_exact(&mut piece[..end - before]).await.map_err(|_| Unopened::Left)?;
        if let Some(parsed) = parsed {
            let ends = |(client, local)| Ends { client, local: Some(local) };
            return Ok(parsed.addresses().map(ends));
        }
    }
}
