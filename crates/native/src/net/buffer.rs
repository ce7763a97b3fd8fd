//! Buffers: taken from the worker's pool when bytes are there, given back when they are gone.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BufMut as _;
use tokio::io::AsyncReadExt as _;

use crate::net::stream::ReadHalf;

/// Enough for most heads, bytes: the size of a client's first read, and of the buffer that keeps the head for the
/// instance until its response is there.
const HEAD: usize = 2 * 1024;
/// The most that the first read of a response brings while its client leaves much untaken, bytes: a head, and little of
/// the body.
const START: usize = 512;
/// The size of one read of a longer message, bytes.
const PAGE: usize = 16 * 1024;
/// The same while a body fills that size at every read, bytes.
const LARGE: usize = 64 * 1024;
/// The largest capacity at which each is still kept, bytes: it has room for one read in another framing.
const TWO_HEADS: usize = 2 * HEAD;
const TWO_PAGES: usize = 2 * PAGE;
const TWO_LARGE: usize = 2 * LARGE;
/// How many free buffers of each size a worker keeps: 8, 4 and 2 MiB, unless some have grown.
const KEPT_HEADS: usize = 4096;
const KEPT_PAGES: usize = 256;
const KEPT_LARGE: usize = 32;

/// Sizes of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Size {
    /// A head.
    Head,
    /// Some body.
    Page,
    /// A long body.
    Large,
}

impl Size {
    /// Bytes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Head => HEAD,
            Self::Page => PAGE,
            Self::Large => LARGE,
        }
    }

    /// The size as which a buffer is kept. `None`: it is not ours, or grew too large to be kept.
    fn of(buffer: &Vec<u8>) -> Option<Self> {
        match buffer.capacity() {
            HEAD..=TWO_HEADS => Some(Self::Head),
            PAGE..=TWO_PAGES => Some(Self::Page),
            LARGE..=TWO_LARGE => Some(Self::Large),
            _ => None,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Head => Self::Page,
            Self::Page | Self::Large => Self::Large,
        }
    }
}

/// A worker's pool of empty buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    heads: Free,
    pages: Free,
    large: Free,
}

/// Free buffers of one size.
#[derive(Debug, Default)]
struct Free {
    buffers: RefCell<Vec<Vec<u8>>>,
    /// The fewest that were free since the last trim: that many are not needed.
    fewest: Cell<usize>,
}

impl Free {
    fn take(&self) -> Option<Vec<u8>> {
        let mut buffers = self.buffers.borrow_mut();
        let buffer = buffers.pop();
        self.fewest.set(self.fewest.get().min(buffers.len()));
        buffer
    }

    /// Frees half of those that were not needed since the last trim; returns how many.
    fn trim(&self) -> usize {
        let mut buffers = self.buffers.borrow_mut();
        let surplus = self.fewest.get().div_ceil(2);
        let left = buffers.len() - surplus;
        buffers.truncate(left);
        self.fewest.set(left);
        surplus
    }
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self, size: Size) -> Vec<u8> {
        self.free(size).take().unwrap_or_else(|| Vec::with_capacity(size.bytes()))
    }

    /// Gives a buffer back. One that grew too large, or that is more than are kept, goes to the allocator.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let Some(size) = Size::of(&buffer) else { return };
        let kept = match size {
            Size::Head => KEPT_HEADS,
            Size::Page => KEPT_PAGES,
            Size::Large => KEPT_LARGE,
        };
        let mut free = self.free(size).buffers.borrow_mut();
        if free.len() < kept {
            buffer.clear();
            free.push(buffer);
        }
    }

    /// Frees half of the buffers that were not needed since the last trim; returns how many bytes.
    pub(crate) fn trim(&self) -> usize {
        [Size::Head, Size::Page, Size::Large].map(|size| self.free(size).trim() * size.bytes()).iter().sum()
    }

    fn free(&self, size: Size) -> &Free {
        match size {
            Size::Head => &self.heads,
            Size::Page => &self.pages,
            Size::Large => &self.large,
        }
    }
}

/// Bytes read and not yet used. Holds no memory while there are none and none come.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    /// How much is read at once: more after a read that filled the buffer.
    size: Size,
    /// The most that may be read at once, where others decide it.
    most: Option<Rc<Cell<Size>>>,
    /// Something was read.
    begun: bool,
}

impl Input {
    /// Nothing was read yet.
    pub(crate) fn new(size: Size) -> Self {
        Self { bytes: Vec::new(), start: 0, size, most: None, begun: false }
    }

    /// As [`Input::new`]. `most`: how much may be read at once, at the moment of each read.
    pub(crate) fn bounded(size: Size, most: Rc<Cell<Size>>) -> Self {
        Self { most: Some(most), ..Self::new(size) }
    }

    /// Bytes that were read and not used yet.
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

