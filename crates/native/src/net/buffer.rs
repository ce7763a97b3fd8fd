//! Buffers: taken from the worker's pool when bytes are there, given back when they are gone.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::ready;

use tokio::io::AsyncReadExt as _;

use crate::net::stream::ReadHalf;

/// What is read at once, bytes: a head and a small body.
const PAGE: usize = 16 * 1024;
/// What a buffer may grow to while a body fills it at every read, bytes.
const LARGE: usize = 64 * 1024;
/// What one may have grown to and still be kept, bytes: what is read at once in another framing.
const MOST: usize = 2 * LARGE;
/// What most request heads need, bytes: one is kept for every request that waits for its answer.
const HEAD: usize = 2 * 1024;
/// How many free buffers of each size a worker keeps: 8, 4 and 2 MiB at most.
const KEPT_HEADS: usize = 4096;
const KEPT_PAGES: usize = 256;
const KEPT_LARGE: usize = 32;

/// A worker's pool of empty buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    heads: RefCell<Vec<Vec<u8>>>,
    pages: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer to read into or to write from.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.pages.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(PAGE))
    }

    /// An empty buffer for a head that is kept.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(HEAD))
    }

    fn take_large(&self) -> Vec<u8> {
        self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// Gives a buffer back. One that grew much, or that is one too many, goes to the allocator.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let (pool, kept) = match buffer.capacity() {
            HEAD..PAGE => (&self.heads, KEPT_HEADS),
            PAGE..LARGE => (&self.pages, KEPT_PAGES),
            LARGE..=MOST => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut pool = pool.borrow_mut();
        if pool.len() < kept {
            buffer.clear();
            pool.push(buffer);
        }
    }
}

/// Bytes read and not yet used. Holds no memory while empty and idle.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    /// What was read and not used yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Marks bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len(), "more used than read");
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Reads once. 0 bytes is the end of the stream. Memory is taken when there is something to read, and given back if
    /// there was not after all.
    pub(crate) async fn fill(&mut self, from: &mut ReadHalf<'_>, pool: &Buffers) -> io::Result<usize> {
        poll_fn(|context| {
            ready!(from.poll_readable(context))?;
            self.make_room(pool);
            let read = pin!(from.read_buf(&mut self.bytes)).poll(context);
            if read.is_pending() {
                self.release(pool);
            }
            read
        })
        .await
    }

    fn make_room(&mut self, pool: &Buffers) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        if self.bytes.len() < self.bytes.capacity() {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        } else {
            self.bytes.reserve(self.bytes.capacity());
        }
    }

    /// Before the next read of a long body: a larger buffer makes fewer reads.
    pub(crate) fn grow_for_bulk(&mut self, pool: &Buffers) {
        if self.bytes.is_empty() && (1..LARGE).contains(&self.bytes.capacity()) {
            pool.give(std::mem::replace(&mut self.bytes, pool.take_large()));
        }
    }

    /// Forgets what is unread and gives the memory back.
    pub(crate) fn discard(&mut self, pool: &Buffers) {
        self.consume(self.unread().len());
        self.release(pool);
    }

    /// Gives the memory back if nothing is unread.
    pub(crate) fn release(&mut self, pool: &Buffers) {
        if self.unread().is_empty() && self.bytes.capacity() > 0 {
            self.start = 0;
            pool.give(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;
    use crate::net::stream::Stream;

    /// A connection on which these bytes have come, and then its end.
    async fn stream(bytes: &[u8]) -> Stream {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(bytes).await.unwrap();
        Stream::Unix(far)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn fills_consumes_and_releases() {
        let pool = Buffers::default();
        let mut input = Input::default();
        let mut source = stream(b"hello world").await;
        assert_eq!(input.fill(&mut source.split().0, &pool).await.unwrap(), 11);
        input.consume(6);
        assert_eq!(input.unread(), b"world");
        input.release(&pool);
        assert_eq!(input.unread(), b"world", "unread bytes are kept");
        input.consume(5);
        input.release(&pool);
        assert_eq!(pool.pages.borrow().len(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_buffer_makes_room_without_losing_bytes() {
        let pool = Buffers::default();
        let mut input = Input::default();
        let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let mut source = stream(&data).await;
        input.fill(&mut source.split().0, &pool).await.unwrap();
        input.consume(5);
        while input.fill(&mut source.split().0, &pool).await.unwrap() > 0 {}
        assert_eq!(input.unread(), &data[5..]);
    }

    #[test]
    fn buffers_return_to_their_own_pool() {
        let pool = Buffers::default();
        pool.give(pool.take());
        pool.give(pool.take_head());
        pool.give(pool.take_large());
        pool.give(Vec::with_capacity(MOST + 1));
        let counts = [&pool.heads, &pool.pages, &pool.large].map(|free| free.borrow().len());
        assert_eq!(counts, [1, 1, 1]);
    }
}
