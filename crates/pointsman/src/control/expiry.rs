//! Which certificates have expired, soon will, or are not valid yet, and when that changes. Reads no clock.

use pointsman_table::{Cert, Problem, ProblemKind, Table};
use time::OffsetDateTime;

const DAY: i64 = 86_400;
/// A certificate is a problem for so long before it expires, in seconds.
const WARNING: i64 = 14 * DAY;
/// But at most for this part of its life: some live for less than two weeks.
const PART: i64 = 3;

/// The state of a table's certificates at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) problems: Vec<Problem>,
    /// When this changes next if the table stays the same, in seconds since the epoch.
    pub(crate) next: Option<i64>,
}

/// Judges all certificates. `now`: seconds since the epoch.
pub(crate) fn judge(table: &Table, now: i64) -> Expiry {
    let mut expiry = Expiry::default();
    for (name, cert) in table.certs() {
        let problems = problem(cert, now).into_iter().chain(staple_problem(cert, now));
        let of_cert =
            |(kind, advice): (_, String)| table.tree_problem(kind, &format!("certs/{name}"), advice.into_boxed_str());
        expiry.problems.extend(problems.map(of_cert));
        let staple = cert.staple.as_ref().map(|staple| staple.until + 1);
        let ahead = turns(cert).into_iter().chain(staple).filter(|turn| *turn > now);
        expiry.next = ahead.chain(expiry.next).min();
    }
    expiry
}

/// The certificate that expires first, and when.
pub(crate) fn first(table: &Table) -> Option<(&str, i64)> {
    let each = table.certs().iter().map(|(name, cert)| (name, cert.not_after));
    each.min_by_key(|(_, expires)| *expires)
}

/// The seconds at which a certificate becomes valid, is about to expire, and has expired.
fn turns(cert: &Cert) -> [i64; 3] {
    let life = cert.not_after.saturating_sub(cert.not_before);
    [cert.not_before, cert.not_after - WARNING.min(life / PART), cert.not_after + 1]
}

fn problem(cert: &Cert, now: i64) -> Option<(ProblemKind, String)> {
    let [valid, soon, expired] = turns(cert);
    // Most are valid, and there may be thousands: nothing is formatted for them.
    if (valid..soon).contains(&now) {
        return None;
    }
    let (from, until) = (utc(cert.not_before), utc(cert.not_after));
    if now >= expired {
        let advice = format!("the certificate expired on {until}, and clients refuse it; replace it");
        return Some((ProblemKind::NotValid, advice));
    }
    if now < valid {
        let advice = format!(
            "the certificate is not valid before {from}, and clients refuse it; use it from then on, or set the clock"
        );
        return Some((ProblemKind::NotValid, advice));
    }
    (now >= soon).then(|| (ProblemKind::ExpiresSoon, format!("the certificate expires on {until}; replace it before")))
}

fn staple_problem(cert: &Cert, now: i64) -> Option<(ProblemKind, String)> {
    let staple = cert.staple.as_ref().filter(|staple| staple.until < now)?;
    let until = utc(staple.until);
    let advice = format!("its OCSP response counted until {until}, and is no longer sent; put a new one beside it");
    Some((ProblemKind::NotValid, advice))
}

/// A moment in seconds since the epoch, for people: `2026-12-01 09:30 UTC`. One beyond the year 9999 is that number.
pub(crate) fn utc(seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(moment) => format!("{} {:02}:{:02} UTC", moment.date(), moment.hour(), moment.minute()),
        Err(_) => seconds.to_string(),
    }
}

/// Its day: `2026-12-01`.
pub(crate) fn day(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds);
    moment.map_or_else(|_| seconds.to_string(), |moment| moment.date().to_string())
}

#[cfg(test)]
mod tests {
    use pointsman_table::Staple;

    use super::*;

    #[test]
    fn moments() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_208_000, "2024-02-29 12:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    /// Such a certificate at a day and a second more.
    #[track_caller]
    fn check(until: i64, (day, second): (i64, i64), expected: &str, next: Option<i64>) {
        let cert = valid_until(until);
        let now = day * DAY + second;
        let said = problem(&cert, now).map(|(kind, advice)| format!("{kind}: {advice}")).unwrap_or_default();
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{said} is not {expected}");
        assert_eq!(turns(&cert).into_iter().filter(|turn| *turn > now).min(), next);
    }

    #[test]
    fn an_ocsp_response_expires() {
        let staple = Some(Staple { der: [].into(), until: DAY });
        let cert = Cert { staple, ..valid_until(200) };
        assert_eq!(staple_problem(&cert, DAY), None);
        let (kind, advice) = staple_problem(&cert, DAY + 1).unwrap();
        assert_eq!(kind, ProblemKind::NotValid);
        assert!(advice.starts_with("its OCSP response counted until 1970-01-02 00:00 UTC"), "{advice}");
    }

    /// A certificate that is valid from day 100 to day `until`.
    fn valid_until(until: i64) -> Cert {
        Cert {
            pem: "".into(),
            names: Box::default(),
            not_before: 100 * DAY,
            not_after: until * DAY,
            serial: Box::default(),
            has_issuer: false,
            staple: None,
        }
    }

    #[test]
    fn a_certificate_through_its_life() {
        let (valid, soon, expired) = (100 * DAY, 186 * DAY, 200 * DAY + 1);
        check(200, (99, 0), "not valid: the certificate is not valid before 1970-04-11 00:00 UTC", Some(valid));
        check(200, (100, 0), "", Some(soon));
        check(200, (186, -1), "", Some(soon));
        check(200, (186, 0), "expires soon: the certificate expires on 1970-07-20 00:00 UTC; replace", Some(expired));
        check(200, (200, 0), "expires soon", Some(expired));
        check(200, (200, 1), "not valid: the certificate expired on 1970-07-20 00:00 UTC", None);
        // A life of six days: two days of them.
        check(106, (104, -1), "", Some(104 * DAY));
        check(106, (104, 0), "expires soon", Some(106 * DAY + 1));
    }
}
