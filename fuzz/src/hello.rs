//! A ClientHello reads the same in any pieces, and whatever follows it.

use pointsman_wire::{FirstBytes, HelloReader};

/// Any bytes as the first of a connection.
pub(crate) fn run(input: &[u8]) {
    let whole = HelloReader::default().read(input);
    let mut reader = HelloReader::default();
    let mut cuts = (0..=input.len()).map(|cut| (cut, reader.read(&input[..cut])));
    let (at, first) = cuts.find(|(_, read)| *read != Ok(None)).unwrap_or((input.len(), Ok(None)));
    assert_eq!(first, whole, "in pieces, at {at}");
    assert_eq!(HelloReader::default().read(&input[..at]), whole, "without what follows");
    if let Ok(Some(FirstBytes::Hello { name: Some(name) })) = &whole {
        assert!(name.len() <= 3 * 255 && !name.is_empty(), "{name}");
    }
}
