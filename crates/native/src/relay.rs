//! Relays bytes both ways between two connections until both sides are done: TCP services, and HTTP tunnels after 101.
//! Does not look at the bytes. The end of one direction is passed on; the other may go on.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::access::{Noted, Severed};
use crate::net::buffer::{Buffers, Input};
use crate::net::deadline::Deadline;
use crate::net::pace::Pace;
use crate::net::send::send_moving;
use crate::net::stream::{ReadHalf, Stream, WriteHalf};
use crate::pool::view::Reached;
use crate::record::Meter;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides ended their direction.
    Done,
    /// One side broke the connection, nothing moved for the idle limit, or the instance left the table and its time to
    /// finish is over. The instance gets a reset; the caller resets the client once it has what was written to it.
    Broken,
}

/// What a relay needs besides the two connections.
#[derive(Debug)]
pub(crate) struct Relay<'a> {
    pub(crate) pool: &'a Buffers,
    pub(crate) deadline: &'a Deadline,
    pub(crate) instance: Reached<'a>,
    /// Longest time in which no byte comes and none is acknowledged.
    pub(crate) idle: Duration,
    /// What is noted for the access log.
    pub(crate) noted: Option<&'a Noted>,
}

impl Relay<'_> {
    /// Relays until both sides are done, or one broke the connection, or nothing moved for the idle limit, or the instance
    /// left the table and its time to finish is over. What the inputs hold is sent first.
    pub(crate) async fn run(
        &self,
        client: &mut Stream,
        from_client: &mut Input,
        instance: &mut Stream,
        from_instance: &mut Input,
    ) -> End {
        let meter = Meter::of(self.instance.live, self.noted);
        let moved = Cell::new(self.deadline.now());
        let (up, down) = (self.pace(&moved), self.pace(&moved));
        let ends = || up.late().min(self.instance.expires());
        let every = up.every();
        let both = async {
            let (client_read, client_write) = client.split();
            let (instance_read, instance_write) = instance.split();
            tokio::try_join!(
                self.one_way(
                    client_read,
                    from_client,
                    instance_write,
                    (&up, [Severed::Client, Severed::Instance]),
                    |count| meter.up(count)
                ),
                self.one_way(
                    instance_read,
                    from_instance,
                    client_write,
                    (&down, [Severed::Instance, Severed::Client]),
                    |count| meter.down(count)
                ),
            )
        };
        match self.deadline.looking(|| every, ends, both).await {
            Ok(Ok(_)) => End::Done,
            broken => {
                if let (Some(noted), Err(_)) = (self.noted, &broken) {
                    let is_removed = self.instance.expires() <= self.deadline.now();
                    noted.sever(if is_removed { Severed::Removed } else { Severed::Idle });
                }
                instance.reset_on_close();
                End::Broken
            }
        }
    }

    fn pace<'t>(&'t self, moved: &'t Cell<u64>) -> Pace<'t> {
        Pace::new(self.deadline, moved, self.idle)
    }

    /// Notes which side broke the connection.
    fn see<T>(&self, outcome: &io::Result<T>, side: Severed) {
        if let (Some(noted), Err(_)) = (self.noted, outcome) {
            noted.sever(side);
        }
    }

    async fn one_way(
        &self,
        mut from: ReadHalf<'_>,
        input: &mut Input,
        mut to: WriteHalf<'_>,
        (pace, [source, sink]): (&Pace<'_>, [Severed; 2]),
        count: impl Fn(usize),
    ) -> io::Result<()> {
        loop {
            count(input.unread().len());
            let sent = send_moving(&mut to, input.unread(), pace).await;
            self.see(&sent, sink);
            sent?;
            input.discard(self.pool);
            let read = pace.watching(&to, input.fill(&mut from, self.pool)).await;
            self.see(&read, source);
            let read = read?;
            pace.moved();
            if read == 0 {
                // Fails only when the other side is gone already, which its own direction reports.
                let _ = to.shutdown().await;
                return Ok(());
            }
        }
    }
}
