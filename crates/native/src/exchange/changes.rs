//! What the policy of a service changes in a request and in its answer: another address, another path, other headers. Never
//! sends.

use std::rc::Rc;

use pointsman_table::{HeaderLines, HeaderVerb, Policy, Redirect, Rewrite, host_name};
use pointsman_wire::{BadRequest, HeaderEdits, RequestEdits};

use super::cors;
use super::filled::Filling;
use super::reach::path;
use crate::access::REQUEST_ID;
use crate::fault::Fault;

/// Where a redirect leads a request. `None`: onto itself, or nowhere; it is not made then.
pub(super) fn redirected(redirect: &Redirect, filling: &Filling<'_>) -> Result<Option<Box<str>>, Fault> {
    let target = filling.address(&redirect.target);
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        // Two slashes would lead to another host.
        let target = format!("/{}", target.trim_start_matches(['/', '\\']));
        return Ok((target != own_target(filling)).then(|| target.into()));
    };
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return Err(Fault::BadRequest(BadRequest::NoHost));
    }
    Ok((!is_itself(&target, filling)).then(|| target.into()))
}

/// Whether an address is the one that the request asked for.
fn is_itself(target: &str, filling: &Filling<'_>) -> bool {
    let target = target.split('#').next().unwrap_or_default();
    let (scheme, rest) = target.split_once("://").unwrap_or_default();
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let usual = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual);
    let target = if target.is_empty() { "/" } else { target };
    scheme.eq_ignore_ascii_case(filling.scheme())
        && host_name(authority) == host_name(filling.host())
        && port == filling.port()
        && target == own_target(filling)
}

/// `OPTIONS *` asks about the whole server.
fn own_target<'f>(filling: &'f Filling<'_>) -> &'f str {
    if filling.target() == "*" { "/" } else { filling.target() }
}

/// The changes to the request. `strip`: how much of its target is taken off before. `None`: none.
pub(super) fn of_request(
    policy: &Policy,
    filling: &Filling<'_>,
    strip: usize,
) -> Result<Option<Box<RequestEdits>>, Fault> {
    let mut edits = RequestEdits::default();
    if let Some(rewrite) = &policy.rewrite {
        edits.target = rewritten(rewrite, filling, strip)?;
    }
    if policy.request_id {
        edits.headers.replace(REQUEST_ID, filling.request_id.as_bytes());
    }
    if let Some(lines) = &policy.request_headers {
        edit(lines, filling, &mut edits.headers);
        edits.host = edits.headers.take("host");
        edits.headers.fill_instance("");
    }
    let is_none = edits.target.is_none() && edits.host.is_none() && edits.headers.is_empty();
    Ok((!is_none).then(|| Box::new(edits)))
}

/// The new target. `None`: no line matches its path.
fn rewritten(rewrite: &Rewrite, filling: &Filling<'_>, strip: usize) -> Result<Option<Box<str>>, Fault> {
    let target = filling.target().get(strip..).unwrap_or_default();
    if target == "*" {
        return Ok(None);
    }
    let slashed;
    let target = match target.starts_with('/') {
        true => target,
        false => {
            slashed = format!("/{target}");
            &slashed
        }
    };
    let path = path(target);
    let Some(found) = rewrite.find(path).map_err(|_| Fault::TargetTooLong)? else { return Ok(None) };
    let begin = Filling { groups: &found.groups, ..*filling }.address(found.replacement);
    let slash = if begin.starts_with('/') { "" } else { "/" };
    Ok(Some([slash, &begin, found.rest, &target[path.len()..]].concat().into()))
}

/// The changes to the answer, with those of `base`. `None`: none.
pub(super) fn of_answer(
    policy: &Policy,
    filling: &Filling<'_>,
    base: Option<&Rc<HeaderEdits>>,
) -> Option<Rc<HeaderEdits>> {
    // With `compress`, there may be changes once the answer is known.
    let is_compressed = policy.compress.is_some();
    if policy.response_headers.is_none() && policy.cors.is_none() && !policy.request_id && !is_compressed {
        return base.cloned();
    }
    let mut edits = base.map(|base| (**base).clone()).unwrap_or_default();
    if let (Some(cors), Some(head)) = (&policy.cors, filling.head) {
        cors::edit(cors, head, &mut edits);
    }
    if policy.request_id {
        edits.replace(REQUEST_ID, filling.request_id.as_bytes());
    }
    if let Some(lines) = &policy.response_headers {
        edit(lines, filling, &mut edits);
    }
    Some(Rc::new(edits))
}

fn edit(lines: &HeaderLines, filling: &Filling<'_>, edits: &mut HeaderEdits) {
    for line in lines.lines() {
        match &line.verb {
            HeaderVerb::Set(text) => edits.replace(&line.name, &filling.header(text)),
            HeaderVerb::Add(text) => edits.add(&line.name, &filling.header(text)),
            HeaderVerb::Remove => edits.remove(&line.name),
        }
    }
}