    /// Reads once. 0 bytes is the end of the stream. Memory is taken when there is something to read.
    pub(crate) async fn fill(&mut self, from: &mut ReadHalf<'_>, pool: &Buffers) -> io::Result<usize> {
        let mut waited = false;
        poll_fn(|context| self.poll_fill(from, pool, &mut waited, context)).await
    }

    /// As [`Input::fill`]. `waited`: it was polled before, so there is probably something to read by now.
    pub(crate) fn poll_fill(
        &mut self,
        from: &mut ReadHalf<'_>,
        pool: &Buffers,
        waited: &mut bool,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if !std::mem::replace(waited, true) && from.poll_readable(context)?.is_pending() {
            self.release(pool);
            return Poll::Pending;
        }
        self.make_room(pool);
        let most = self.most_now();
        let read = pin!(from.read_buf(&mut (&mut self.bytes).limit(most))).poll(context);
        self.begun |= read.is_ready();
        match read {
            Poll::Ready(_) if self.bytes.len() == self.bytes.capacity() => self.size = self.size.next(),
            Poll::Ready(_) => {}
            Poll::Pending => self.release(pool),
        }
        read
    }

    /// The most that the next read may bring, bytes.
    fn most_now(&self) -> usize {
        match &self.most {
            Some(most) if !self.begun && most.get() < Size::Large => START,
            _ => usize::MAX,
        }
    }

    fn make_room(&mut self, pool: &Buffers) {
        if let Some(most) = &self.most {
            self.size = self.size.min(most.get());
        }
        if self.bytes.capacity() < self.size.bytes() && self.bytes.is_empty() {
            pool.give(std::mem::replace(&mut self.bytes, pool.take(self.size)));
        }
        if self.bytes.len() < self.bytes.capacity() {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        } else {
            self.bytes.reserve(self.size.bytes());
        }
    }

    /// The unread bytes.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }

    /// Discards unread bytes and gives the memory back.
    pub(crate) fn discard(&mut self, pool: &Buffers) {
        self.consume(self.unread().len());
        self.release(pool);
    }

    /// Prepares for a pause: gives the memory back if nothing is unread, and reads a page at most when bytes come.
    pub(crate) fn rest(&mut self, pool: &Buffers) {
        self.release(pool);
        self.size = self.size.min(Size::Page);
    }

    /// The unread bytes, for another reader.
    pub(crate) fn into_unread(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
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
        let mut input = Input::new(Size::Head);
        let mut source = stream(b"hello world").await;
        assert_eq!(input.fill(&mut source.split().0, &pool).await.unwrap(), 11);
        input.consume(6);
        assert_eq!(input.unread(), b"world");
        input.release(&pool);
        assert_eq!(input.unread(), b"world", "unread bytes are kept");
        input.consume(5);
        input.release(&pool);
        assert_eq!(pool.heads.buffers.borrow().len(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_buffer_makes_room_without_losing_bytes() {
        let pool = Buffers::default();
        let mut input = Input::new(Size::Head);
        let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let mut source = stream(&data).await;
        input.fill(&mut source.split().0, &pool).await.unwrap();
        input.consume(5);
        while input.fill(&mut source.split().0, &pool).await.unwrap() > 0 {}
        assert_eq!(input.unread(), &data[5..]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_first_read_is_small_while_much_waits() {
        let (pool, mut source) = (Buffers::default(), stream(&[b'x'; 2 * PAGE]).await);
        let mut input = Input::bounded(Size::Page, Rc::new(Cell::new(Size::Page)));
        assert_eq!(input.fill(&mut source.split().0, &pool).await.unwrap(), START);
        assert!(input.fill(&mut source.split().0, &pool).await.unwrap() > START);
        let mut other = Input::bounded(Size::Page, Rc::new(Cell::new(Size::Large)));
        assert!(other.fill(&mut source.split().0, &pool).await.unwrap() > START);
    }

    #[test]
    fn buffers_return_to_their_own_pool() {
        let pool = Buffers::default();
        for size in [Size::Head, Size::Page, Size::Large] {
            pool.give(pool.take(size));
        }
        pool.give(Vec::with_capacity(TWO_LARGE + 1));
        let counts = [&pool.heads, &pool.pages, &pool.large].map(|free| free.buffers.borrow().len());
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn what_is_not_needed_goes_back_half_by_half() {
        let pool = Buffers::default();
        let taken: Vec<_> = (0..8).map(|_| pool.take(Size::Page)).collect();
        taken.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.trim(), 0, "all were needed");
        assert_eq!(pool.trim(), 4 * PAGE);
        let needed = [pool.take(Size::Page), pool.take(Size::Page), pool.take(Size::Page)];
        needed.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.trim(), PAGE, "three of four were needed");
        assert_eq!([(); 3].map(|()| pool.trim()), [2 * PAGE, PAGE, 0]);
    }
}
