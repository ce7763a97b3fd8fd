//! What a client's frames cost us, against what they move: the library below answers any number of pings, settings and
//! resets. Looks at the headers of frames only; ends nothing itself.
//!
//! Every connection has [`MOST`] points. Frames that move no body take some; time, requests and bodies bring them back. A client
//! without points has flooded its connection, and nothing more of it is read.

use std::cell::Cell;

/// The points of a connection that is quiet.
const MOST: u64 = 5_000;
/// How many come back in a second.
const PER_SECOND: u64 = 500;
/// How many bytes, either way, bring one back.
const BYTES: u64 = 64;
/// How many a request brings back. A client of gRPC opens a window with each of its calls, and one with thousands a second
/// is no flood.
const REQUEST: u64 = 2;
/// A request that is given up costs more than a frame: an instance may have begun to work for it (CVE-2023-44487).
const RESET: u64 = 10;
/// The client's preface without its frame, bytes (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// What a client did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// Its first frame is no SETTINGS frame.
    NoSettings,
    /// Too many frames that move nothing.
    Flood,
}

/// Watches the frames of one client.
#[derive(Debug)]
pub(crate) struct Glitches {
    frames: Cell<FrameReader>,
    points: Cell<u64>,
    /// When points last came back, coarse time.
    since: Cell<u64>,
    /// Points that were taken, and not yet counted.
    taken: Cell<u64>,
    breach: Cell<Option<Breach>>,
    /// HEADERS frames: each begins a request, or ends one.
    heads: Cell<u64>,
}

/// Where the bytes that were read last end.
#[derive(Clone, Copy, Debug)]
struct FrameReader {
    /// The beginning of the next frame's header, and how many bytes of it have come.
    header: [u8; HEADER],
    have: usize,
    /// How much of the current payload has not come.
    left: usize,
    /// It is the preface that is left.
    is_first: bool,
}

/// The length of a frame's header, bytes.
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

impl Glitches {
    /// `now`: coarse time.
    pub(crate) fn new(now: u64) -> Self {
        let frames = FrameReader { header: [0; HEADER], have: 0, left: PREFACE, is_first: true };
        Self {
            frames: Cell::new(frames),
            points: Cell::new(MOST),
            since: Cell::new(now),
            taken: Cell::new(0),
            breach: Cell::default(),
            heads: Cell::default(),
        }
    }

    /// What ends the connection, if anything does.
    pub(crate) fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// Points that were taken since the last call.
    pub(crate) fn take(&self) -> u64 {
        self.taken.take()
    }

    /// How many HEADERS frames have come: no more requests than these.
    pub(crate) fn heads(&self) -> u64 {
        self.heads.get()
    }

    /// Bytes were sent to the client.
    pub(crate) fn sent(&self, count: usize) {
        self.give(count as u64 / BYTES);
    }

    /// These bytes came from the client.
    pub(crate) fn came(&self, mut bytes: &[u8], now: u64) {
        let back = now.saturating_sub(self.since.get()) * PER_SECOND / 1_000;
        if back > 0 {
            self.give(back);
            self.since.set(now);
        }
        let mut frames = self.frames.get();
        while let Some((kind, flags, length)) = frames.next(&mut bytes) {
            if frames.is_first && kind != SETTINGS {
                self.breach.set(Some(Breach::NoSettings));
            }
            frames.is_first = false;
            self.judge(kind, flags, length);
        }
        self.frames.set(frames);
    }

    fn judge(&self, kind: u8, flags: u8, length: usize) {
        let cost = match kind {
            DATA if length > 0 => return self.give(length as u64 / BYTES),
            DATA if flags & END_STREAM != 0 => 0,
            // The library below bounds them, and the requests that it refuses.
            HEADERS => {
                self.heads.set(self.heads.get() + 1);
                return self.give(REQUEST);
            }
            CONTINUATION => 0,
            RST_STREAM => RESET,
            _ => 1,
        };
        self.taken.set(self.taken.get() + cost);
        match self.points.get().checked_sub(cost) {
            Some(left) => self.points.set(left),
            None => self.breach.set(self.breach.get().or(Some(Breach::Flood))),
        }
    }

