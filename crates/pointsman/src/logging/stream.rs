//! A stream with its own writer thread and a bounded queue, so that writing a line never waits for the reader. Counts
//! the lines that found no room. Decides nothing about their content.
//!
//! Not tracing-appender: its queue is bounded in lines but not in bytes, and its count of lost lines reaches no reader.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum bytes that wait for the thread: some 2,000 lines. The thread may hold as many again.
const ROOM: usize = 256 << 10;
/// The most that is written at once, bytes: a pipe takes as much without bytes of another writer in between (`PIPE_BUF`,
/// pipe(7)).
const AT_ONCE: usize = 4096;
/// The pause before the next attempt to write to a full stream that somebody has made non-blocking.
const FULL: Duration = Duration::from_millis(20);
/// The thread does its other work at least this often.
const IDLE: Duration = Duration::from_secs(10);

/// How many lines were lost since the start.
#[derive(Clone, Debug, Default)]
pub struct LostLines(Arc<AtomicU64>);

impl LostLines {
    /// The number now.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

/// The queue of a stream. A write is taken whole or not at all, and never waits.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: LostLines,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<u8>,
    /// Lines lost since the last batch.
    lost: u64,
    /// The thread has a batch that is not written yet.
    writing: bool,
}

/// The thread's next write: lines, and the number of lines lost after them.
struct Batch {
    text: Vec<u8>,
    lost: u64,
}

impl Stream {
    /// Starts the thread, which lives as long as the process. It writes to `sink`, puts `notice` where lines were lost,
    /// and does `chore` from time to time.
    ///
    /// # Errors
    /// The system cannot start another thread.
    pub fn start(
        mut sink: impl Write + Send + 'static,
        notice: fn(u64) -> String,
        chore: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let stream = Self::default();
        let thread = stream.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                if let Some(batch) = thread.next() {
                    thread.pass_on(&mut sink, batch, notice);
                }
                chore();
            }
        })?;
        Ok(stream)
    }

    /// How many lines were lost.
    pub fn lost(&self) -> LostLines {
        self.0.lost.clone()
    }

    /// Waits until everything is written, but no longer than this.
    pub fn finish(&self, within: Duration) {
        let busy = |queue: &mut Queue| queue.writing || !queue.waiting.is_empty();
        // Lines that a stalled reader has not taken by now are lost with the process.
        drop(self.0.changed.wait_timeout_while(self.queue(), within, busy));
    }

    fn add(&self, text: &[u8]) {
        let mut queue = self.queue();
        // Losses do not interleave: after the first line without room, all are lost until the thread has taken the
        // queue.
        if queue.lost == 0 && queue.waiting.len() + text.len() <= ROOM {
            queue.waiting.extend_from_slice(text);
            self.0.changed.notify_all();
        } else {
            let lines = lines(text);
            queue.lost += lines;
            self.0.lost.add(lines);
            self.0.changed.notify_all();
        }
    }

    /// The next batch; `None` if nothing came for a while.
    fn next(&self) -> Option<Batch> {
        let nothing = |queue: &mut Queue| queue.waiting.is_empty() && queue.lost == 0;
        let waited = self.0.changed.wait_timeout_while(self.queue(), IDLE, nothing);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if nothing(&mut queue) {
            return None;
        }
        queue.writing = true;
        Some(Batch { text: std::mem::take(&mut queue.waiting), lost: std::mem::take(&mut queue.lost) })
    }

    fn pass_on(&self, sink: &mut impl Write, Batch { mut text, lost }: Batch, notice: fn(u64) -> String) {
        if lost > 0 {
            text.extend_from_slice(notice(lost).as_bytes());
        }
        if let Err(unwritten) = write_all(sink, &text) {
            self.0.lost.add(lines(&text[text.len() - unwritten..]));
        }
        self.queue().writing = false;
        self.0.changed.notify_all();
    }

    /// No code that holds the lock can panic, so the queue is consistent even if the lock is poisoned.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    /// Does not wait: see [`Stream::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines(text: &[u8]) -> u64 {
    let ends = text.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends).unwrap_or(u64::MAX).max(1)
}

