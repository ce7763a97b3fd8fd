//! Pages of other origins: the answer to a browser that asks first (a preflight), and the headers by which it lets a page
//! read an answer (Fetch §3.2). Decides from a head alone.

use pointsman_table::{Cors, OriginGrant};
use pointsman_wire::{HeaderEdits, RequestHead, is_token_list};

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
const ALLOW_CREDENTIALS: &str = "Access-Control-Allow-Credentials";
const ASKED_METHOD: &str = "Access-Control-Request-Method";
const ASKED_HEADERS: &str = "Access-Control-Request-Headers";
/// How long a browser may go without asking again, seconds.
const MAX_AGE: &[u8] = b"600";

/// Whether a browser asks what a page may do, before it sends the page's request, without credentials.
pub(super) fn is_preflight(head: &RequestHead<'_, '_>) -> bool {
    head.method == "OPTIONS" && head.header("origin").is_some() && head.header(ASKED_METHOD).is_some()
}

/// Changes an answer so that a browser lets the page read it, if it may; the instance's own words about that are left out.
pub(super) fn edit(cors: &Cors, head: &RequestHead<'_, '_>, edits: &mut HeaderEdits) {
    edits.remove(ALLOW_ORIGIN);
    edits.remove(ALLOW_CREDENTIALS);
    let origin = head.header("origin").and_then(|origin| str::from_utf8(origin).ok());
    let granted = origin.and_then(|origin| Some((origin, cors.grant(origin)?)));
    match granted {
        Some((_, OriginGrant::Any)) => edits.add(ALLOW_ORIGIN, b"*"),
        Some((origin, grant)) => {
            edits.add(ALLOW_ORIGIN, origin.as_bytes());
            if grant == OriginGrant::Exact {
                edits.add(ALLOW_CREDENTIALS, b"true");
            }
        }
        None => {}
    }
    if is_preflight(head) {
        edits.add("Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        if granted.is_some() {
            let asked = |name| head.header(name).filter(|value| is_token_list(value));
            asked(ASKED_METHOD).iter().for_each(|method| edits.add("Access-Control-Allow-Methods", method));
            asked(ASKED_HEADERS).iter().for_each(|names| edits.add("Access-Control-Allow-Headers", names));
            edits.add("Access-Control-Max-Age", MAX_AGE);
        }
    } else if !cors.is_uniform() {
        edits.add("Vary", b"Origin");
    }
}