    fn give(&self, points: u64) {
        self.points.set(self.points.get().saturating_add(points).min(MOST));
    }
}

impl FrameReader {
    /// Goes on to the next header; returns type, flags and length of its frame. `None`: the bytes are used up.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<(u8, u8, usize)> {
        let skipped = self.left.min(bytes.len());
        (*bytes, self.left) = (&bytes[skipped..], self.left - skipped);
        let count = (HEADER - self.have).min(bytes.len());
        let (more, rest) = bytes.split_at(count);
        self.header[self.have..self.have + count].copy_from_slice(more);
        (*bytes, self.have) = (rest, self.have + count);
        if self.have < HEADER {
            return None;
        }
        let [high, middle, low, kind, flags, ..] = self.header;
        self.have = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some((kind, flags, self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that has begun.
    fn begun() -> Glitches {
        let glitches = Glitches::new(0);
        glitches.came(&[0; PREFACE], 0);
        glitches.came(&frame(SETTINGS, 0, 0), 0);
        assert_eq!((glitches.take(), glitches.breach()), (1, None));
        glitches
    }

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + length, 0xff);
        frame
    }

    #[test]
    fn each_frame_has_its_cost() {
        for (kind, flags, length, cost) in [
            (DATA, 0, 0, 1),
            (DATA, END_STREAM, 0, 0),
            (DATA, 0, 1, 0),
            (HEADERS, 0, 20, 0),
            (CONTINUATION, 0, 0, 0),
            (2, 0, 5, 1),
            (RST_STREAM, 0, 4, RESET),
            (SETTINGS, 1, 0, 1),
            (6, 0, 8, 1),
            (8, 0, 4, 1),
            (200, 0, 30, 1),
        ] {
            let glitches = begun();
            glitches.came(&frame(kind, flags, length), 0);
            assert_eq!(glitches.take(), cost, "type {kind}");
        }
    }

    #[test]
    fn frames_may_come_in_any_pieces() {
        let bytes: Vec<u8> = [(6, 8), (DATA, 300), (8, 4), (HEADERS, 0), (RST_STREAM, 4)]
            .into_iter()
            .flat_map(|(kind, length)| frame(kind, 0, length))
            .collect();
        for size in 1..40 {
            let glitches = begun();
            bytes.chunks(size).for_each(|piece| glitches.came(piece, 0));
            assert_eq!((glitches.take(), glitches.heads()), (12, 1), "{size} bytes at a time");
        }
    }

    #[test]
    fn a_flood_takes_all_points() {
        let glitches = begun();
        for _ in 1..MOST {
            glitches.came(&frame(6, 0, 8), 0);
        }
        assert_eq!(glitches.breach(), None);
        glitches.came(&frame(6, 0, 8), 0);
        assert_eq!(glitches.breach(), Some(Breach::Flood));
    }

    #[test]
    fn a_client_that_opens_a_window_with_each_request_is_no_flood() {
        let glitches = begun();
        for _ in 0..3 * MOST {
            [frame(8, 0, 4), frame(HEADERS, 4, 5), frame(DATA, END_STREAM, 6)]
                .iter()
                .for_each(|one| glitches.came(one, 0));
        }
        assert_eq!(glitches.breach(), None);
    }

    #[test]
    fn time_and_bodies_bring_points_back() {
        let back: [fn(&Glitches); 3] = [
            |glitches| glitches.came(&[], 1_000),
            |glitches| glitches.sent((PER_SECOND * BYTES) as usize),
            |glitches| glitches.came(&frame(DATA, 0, (PER_SECOND * BYTES) as usize), 0),
        ];
        for back in back {
            let glitches = begun();
            glitches.points.set(0);
            back(&glitches);
            assert_eq!(glitches.points.get(), PER_SECOND);
        }
    }

    #[test]
    fn the_first_frame_is_settings() {
        let glitches = Glitches::new(0);
        glitches.came(&[0; PREFACE], 0);
        glitches.came(&frame(6, 0, 8), 0);
        assert_eq!(glitches.breach(), Some(Breach::NoSettings));
    }
}