/// The next lines to write to a stream that has other writers: as many whole ones as a pipe takes at once, or one that is
/// longer.
pub(super) fn piece(text: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| *byte == b'\n';
    let most = &text[..text.len().min(AT_ONCE)];
    let end =
        if most.len() == text.len() { Some(text.len()) } else { most.iter().rposition(is_end).map(|end| end + 1) };
    let longer = || text.iter().position(is_end).map_or(text.len(), |end| end + 1);
    &text[..end.unwrap_or_else(longer)]
}

/// Writes all of the text, however long the reader takes. The error is the number of bytes that nobody will read.
fn write_all(sink: &mut impl Write, text: &[u8]) -> Result<(), usize> {
    let mut left = text;
    while !left.is_empty() {
        match sink.write(piece(left)) {
            Ok(0) => return Err(left.len()),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL),
            Err(_) => return Err(left.len()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    use super::*;

    /// A reader that takes one piece each time it is told to.
    struct Slow {
        go: Receiver<()>,
        taken: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
            self.taken.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Stream, Sender<()>, Receiver<String>) {
        let ((go, going), (taken, read)) = (channel(), channel());
        let stream = Stream::start(Slow { go: going, taken }, |lost| format!("{lost} lost\n"), || ()).unwrap();
        (stream, go, read)
    }

    fn held(stream: &Stream) {
        let start = Instant::now();
        while !stream.queue().writing {
            assert!(start.elapsed() < Duration::from_secs(30), "the thread takes nothing");
            std::thread::yield_now();
        }
    }

    #[test]
    fn lines_are_written_in_pieces_that_no_other_writer_tears() {
        let line = format!("{}\n", "x".repeat(99));
        let long = format!("{}\n", "y".repeat(5_000));
        let text = [line.repeat(50), long.clone(), line.clone()].concat();
        let mut left = text.as_bytes();
        let mut lengths = Vec::new();
        while !left.is_empty() {
            lengths.push(piece(left).len());
            left = &left[piece(left).len()..];
        }
        assert_eq!(lengths, [4_000, 1_000, long.len(), line.len()]);
        assert_eq!(piece(b"no end"), b"no end");
    }

    #[test]
    fn lines_without_room_are_counted_and_told_where_they_are_missing() {
        let (mut stream, go, read) = slow();
        stream.write_all(b"first\n").unwrap();
        held(&stream);
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..ROOM / line.len() + 3 {
            stream.write_all(&line).unwrap();
        }
        stream.write_all(b"short, and lost too\n").unwrap();
        assert_eq!(stream.lost().count(), 4);
        // What waited has whole pieces of four lines; then comes the notice.
        let pieces = ROOM / AT_ONCE + 1;
        (0..=pieces).for_each(|_| go.send(()).unwrap());
        assert_eq!(read.recv().unwrap(), "first\n");
        let text: String = (0..pieces).map(|_| read.recv().unwrap()).collect();
        assert_eq!(text.len(), ROOM + "4 lost\n".len());
        assert!(text.ends_with("x\n4 lost\n"));
        stream.write_all(b"room again\n").unwrap();
        go.send(()).unwrap();
        assert_eq!(read.recv().unwrap(), "room again\n");
    }

    #[test]
    fn the_end_waits_for_the_reader_but_not_for_ever() {
        let (mut stream, go, read) = slow();
        stream.write_all(b"last words\n").unwrap();
        stream.finish(Duration::from_millis(10));
        assert!(read.try_recv().is_err());
        go.send(()).unwrap();
        stream.finish(Duration::from_secs(60));
        assert_eq!(read.try_recv().as_deref(), Ok("last words\n"));
    }

    #[test]
    fn what_a_reader_that_left_did_not_read_is_lost() {
        let (mut stream, go, _read) = slow();
        drop(go);
        stream.write_all(b"one\ntwo\n").unwrap();
        stream.finish(Duration::from_secs(60));
        assert_eq!(stream.lost().count(), 2);
    }
}
