//! Certificates in the environment, as Kontena's load balancer took them: `SSL_CERTS`, with one or several, and each
//! `SSL_CERT_<NAME>`; and answers to authorities, `ACME_CHALLENGE_<NAME>`. Judges none.

use std::sync::Arc;

use pointsman_table::{Answers, OuterCert};

use super::choice::Environment;

const ALL: &str = "SSL_CERTS";
const ONE: &str = "SSL_CERT_";
const ANSWER: &str = "ACME_CHALLENGE_";
/// Variables of OpenSSL, which hold paths.
const FOREIGN: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// The end of a private key's block, of whatever kind.
const KEY_END: &str = "PRIVATE KEY-----";

/// `SSL_CERTS-1`, `SSL_CERTS-2` and so on, then the others in the order of their names, in lower case.
pub(super) fn certificates(environment: &Environment) -> Arc<[OuterCert]> {
    let all = environment.get(ALL).map(|text| plain(text)).unwrap_or_default();
    let all = (1..).zip(each(&all)).map(|(number, pem)| cert(format!("{ALL}-{number}"), ALL, pem));
    let is_one = |(name, value): &(&String, &String)| {
        name.starts_with(ONE) && !FOREIGN.contains(&name.as_str()) && !value.trim().is_empty()
    };
    let ones = environment.iter().filter(is_one);
    all.chain(ones.map(|(name, value)| cert(name.to_ascii_lowercase(), name, &plain(value)))).collect()
}

/// The answers to authorities that Kontena asks for certificates: each value is one, and begins with its token.
pub(super) fn answers(environment: &Environment) -> Arc<Answers> {
    let values = environment.iter().filter(|(name, _)| name.starts_with(ANSWER)).map(|(_, value)| value.trim());
    let answer = |value: &str| value.split_once('.').map(|(token, _)| (token.into(), value.into()));
    Arc::new(Answers { bodies: values.filter_map(answer).collect(), ..Answers::default() })
}

fn cert(name: String, variable: &str, pem: &str) -> OuterCert {
    OuterCert { name: name.into(), origin: variable.into(), pem: Ok(pem.as_bytes().into()), staple: None }
}

/// A file of variables cannot hold line breaks: they are written as `\n`. PEM has no other backslash.
fn plain(text: &str) -> String {
    text.replace("\\n", "\n")
}

/// Each certificate ends with its key. Commas and white space stand between them.
fn each(text: &str) -> Vec<&str> {
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let mut rest = text.trim_matches(is_between);
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        let (one, more) = rest.split_at(key_end(rest));
        certificates.push(one);
        rest = more.trim_matches(is_between);
    }
    certificates
}

/// Where the first private key ends; the end of the text if it has none.
fn key_end(text: &str) -> usize {
    let ends = text.match_indices("-----END ");
    let mut keys = ends.filter_map(|(at, lead)| {
        let label = &text[at + lead.len()..];
        let end = label.find("-----")?;
        label[..end + 5].ends_with(KEY_END).then_some(at + lead.len() + end + 5)
    });
    keys.next().unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: &[&str]) {
        // `C` stands for a certificate, `K` and `E` for keys.
        let block = |label: &str| format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----");
        let text = |short: &str| {
            let long = short.replace('C', "<1>").replace('K', "<2>").replace('E', "<3>");
            let long = long.replace("<1>", &block("CERTIFICATE")).replace("<2>", &block("PRIVATE KEY"));
            long.replace("<3>", &block("EC PRIVATE KEY"))
        };
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let found = certificates(&environment);
        let found: Vec<_> = found
            .iter()
            .map(|cert| {
                let pem = cert.pem.clone().unwrap();
                let blocks = String::from_utf8_lossy(&pem).matches("-----BEGIN").count();
                format!("{} of {}: {blocks}", cert.name, cert.origin)
            })
            .collect();
        assert_eq!(found, expected, "{variables:?}");
    }

    #[test]
    fn variables_are_taken_apart() {
        check(&[], &[]);
        check(&[("SSL_CERTS", " "), ("SSL_CERT_A", "")], &[]);
        check(&[("SSL_CERTS", "C\nK\n")], &["SSL_CERTS-1 of SSL_CERTS: 2"]);
        let three = ["SSL_CERTS-1 of SSL_CERTS: 2", "SSL_CERTS-2 of SSL_CERTS: 3", "SSL_CERTS-3 of SSL_CERTS: 2"];
        for text in ["C\nK,C\nC\nE,C\nK", "C\nK\nC\nC\nE\n\nC\nK\n", "CKCCECK", "C\\nK\\n,C\\nC\\nE,\\nC\\nK\\n"] {
            check(&[("SSL_CERTS", text)], &three);
        }
        check(&[("SSL_CERTS", "CK,C")], &["SSL_CERTS-1 of SSL_CERTS: 2", "SSL_CERTS-2 of SSL_CERTS: 1"]);
        check(&[("SSL_CERTS", "/a/path")], &["SSL_CERTS-1 of SSL_CERTS: 0"]);
        check(
            &[
                ("SSL_CERT_WWW", "C\nK"),
                ("SSL_CERT_SHOP", "C\nK"),
                ("SSL_CERT_FILE", "/etc/ssl"),
                ("SSL_CERT_DIR", "/etc"),
            ],
            &["ssl_cert_shop of SSL_CERT_SHOP: 2", "ssl_cert_www of SSL_CERT_WWW: 2"],
        );
    }
}
