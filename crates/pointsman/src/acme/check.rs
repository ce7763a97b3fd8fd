//! Whether a name leads to a balancer of this fleet, before an authority is asked for its certificate: looks the name up
//! and asks each address for an answer that only balancers know. Asks no authority, never tries again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pointsman_table::{CHALLENGE_PATH, shown};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::book::Probe;
use super::order::Trouble;
use crate::names::Lookup;

/// How long one address may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Most addresses of a name that are asked.
const MOST_ADDRESSES: usize = 8;
/// The longest answer that is read, bytes.
const LONGEST_ANSWER: usize = 4096;

/// Asks all addresses of a name, at this port. One that cannot be reached from here is passed over if another one answers.
///
/// # Errors
/// There is no such name, none of its addresses answers, or one answers as no balancer of this fleet does.
pub(super) async fn leads_here(lookup: &Lookup, (name, port): (&str, u16), probe: &Probe) -> Result<(), Trouble> {
    let right = "make it lead to the balancers, or set config/acme/check to false if it does and they cannot see that";
    let elsewhere = |seen: String| Trouble::elsewhere(format!("not asked for: {seen}; {right}"));
    let addresses = lookup.addresses(name).await;
    let addresses = addresses.map_err(|why| elsewhere(format!("{name} cannot be looked up: {why}")))?;
    let asked = addresses.iter().take(MOST_ADDRESSES).map(|address| ask(*address, (name, port), &probe.token));
    let (mut failures, mut is_here) = (Vec::new(), false);
    for (address, said) in addresses.iter().zip(join_all(asked).await) {
        match said {
            Ok((200, body)) if body.trim_ascii_end() == probe.answer.as_bytes() => is_here = true,
            Ok((status, _)) => {
                let path = format!("http://{name}{CHALLENGE_PATH}{}", probe.token);
                let seen = format!("{name} leads to {address}, which answers {path} with {status}");
                return Err(elsewhere(format!("{seen} and not as a balancer of this fleet does")));
            }
            Err(error) => failures.push(format!("{address} ({})", shown(&format!("{error:#}")))),
        }
    }
    match is_here {
        true => Ok(()),
        false => {
            Err(elsewhere(format!("{name} leads to {}, and port {port} does not answer there", failures.join(", "))))
        }
    }
}

/// The status and body that this address answers with.
async fn ask(address: IpAddr, (name, port): (&str, u16), token: &str) -> anyhow::Result<(u16, Bytes)> {
    let asked = async {
        let stream = TcpStream::connect(SocketAddr::new(address, port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let host = if port == 80 { name.to_owned() } else { format!("{name}:{port}") };
        let request = http::Request::get(format!("{CHALLENGE_PATH}{token}"))
            .header("Host", host)
            .header("Cache-Control", "no-cache")
            .header("Connection", "close");
        let answer = async {
            let (parts, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
            // A long answer is not ours, whatever it is.
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.map(|body| body.to_bytes());
            anyhow::Ok((parts.status.as_u16(), body.unwrap_or_default()))
        };
        let answer = answer.await;
        connection.abort();
        answer
    };
    match timeout(WITHIN, asked).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer within {} s", WITHIN.as_secs()),
    }
}
