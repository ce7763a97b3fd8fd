//! Bytes from clients, written so that they break no line, no field and no terminal. Every format has its own way.

use std::io::Write as _;

use pointsman_table::plain_name;

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

fn push_hex(byte: u8, digits: &[u8; 16], out: &mut Vec<u8>) {
    out.extend([digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// As HAProxy writes a request line: `"`, `#` and what is not printable as `#XX` (`url_encode_map` in its `log.c`).
pub(super) fn haproxy(bytes: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| is_printable(*byte) && !matches!(byte, b'"' | b'#');
    if bytes.iter().all(is_plain) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match is_plain(byte) {
            true => out.push(*byte),
            false => {
                out.push(b'#');
                push_hex(*byte, UPPER, out);
            }
        }
    }
}

/// A name of a service or an instance, as the HAProxy engine has it: [`plain_name`].
pub(super) fn name(name: &str, out: &mut Vec<u8>) {
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')) {
        true => out.extend_from_slice(name.as_bytes()),
        false => out.extend_from_slice(plain_name(name).as_bytes()),
    }
}

/// As Apache does: `\"`, `\\`, `\n` and the like, and `\xhh` for what is not printable (`ap_escape_logitem`).
pub(super) fn apache(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            _ if is_printable(*byte) => out.push(*byte),
            _ => {
                out.extend(b"\\x");
                push_hex(*byte, LOWER, out);
            }
        }
    }
}

/// The inside of a JSON string (RFC 8259 §7), in ASCII. What is not UTF-8 becomes U+FFFD.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => out.extend([b'\\', letter as u8]),
                ' '..='~' => out.push(letter as u8),
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        // A vector takes all.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_escapes_in_its_own_way() {
        let check = |escape: fn(&[u8], &mut Vec<u8>), expected: &str| {
            let mut out = Vec::new();
            escape(b"/a?b=\"c#\\\x1b[2J\r\n\x7f\xc3\xa9\xff\xf0\x9f\x98\x80", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(haproxy, "/a?b=#22c#23\\#1B[2J#0D#0A#7F#C3#A9#FF#F0#9F#98#80");
        check(apache, r#"/a?b=\"c#\\\x1b[2J\r\n\x7f\xc3\xa9\xff\xf0\x9f\x98\x80"#);
        check(json, r#"/a?b=\"c#\\\u001b[2J\u000d\u000a\u007f\u00e9\ufffd\ud83d\ude00"#);
    }
}
