//! `pointsman health`: whether the balancer on --admin should get traffic, for whoever supervises it. Reads no store.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::bail;
use http::StatusCode;

use super::Outcome;
use super::ask::{Answer, page};

/// Prints what the balancer says of its readiness on `out`; no is an answer too.
///
/// # Errors
/// Nobody answers, or somebody who is no balancer; or `out` is closed.
pub async fn health(admin: Option<SocketAddr>, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let Some(address) = admin else {
        bail!("--admin: it is off, so there is nobody to ask");
    };
    let Answer::Running((status, body)) = page(admin, "/readyz").await? else {
        bail!("--admin: nobody answers on {address}");
    };
    let outcome = match status {
        StatusCode::OK => Outcome::Yes,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::No,
        _ => bail!("--admin: what answers on {address} is no balancer: {status}"),
    };
    writeln!(out, "{}", String::from_utf8_lossy(&body).trim_end())?;
    out.flush()?;
    Ok(outcome)
}
