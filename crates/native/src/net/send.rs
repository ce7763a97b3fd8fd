//! Sends bytes for as long as the other side makes progress. Reads nothing.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::net::deadline::{Deadline, TICK, millis};
use crate::net::pace::Pace;
use crate::net::stream::{Stream, Written};

/// Sends all bytes.
///
/// # Errors
/// What the connection said; [`io::ErrorKind::TimedOut`] when the other side acknowledged nothing for `limit`.
pub(crate) async fn send<W: AsyncWrite + Unpin + Written>(
    deadline: &Deadline,
    limit: Duration,
    to: &mut W,
    bytes: &[u8],
) -> io::Result<()> {
    send_until(deadline, (limit, || u64::MAX), to, bytes).await
}

/// As [`send`], and no longer than until `ends`, coarse time.
pub(crate) async fn send_until<W: AsyncWrite + Unpin + Written>(
    deadline: &Deadline,
    (limit, ends): (Duration, impl Fn() -> u64),
    to: &mut W,
    bytes: &[u8],
) -> io::Result<()> {
    let written = poll_fn(|context| Poll::Ready(pin!(to.write(bytes)).poll(context))).await;
    match written {
        Poll::Ready(Ok(count)) if count == bytes.len() => Ok(()),
        Poll::Ready(Err(error)) => Err(error),
        // Few sends get here: their waiting does not belong in the memory of every connection.
        Poll::Ready(Ok(count)) => Box::pin(send_all(deadline, (limit, ends), to, &bytes[count..])).await,
        Poll::Pending => Box::pin(send_all(deadline, (limit, ends), to, bytes)).await,
    }
}

async fn send_all<W: AsyncWrite + Unpin + Written>(
    deadline: &Deadline,
    (limit, ends): (Duration, impl Fn() -> u64),
    to: &mut W,
    bytes: &[u8],
) -> io::Result<()> {
    let moved = Cell::new(deadline.now());
    let pace = Pace::new(deadline, &moved, limit);
    let sent = deadline.looking(|| pace.every(), || pace.late().min(ends()), send_moving(to, bytes, &pace)).await;
    sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends all bytes, and notes when they move. Whoever waits for it decides when that was too long ago.
///
/// # Errors
/// What the connection said.
pub(crate) async fn send_moving<W: AsyncWrite + Unpin + Written>(
    to: &mut W,
    mut bytes: &[u8],
    pace: &Pace<'_>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_once(to, bytes, pace).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
        pace.moved();
    }
    Ok(())
}

async fn write_once<W: AsyncWrite + Unpin + Written>(to: &mut W, bytes: &[u8], pace: &Pace<'_>) -> io::Result<usize> {
    poll_fn(|context| {
        let written = pin!(to.write(bytes)).poll(context);
        if written.is_pending() {
            pace.look(to);
        }
        written
    })
    .await
}

/// How long what was written may take to arrive after all else is over.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);

/// Waits until the other side has acknowledged all that was written, for [`SETTLE`] at most and not once `is_evicted`: a
/// reset before that would take it away.
pub(crate) async fn settle(deadline: &Deadline, connection: &Stream, is_evicted: &dyn Fn() -> bool) {
    let waiting = || connection.is_settling() && !is_evicted();
    let settled = poll_fn(|_| if waiting() { Poll::Pending } else { Poll::Ready(()) });
    let until = deadline.after(SETTLE);
    // What has not arrived by then is lost.
    let _ = deadline.looking(|| millis(TICK), || until, settled).await;
}
