//! Bodies between two buffers: decoded from one side's framing, encoded into the other's. Never waits.

use pointsman_wire::{BadBody, BodyReader, BodyWriter, Step};

use crate::net::buffer::Input;

/// How far a body has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// All of it has been taken.
    Done,
    /// More input is needed.
    More,
    /// The output is full.
    Full,
}

/// Takes body bytes from `input` and appends them to `output` until either is exhausted. Must not be called after
/// `Done`.
pub(crate) fn transcode(
    reader: &mut BodyReader,
    writer: &BodyWriter,
    input: &mut Input,
    output: &mut Vec<u8>,
    room: usize,
) -> Result<Moved, BadBody> {
    while output.len() < room {
        let (used, moved) = match reader.step(input.unread())? {
            Step::Data { bytes, used } => {
                writer.data(bytes, output);
                (used, None)
            }
            Step::More { used } => (used, Some(Moved::More)),
            Step::End { used, trailers } => {
                writer.end(&trailers, output);
                (used, Some(Moved::Done))
            }
        };
        input.consume(used);
        if let Some(moved) = moved {
            return Ok(moved);
        }
    }
    Ok(Moved::Full)
}
