//! Fuzzes the parsing of etcd v2's answers with arbitrary bytes.

use super::event::{Event, Refusal, listing};

/// Parses the input as each kind of answer.
pub(crate) fn fuzz(input: &[u8], prefix: &str) {
    if let Ok(event) = serde_json::from_slice::<Event>(input) {
        let _ = (event.index(), event.ttl(), event.change(prefix), event.into_node());
    }
    if let Ok(listing) = listing(input, prefix) {
        assert!(listing.entries.is_sorted());
    }
    let _ = serde_json::from_slice::<Refusal>(input);
}
