//! `pointsman health`: asks the balancer on --admin whether it is ready, for supervisors. Reads no store.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::bail;
use http::StatusCode;

use super::Outcome;
use super::ask::{Answer, page};

/// Prints the balancer's answer on `out`. Not ready is [`Outcome::No`], not an error.
///
/// # Errors
/// Nothing answers, or something other than a balancer does; or `out` is closed.
pub async fn health(admin: Option<SocketAddr>, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let Some(address) = admin else {
        bail!("--admin: it is off, so nothing can answer");
    };
    let Answer::Running((status, body)) = page(admin, "/readyz").await? else {
        bail!("--admin: nothing answers on {address}");
    };
    let outcome = match status {
        StatusCode::OK => Outcome::Yes,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::No,
        _ => bail!("--admin: the server on {address} is not a balancer: {status}"),
    };
    writeln!(out, "{}", String::from_utf8_lossy(&body).trim_end())?;
    out.flush()?;
    Ok(outcome)
}
