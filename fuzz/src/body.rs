//! A chunked body gives the same data whole and byte by byte, and a rewritten body reads back the same.

use pointsman_wire::{BadBody, BodyLength, BodyReader, BodyWriter, Step};

const HEAD_BYTES: usize = 1024;

/// The data, and the rewritten body if the input was complete.
fn read(input: &[u8], step: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), BadBody> {
    let (mut reader, writer) = (BodyReader::new(BodyLength::Chunked, HEAD_BYTES), BodyWriter::new(BodyLength::Chunked));
    let (mut data, mut out, mut taken, mut end) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        match reader.step(&input[taken..end])? {
            Step::Data { bytes, used } => {
                data.extend_from_slice(bytes);
                writer.data(bytes, &mut out);
                taken += used;
            }
            Step::More { .. } if end == input.len() => return Ok((data, None)),
            Step::More { used } => {
                taken += used;
                end = input.len().min(end.saturating_add(step));
            }
            Step::End { trailers, .. } => {
                writer.end(&trailers, &mut out);
                return Ok((data, Some(out)));
            }
        }
    }
}

/// Any bytes as a chunked body.
pub(crate) fn run(input: &[u8]) {
    let whole = read(input, usize::MAX);
    let parts = read(input, 1);
    let (Ok((data, Some(written))), Ok((same, Some(_)))) = (whole, parts) else {
        return;
    };
    assert_eq!(data, same);
    // Trailers are rewritten with standard spacing and may become a little longer.
    if let Ok((again, end)) = read(&written, usize::MAX) {
        assert!(end.is_some());
        assert_eq!(data, again);
    }
}
