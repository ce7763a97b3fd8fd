//! The steps of a policy that change requests and answers, in words, in the order in which they are taken. Takes none.

use std::fmt::Display;

use crate::keys::is_secret;
use crate::policy::Policy;

/// `; redirect 301 https://www.shop.test{uri}`, each step behind its key.
pub(crate) fn steps(policy: &Policy) -> String {
    let cors = step("cors", policy.cors.as_ref());
    let asked = step("forward_auth", policy.forward_auth.as_ref());
    let id = if policy.request_id { "; request_id true" } else { "" }.to_owned();
    let redirect = step("redirect", policy.redirect.as_ref());
    let rewrite = step("rewrite", policy.rewrite.as_ref());
    let request = step("request_headers", policy.request_headers.as_ref());
    let response = step("response_headers", policy.response_headers.as_ref());
    let compress = step("compress", policy.compress.as_ref());
    [cors, redirect, asked, id, rewrite, request, response, compress].concat()
}

fn step(key: &str, value: Option<&impl Display>) -> String {
    match value.map(ToString::to_string) {
        None => String::new(),
        Some(value) if is_secret(key, &value) => format!("; {key} (secret)"),
        Some(value) => format!("; {key} {value}"),
    }
}
