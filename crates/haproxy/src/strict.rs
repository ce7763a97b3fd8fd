//! Rules by which HAProxy refuses what the native engine refuses and HAProxy's parser accepts. Knows only messages.
//! Rules cannot see what the parser has already corrected: docs/engines.md lists it.

use pointsman_table::Config;

use super::frame::{MALFORMED, page, path};
use super::version::Version;

/// Control characters; a tab may stand in a value, and CR LF ends each line of `req.hdrs`. For PCRE.
const CONTROLS: &str = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]";

/// A host and a port up to 65535 (RFC 3986 §3.2.2), as an extended regular expression in single quotes.
const AUTHORITY: &str = concat!(
    r"(([-._~a-z0-9!$&'\''()*+,;=]|%[0-9a-f][0-9a-f])+|\[[0-9a-f:.]*:[0-9a-f:.]*\])",
    "(:(0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)?"
);

/// The rules for requests, before any of them is looked up.
///
/// `fc_http_major`: HTTP/2 has neither `Host` nor transfer codings of its own (RFC 9113 §8.2.2, §8.3.1).
pub(crate) fn requests(config: &Config, version: Version) -> String {
    let deny = format!("    http-request deny deny_status 400 errorfile {} if", path(MALFORMED));
    let controls = when(version.pcre, &format!("    acl malformed req.hdrs -m reg '{CONTROLS}'\n"));
    format!(
        r"    # RFC 9110, RFC 9112: what readers could understand in two ways
{controls}    acl malformed method,length gt 32
    acl malformed path -m sub \\
    acl malformed url -m sub \x7f
    acl malformed req.fhdr_cnt(host) gt 1
    acl malformed req.hdr(connection) -i host content-length transfer-encoding
    acl malformed req.hdr_cnt(connection) gt 32
    acl malformed req.hdr_names -m reg -i '(^|,)(content[^-a-z0-9,]length|transfer[^-a-z0-9,]encoding)(,|$)'
    acl malformed req.fhdr_cnt(expect) gt 1
    acl malformed url,length gt {most}
    acl malformed req.hdrs,length gt {most}
    acl http1 fc_http_major 1
{deny} malformed
{deny} http1 !{{ req.ver 1.0 1.1 }}
{deny} http1 {{ req.ver 1.1 }} !{{ req.fhdr_cnt(host) 1 }}
{deny} {{ req.fhdr_cnt(transfer-encoding) gt 0 }} {{ req.ver 1.0 }}
{deny} {{ req.fhdr_cnt(transfer-encoding) gt 0 }} !{{ req.fhdr(transfer-encoding) -i chunked }}
{deny} {{ req.fhdr_cnt(content-length) gt 0 }} !{{ req.fhdr(content-length) -m reg '^0*[0-9]{{1,18}}$' }}
{deny} {{ req.fhdr_cnt(expect) gt 0 }} !{{ req.fhdr(expect) -i 100-continue }}
{deny} {{ req.fhdr(host),length gt 0 }} !{{ req.fhdr(host) -m reg -i '^{AUTHORITY}$' }}
{deny} {{ url -m str * }} !METH_OPTIONS
{deny} !{{ url -m str * }} !{{ url_beg / }} !{{ url -m reg -i '^https?://{AUTHORITY}([/?]|$)' }}
",
        most = config.head_bytes,
    )
}

/// The rules for responses of instances.
pub(crate) fn responses(config: &Config, version: Version) -> String {
    let deny = format!("    http-response deny deny_status 502 errorfile {} if", path(&page(502)));
    let controls = when(version.pcre, &format!("{deny} {{ res.hdrs -m reg '{CONTROLS}' }}\n"));
    format!(
        "{controls}{deny} {{ status lt 100 }} or {{ status gt 599 }}
{deny} !{{ res.ver 1.0 1.1 }} !{{ var(txn.http2) -m bool }}
{deny} {{ res.hdr_cnt(connection) gt 32 }}
{deny} {{ res.hdrs,length gt {most} }}
{deny} {{ res.fhdr_cnt(transfer-encoding) gt 0 }} {{ res.ver 1.0 }}
{deny} {{ res.fhdr_cnt(transfer-encoding) gt 0 }} !{{ res.fhdr(transfer-encoding) -i chunked }}
{deny} {{ res.fhdr_cnt(content-length) gt 0 }} !{{ res.fhdr(content-length) -m reg '^0*[0-9]{{1,18}}$' }}
",
        most = config.head_bytes,
    )
}

fn when(is: bool, text: &str) -> String {
    if is { text.to_owned() } else { String::new() }
}
