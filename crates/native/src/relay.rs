//! Relays bytes both ways between two connections until both sides are done: TCP services, and HTTP tunnels after 101.
//! Looks at no byte. An end on one side is passed on to the other, which may go on sending.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::net::buffer::{Buffers, Input};
use crate::net::deadline::Deadline;
use crate::net::stream::{ReadHalf, Stream, WriteHalf};
use crate::pool::view::Reached;
use crate::record::Meter;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides said they were done.
    Done,
    /// One side broke the connection, nothing moved for the idle limit, or the instance left the table and its time to
    /// finish is over: both sides are told by a reset.
    Broken,
}

/// What a relay needs besides the two connections.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    pub(crate) pool: &'a Buffers,
    pub(crate) deadline: &'a Deadline,
    pub(crate) instance: Reached<'a>,
    /// Longest time without a byte either way.
    pub(crate) idle: Duration,
}

impl Relay<'_> {
    /// Relays until both sides are done. `from_client` and `from_instance` are bytes already read, sent first.
    pub(crate) async fn run(
        &self,
        client: &mut Stream,
        from_client: &[u8],
        instance: &mut Stream,
        from_instance: &[u8],
    ) -> End {
        let meter = Meter::of(self.instance.live);
        let last = Cell::new(self.deadline.now());
        let (client_read, client_write) = client.split();
        let (instance_read, instance_write) = instance.split();
        let up = self.one_way(client_read, from_client, instance_write, &last, |count| meter.up(count));
        let down = self.one_way(instance_read, from_instance, client_write, &last, |count| meter.down(count));
        let both = async { tokio::try_join!(up, down) };
        let ends = || self.deadline.later(last.get(), self.idle).min(self.instance.expires());
        match self.deadline.watched(ends, both).await {
            Ok(Ok(_)) => End::Done,
            Ok(Err(_)) | Err(_) => End::Broken,
        }
    }

    async fn one_way(
        &self,
        mut from: ReadHalf<'_>,
        first: &[u8],
        mut to: WriteHalf<'_>,
        last: &Cell<u64>,
        count: impl Fn(usize),
    ) -> io::Result<()> {
        count(first.len());
        to.write_all(first).await?;
        let mut input = Input::default();
        loop {
            let read = input.fill(&mut from, self.pool).await?;
            last.set(self.deadline.now());
            count(read);
            write_moving(&mut to, input.unread(), last, self.deadline).await?;
            input.discard(self.pool);
            if read == 0 {
                // Fails only when the other side is gone already, which its own direction reports.
                let _ = to.shutdown().await;
                return Ok(());
            }
        }
    }
}

/// As `write_all`, each step counting as activity.
async fn write_moving(to: &mut WriteHalf<'_>, mut bytes: &[u8], last: &Cell<u64>, clock: &Deadline) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = to.write(bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
        last.set(clock.now());
    }
    Ok(())
}
