//! Sends bytes for as long as the other side makes progress. Reads nothing.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::net::deadline::{Deadline, TICK, millis};
use crate::net::pace::Pace;
use crate::net::stream::{Stream, Written};

/// Sends all bytes.
///
/// # Errors
/// Those of the connection; [`io::ErrorKind::TimedOut`] when the other side acknowledged nothing for `limit`.
pub(crate) async fn send<W: AsyncWrite + Unpin + Written>(
    deadline: &Deadline,
    limit: Duration,
    to: &mut W,
    bytes: &[u8],
) -> io::Result<()> {
    send_until(deadline, (limit, || u64::MAX), to, bytes).await
}

/// As [`send`], but until `ends`, coarse time, at the latest.
pub(crate) async fn send_until<W: AsyncWrite + Unpin + Written>(
    deadline: &Deadline,
    (limit, ends): (Duration, impl Fn() -> u64),
    to: &mut W,
    bytes: &[u8],
) -> io::Result<()> {
    match write_at_once(to, bytes).await? {
        count if count == bytes.len() => Ok(()),
        // Boxed, as few sends get here: otherwise every connection would hold the memory for the wait.
        count => Box::pin(send_all(deadline, (limit, ends), to, &bytes[count..])).await,
    }
}

/// Writes what there is room for, and does not wait. Returns how many bytes were written.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn write_at_once<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|context| match Pin::new(&mut *to).poll_write(context, bytes) {
        Poll::Pending => Poll::Ready(Ok(0)),
        written => written,
    })
    .await
}

/// Sends bytes that a first write had no room for. As [`send_until`].
pub(crate) async fn send_all<W: AsyncWrite + Unpin + Written>(
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

/// Sends all bytes, and notes when they move. The caller decides how long they may stand still.
///
/// # Errors
/// Those of the connection.
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

/// How long written bytes may take to arrive after everything else is over.
pub(crate) const SETTLE: Duration = Duration::from_secs(30);

/// Waits until the other side has acknowledged all written bytes, for [`SETTLE`] at most and only until `is_evicted`:
/// an earlier reset would destroy them.
pub(crate) async fn settle(deadline: &Deadline, connection: &Stream, is_evicted: &dyn Fn() -> bool) {
    let waiting = || connection.is_settling() && !is_evicted();
    let settled = poll_fn(|_| if waiting() { Poll::Pending } else { Poll::Ready(()) });
    let until = deadline.after(SETTLE);
    // What has not arrived by then is lost.
    let _ = deadline.looking(|| millis(TICK), || until, settled).await;
}
