//! Sends bytes with a limit on every step. Reads nothing.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::net::deadline::Deadline;

/// Sends all bytes, each step within `limit`.
///
/// # Errors
/// What the connection said; [`io::ErrorKind::TimedOut`] when the other side did not read for so long.
pub(crate) async fn send<W: AsyncWrite + Unpin>(
    deadline: &Deadline,
    limit: Duration,
    to: &mut W,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match deadline.within(limit, to.write(bytes)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}
