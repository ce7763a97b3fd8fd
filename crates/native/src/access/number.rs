//! Numbers and addresses in decimal. They are most of a line, so they are written without the standard formatter, which
//! costs several times as much.

use std::io::Write as _;
use std::net::IpAddr;

/// Writes a number.
pub(super) fn push(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a number below 100 with two digits.
pub(super) fn push_two(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[tens(number), ones(number)]);
}

/// Writes a number below 1,000 with three digits.
pub(super) fn push_three(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[ones(number / 100), tens(number), ones(number)]);
}

/// Writes an address without a port.
pub(super) fn push_ip(ip: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(ip) = ip else {
        // A vector takes all.
        let _ = write!(out, "{ip}");
        return;
    };
    let [first, rest @ ..] = ip.octets();
    push(first, out);
    for octet in rest {
        out.push(b'.');
        push(octet, out);
    }
}

fn tens(number: u64) -> u8 {
    ones(number / 10)
}

fn ones(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_formatter_writes_them() {
        for ip in ["0.0.0.0", "127.0.0.1", "203.0.113.255", "::1", "2001:db8::7"] {
            let mut out = Vec::new();
            push_ip(ip.parse().unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), ip);
        }
        for number in [0, 7, 10, 99] {
            let mut out = Vec::new();
            push(number, &mut out);
            push_two(number, &mut out);
            push_three(number * 9, &mut out);
            let expected = format!("{number}{number:02}{:03}", number * 9);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
