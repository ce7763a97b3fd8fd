//! Fuzz targets for etcd's answers; only built for fuzzing and tests. No input may cause a panic.

use crate::{etcd2, etcd3};

/// An answer of etcd v2: an event, a listing or a refusal.
pub fn etcd2(input: &[u8]) {
    for prefix in ["", "/p", "/p/q"] {
        etcd2::fuzz(input, prefix);
    }
}

/// etcd v3 messages, each after one byte with its length: successive responses of a watch, and answers to calls.
pub fn etcd3(input: &[u8]) {
    let (mut messages, mut rest) = (Vec::new(), input);
    while let Some((length, after)) = rest.split_first() {
        let (message, after) = after.split_at(after.len().min((*length).into()));
        messages.push(message);
        rest = after;
    }
    etcd3::fuzz(&messages);
}

#[cfg(test)]
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
mod tests {
    use super::mutate::each;

    const MUTANTS: usize = 60_000;
    const ETCD2: &[&str] = &[
        r#"{"action":"get","node":{"key":"/p","dir":true,"nodes":[{"key":"/p/a","value":"1","modifiedIndex":7}]}}"#,
        r#"{"action":"set","node":{"key":"/p/q/a","value":"1","modifiedIndex":7,"ttl":-1},"prevNode":{"key":"/p/q/a"}}"#,
        r#"{"action":"expire","node":{"key":"/p","dir":true,"modifiedIndex":18446744073709551615}}"#,
        r#"{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"x","index":9}"#,
    ];

    #[test]
    fn etcd2() {
        let seeds: Vec<_> = ETCD2.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        each(&seeds, MUTANTS, super::etcd2);
    }

    #[test]
    fn etcd3() {
        each(&crate::etcd3::seeds(), MUTANTS, super::etcd3);
    }
}
