//! Bytes in, coded bytes out, with the libraries behind one type. Every level is a fast one, and every window small: a
//! balancer compresses for many at once.

use std::io;

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::Coding;

/// Of 1 to 9.
const GZIP_LEVEL: u32 = 3;
/// Of 0 to 11.
const BROTLI_LEVEL: u32 = 3;
/// Of 1 to 22.
const ZSTD_LEVEL: i32 = 2;
/// The logarithm of how far back repetitions are found: 32 KiB is the most that gzip has.
const GZIP_WINDOW: u8 = 15;
const BROTLI_WINDOW: u32 = 16;
const ZSTD_WINDOW: u32 = 17;
/// How much room there is for the output of one call, at least.
const ROOM: usize = 4 * 1024;

/// A body on its way into a coding.
pub(crate) struct Encoder(Library);

enum Library {
    Zstd(CCtx<'static>),
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Gzip(Compress),
}

/// What follows bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// More bytes: what was given may be held back.
    More,
    /// A pause: all that was given comes out.
    Pause,
    /// Nothing: the body ends.
    End,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Library::Zstd(_) => "Encoder(zstd)",
            Library::Brotli(_) => "Encoder(br)",
            Library::Gzip(_) => "Encoder(gzip)",
        })
    }
}

impl Encoder {
    /// For a body of this length, if it is known: a short one takes less memory.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Zstd => {
                let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
                context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).map_err(failed)?;
                context.set_parameter(CParameter::WindowLog(ZSTD_WINDOW)).map_err(failed)?;
                context.set_pledged_src_size(length).map_err(failed)?;
                Library::Zstd(context)
            }
            Coding::Brotli => {
                let mut state = Box::new(BrotliEncoderStateStruct::new(StandardAlloc::default()));
                // The least window is 10.
                let needed = length.map_or(BROTLI_WINDOW, |length| length.max(1).ilog2() + 1);
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, BROTLI_LEVEL);
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, needed.clamp(10, BROTLI_WINDOW));
                Library::Brotli(state)
            }
            Coding::Gzip => Library::Gzip(Compress::new_gzip(Compression::new(GZIP_LEVEL), GZIP_WINDOW)),
        }))
    }

    /// Takes bytes, and appends what comes out. After [`Follows::End`], it must not be called again.
    ///
    /// # Errors
    /// The library failed: the body cannot go on.
    pub(crate) fn step(&mut self, bytes: &[u8], then: Follows, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.0 {
            Library::Zstd(context) => zstd(context, bytes, then, out),
            Library::Brotli(state) => brotli(state, bytes, then, out),
            Library::Gzip(compress) => gzip(compress, bytes, then, out),
        }
    }
}

#[cold]
fn failed(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

fn zstd(context: &mut CCtx<'_>, bytes: &[u8], then: Follows, out: &mut Vec<u8>) -> io::Result<()> {
    let directive = match then {
        Follows::More => ZSTD_EndDirective::ZSTD_e_continue,
        Follows::Pause => ZSTD_EndDirective::ZSTD_e_flush,
        Follows::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(bytes);
    loop {
        out.reserve(ROOM);
        let at = out.len();
        let mut output = OutBuffer::around_pos(out, at);
        let left = context.compress_stream2(&mut output, &mut input, directive).map_err(failed)?;
        let is_taken = input.pos() == bytes.len();
        if is_taken && (then == Follows::More || left == 0) {
            return Ok(());
        }
    }
}

fn brotli(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    bytes: &[u8],
    then: Follows,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let operation = match then {
        Follows::More => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Follows::Pause => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Follows::End => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut used) = (bytes.len(), 0);
    loop {
        let (mut at, mut room) = (out.len(), ROOM);
        out.resize(at + room, 0);
        let went = state.compress_stream(
            operation,
            &mut left,
            bytes,
            &mut used,
            &mut room,
            out,
            &mut at,
            &mut None,
            &mut |_, _, _, _| {},
        );
        out.truncate(at);
        if !went {
            return Err(io::Error::other("brotli"));
        }
        if left == 0 && !state.has_more_output() && (then != Follows::End || state.is_finished()) {
            return Ok(());
        }
    }
}

fn gzip(compress: &mut Compress, bytes: &[u8], then: Follows, out: &mut Vec<u8>) -> io::Result<()> {
    let flush = match then {
        Follows::More => FlushCompress::None,
        Follows::Pause => FlushCompress::Sync,
        Follows::End => FlushCompress::Finish,
    };
    let mut rest = bytes;
    loop {
        out.reserve(ROOM);
        let before = compress.total_in();
        let status = compress.compress_vec(rest, out, flush)?;
        let used = usize::try_from(compress.total_in() - before).unwrap_or(rest.len());
        rest = &rest[used..];
        let is_over = if then == Follows::End { status == Status::StreamEnd } else { out.len() < out.capacity() };
        if rest.is_empty() && is_over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// What a reader has of the beginning of a body.
    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // The end is missing.
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut text),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut text),
            Coding::Zstd => {
                let (mut context, mut input) = (zstd_safe::DCtx::create(), InBuffer::around(coded));
                while input.pos() < coded.len() {
                    let at = text.len();
                    text.reserve(1 << 20);
                    context.decompress_stream(&mut OutBuffer::around_pos(&mut text, at), &mut input).unwrap();
                }
                Ok(0)
            }
        };
        text
    }

    /// Text, and bytes that cannot be compressed.
    fn sample(length: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            bytes.extend(format!("{{\"id\":{},\"name\":\"one of many\"}},", rng.u32(..)).bytes());
            let length = rng.usize(..64);
            bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(length));
        }
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn what_goes_in_comes_out() {
        for (coding, length) in ALL.into_iter().flat_map(|one| [0, 1, 1_000, 300_000].map(|length| (one, length))) {
            for told in [None, Some(length as u64)] {
                let (bytes, mut coded) = (sample(length), Vec::new());
                let mut encoder = Encoder::new(coding, told).unwrap();
                for piece in bytes.chunks(7_001) {
                    encoder.step(piece, Follows::More, &mut coded).unwrap();
                }
                encoder.step(&[], Follows::End, &mut coded).unwrap();
                assert!(decoded(coding, &coded) == bytes, "{coding:?} of {length} {told:?}");
                assert!(length < 1_000 || coded.len() < length * 9 / 10, "{coding:?}: {} of {length}", coded.len());
            }
        }
    }

    #[test]
    fn a_pause_brings_out_all_that_went_in() {
        for coding in ALL {
            let (bytes, mut coded, mut given) = (sample(200_000), Vec::new(), 0);
            let mut encoder = Encoder::new(coding, None).unwrap();
            for length in [1, 10, 100, 40_000, 3, 70_000] {
                let next = &bytes[given..given + length];
                given += length;
                encoder.step(next, Follows::Pause, &mut coded).unwrap();
                assert!(decoded(coding, &coded) == bytes[..given], "{coding:?} after {given}");
                let before = coded.len();
                encoder.step(&[], Follows::Pause, &mut coded).unwrap();
                assert!(coded.len() <= before + 16, "{coding:?} said {} for nothing", coded.len() - before);
            }
        }
    }
}
