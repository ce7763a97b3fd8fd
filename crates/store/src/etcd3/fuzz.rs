//! Fuzzes the parsing of etcd v3's messages with arbitrary bytes.

use prost::Message;

use super::keys::Folder;
use super::list::Position;
use super::messages::{RangeResponse, TxnResponse, WatchResponse};
use super::watch::{Step, Watching};

/// The revision at which the watch begins.
const LISTED: u64 = 5;

/// Parses the messages as the responses of one watch, and each as the answer to a call. The watch must not repeat
/// listed revisions.
pub(crate) fn fuzz(messages: &[&[u8]]) {
    let mut watching = Watching::new(Folder::new("/p"), Position { cluster: 1, revision: LISTED });
    for response in messages.iter().filter_map(|message| WatchResponse::decode(*message).ok()) {
        let (next, step) = watching.step(response);
        watching = next;
        if let Step::Changes(revisions) = step {
            assert!(revisions.iter().all(|revision| revision.number > LISTED), "{revisions:?}");
        }
        assert!(watching.seen.revision >= LISTED, "{watching:?}");
    }
    for message in messages {
        if let Ok(answer) = RangeResponse::decode(*message) {
            let folder = Folder::new("/p");
            answer.kvs.iter().for_each(|kv| drop(folder.relative(&kv.key)));
        }
        let _ = TxnResponse::decode(*message);
    }
}

/// Responses that etcd could send to a watch.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    use super::messages::{EventKind, KeyValue, ResponseHeader, WatchEvent};

    let header = |revision| Some(ResponseHeader { cluster_id: 1, revision });
    let event = |kind: EventKind, mod_revision| {
        let kv = KeyValue { key: b"/p/a".into(), value: b"x".into(), mod_revision, ..KeyValue::default() };
        WatchEvent { kind: kind.into(), kv: Some(kv), prev_kv: None }
    };
    let created = WatchResponse { header: header(5), created: true, ..WatchResponse::default() };
    let put = WatchResponse { header: header(6), events: vec![event(EventKind::Put, 6)], ..WatchResponse::default() };
    let part =
        WatchResponse { header: header(7), fragment: true, events: vec![event(EventKind::Put, 7)], ..put.clone() };
    let gone =
        WatchResponse { header: header(8), events: vec![event(EventKind::Delete, 7)], ..WatchResponse::default() };
    let end =
        WatchResponse { canceled: true, compact_revision: 9, cancel_reason: "x".into(), ..WatchResponse::default() };
    let framed = |response: &WatchResponse| {
        let bytes = response.encode_to_vec();
        [vec![u8::try_from(bytes.len()).expect("short")], bytes].concat()
    };
    let watches: [&[&WatchResponse]; 3] = [&[&created, &put, &part, &gone], &[&part, &part, &end], &[&created, &end]];
    watches.iter().map(|watch| watch.iter().flat_map(|response| framed(response)).collect()).collect()
}
