//! Reads the rows of `requests.txt`, `responses.txt`, `http2.txt` and `proxy.txt`. Tests of several crates share it through `#[path]`.

/// One message and its expected outcome.
#[derive(Debug)]
pub(crate) struct Row {
    /// The row's name in test failures.
    pub(crate) name: String,
    /// The method of the request that a response answers; empty for all else.
    pub(crate) method: String,
    /// The expected outcome; the head of the file lists the terms.
    pub(crate) expected: String,
    /// The message.
    pub(crate) bytes: Vec<u8>,
}

/// The rows of requests: `name expected bytes`.
pub(crate) fn requests() -> Vec<Row> {
    without_method(include_str!("requests.txt"))
}

/// Rows of `name expected bytes`.
pub(crate) fn without_method(text: &str) -> Vec<Row> {
    lines(text)
        .map(|line| {
            let [name, expected, bytes] = words(line);
            row(name, "", expected, bytes)
        })
        .collect()
}

/// The rows of responses: `name method expected bytes`.
pub(crate) fn responses() -> Vec<Row> {
    lines(include_str!("responses.txt"))
        .map(|line| {
            let [name, method, expected, bytes] = words(line);
            row(name, method, expected, bytes)
        })
        .collect()
}

fn row(name: &str, method: &str, expected: &str, bytes: &str) -> Row {
    Row { name: name.into(), method: method.into(), expected: expected.into(), bytes: unescape(bytes) }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The words of a line; the last word takes the rest, spaces included.
fn words<const N: usize>(line: &str) -> [&str; N] {
    let words: Vec<_> = line.splitn(N, ' ').collect();
    words.try_into().unwrap_or_else(|_| panic!("not {N} words: {line}"))
}

/// `\r \n \t \0 \s \\`, `\xNN`, and `\{COUNT:TEXT}` for TEXT repeated COUNT times; other characters stand for
/// themselves.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = &escape[1..];
        match escape.as_bytes()[0] {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b's' => bytes.push(b' '),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hex digits"));
                rest = &rest[2..];
            }
            b'{' => {
                let (repeat, after) = rest.split_once('}').expect("a closing brace");
                let (count, text) = repeat.split_once(':').expect("COUNT:TEXT");
                bytes.extend(unescape(text).repeat(count.parse().expect("a count")));
                rest = after;
            }
            other => panic!("unknown escape \\{}", char::from(other)),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
